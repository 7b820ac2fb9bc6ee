"""The GPUs of this machine as whoever counts their memory sees them; a test puts others in their place."""

from typing import Protocol

from servable.artifact.manifest import Variant
from servable.frameworks.accelerators import DeviceMemory, memory_of
from servable.frameworks.devices import PROCESSOR, gpu_number
from servable.runtime.accelerator import device_of
from servable.runtime.placement import on_gpu


class Gpus(Protocol):
    """What is known of GPUs before a model is loaded."""

    def wanted(self, variant: Variant, device: str) -> str:
        """The GPU that a variant would run on, such as ``cuda:0``; ``cpu`` when it will not.

        Args:
            variant: to be loaded.
            device: what should compute it: ``auto cpu cuda cuda:1``.
        """
        ...

    def memory(self, device: str) -> DeviceMemory | None:
        """The memory of a GPU such as ``cuda:0``; None where nothing is known of it."""
        ...


class MachineGpus:
    """Those of this machine."""

    def wanted(self, variant: Variant, device: str) -> str:
        """See ``Gpus``."""
        return device_of(device) if on_gpu(variant, device) else PROCESSOR

    def memory(self, device: str) -> DeviceMemory | None:
        """See ``Gpus``."""
        number = gpu_number(device)
        return None if number is None else memory_of(number)
