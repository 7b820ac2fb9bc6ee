"""What the GPUs of this machine hold, as their driver says.

Asked through the driver's own library for watching (NVML): no framework is needed, nothing is allocated on a
GPU, and the figures are those of all processes together. Where there is no such library nothing is known.
GPUs are counted as CUDA counts them, from 0 and only those that ``CUDA_VISIBLE_DEVICES`` shows; on a machine
with unlike GPUs this needs ``CUDA_DEVICE_ORDER=PCI_BUS_ID``, because the driver counts by place.

Safe to call from any thread.
"""

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from servable.frameworks.base import Predictor
from servable.frameworks.devices import gpu_number, placed_of

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LIBRARY = "libnvidia-ml.so.1"


class DeviceMemory(NamedTuple):
    """Memory of a GPU in bytes, all processes together."""

    total: int
    used: int


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def visible(number: int, environment: Mapping[str, str]) -> str | int | None:
    """What the driver calls a GPU; pure.

    Args:
        number: as CUDA counts.
        environment: of the process.

    Returns:
        Its place or its UUID; None when CUDA is shown no such GPU.
    """
    shown = environment.get(_VISIBLE)
    if shown is None:
        return number
    words: list[str] = []
    for word in shown.split(","):
        # As CUDA does it: the first that is none ends the list.
        if not word.strip() or word.strip() == "-1":
            break
        words.append(word.strip())
    if number >= len(words):
        return None
    word = words[number]
    return int(word) if word.isdecimal() else word


def memory_of(number: int) -> DeviceMemory | None:
    """The memory of a GPU; None where nothing is known of it.

    Args:
        number: as CUDA counts.
    """
    name, library = visible(number, os.environ), _library()
    if name is None or library is None:
        return None
    handle = ctypes.c_void_p()
    if isinstance(name, int):
        failed = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(name), ctypes.byref(handle))
    else:
        failed = library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
    memory = _Memory()
    if failed or library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
        return None
    return DeviceMemory(int(memory.total), int(memory.used))


@cache
def _library() -> Any:
    """The driver's library, ready; None where there is none."""
    try:
        library = ctypes.CDLL(_LIBRARY)
        return None if library.nvmlInit_v2() else library
    except (OSError, AttributeError):
        return None


class Before:
    """What the GPUs held before a model was loaded, to tell what it took."""

    def __init__(self) -> None:
        self._used: list[int] = []
        while (memory := memory_of(len(self._used))) is not None:
            self._used.append(memory.used)

    def taken(self, predictor: Predictor) -> int:
        """Bytes of its GPU that a model took since then; 0 on the processor.

        The driver's state for the process is part of it, where the model is the first there. What other
        processes took meanwhile cannot be told apart, so of two that load at once each may be thought larger.
        A predictor that knows what it holds says so in ``accelerator_bytes``, which is the least.
        """
        number = gpu_number(placed_of(predictor).device)
        if number is None:
            return 0
        own = int(getattr(predictor, "accelerator_bytes", 0))
        memory = memory_of(number) if number < len(self._used) else None
        return max(own, memory.used - self._used[number]) if memory is not None else own
