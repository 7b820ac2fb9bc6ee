"""What computes a model: the words for devices. Needs no library of any framework."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.artifact.manifest import Variant
from servable.frameworks.base import DEVICE, Predictor

#: Formats of variants that can be computed on GPUs.
ON_GPUS = frozenset({"onnx", "torch", "transformers"})
#: Formats whose library starts a thread for each core by itself.
THREADED = frozenset({"keras", "openvino", "tensorflow", "torch", "transformers"})
#: The fastest thing that is there.
AUTO = "auto"
PROCESSOR = "cpu"
FORMS = "auto, cpu, cuda or cuda:1"
_CUDA = re.compile(r"cuda(?::(\d{1,3}))?")


class Placed(NamedTuple):
    """What computes a model.

    Attributes:
        device: ``cpu``, ``cuda:0`` ...
        note: one sentence without a full stop when that is not where it should; else empty.
    """

    device: str
    note: str = ""


def may_use_gpu(device: str) -> bool:
    """Whether a wish for a device may lead to a GPU of this machine. Looks at the machine."""
    return device != PROCESSOR and Path("/dev/nvidiactl").exists()


def on_device(variant: Variant, device: str) -> Variant:
    """The variant as it is to be loaded there."""
    return msgspec.structs.replace(variant, options={**variant.options, DEVICE: device})


def placed_of(predictor: Predictor) -> Placed:
    """Where a predictor runs; those that say nothing run on the processor."""
    return Placed(str(getattr(predictor, "device", PROCESSOR)), str(getattr(predictor, "device_note", "")))


def is_device(text: str) -> bool:
    """Whether a text is one of the words for devices."""
    return text in (AUTO, PROCESSOR) or _CUDA.fullmatch(text) is not None


def wanted(options: Mapping[str, Any]) -> str:
    """On what a variant should run, from the options that it is loaded with."""
    text = options.get(DEVICE)
    return text if isinstance(text, str) and is_device(text) else AUTO


def settle(wish: str, gpus: int, why_none: str) -> Placed:
    """The device for a wish.

    Args:
        wish: ``auto cpu cuda cuda:1``.
        gpus: how many there are for this framework.
        why_none: why there are none, for the sentence, such as ``PyTorch sees no GPU``.
    """
    found = _CUDA.fullmatch(wish)
    if found is None:
        return Placed("cuda:0" if wish == AUTO and gpus else PROCESSOR)
    number = int(found.group(1) or 0)
    if number < gpus:
        return Placed(f"cuda:{number}")
    reason = f"there are {gpus} GPUs, counted from 0" if gpus else why_none
    return Placed(PROCESSOR, f"it should run on {wish} and runs on the processor, because {reason}")


def gpu_number(device: str) -> int | None:
    """The number of a GPU; None for the processor."""
    found = _CUDA.fullmatch(device)
    return None if found is None else int(found.group(1) or 0)
