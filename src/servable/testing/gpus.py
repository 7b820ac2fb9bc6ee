"""GPUs that are not there, for what counts their memory."""

from servable.artifact.manifest import Variant
from servable.frameworks.accelerators import DeviceMemory
from servable.frameworks.devices import PROCESSOR
from servable.runtime.accelerator import device_of


class FakeGpus:
    """A machine with GPUs of a size.

    Args:
        total: bytes of each; 0: nothing is known of them.
        used: bytes of each that are taken.
    """

    def __init__(self, total: int, used: int = 0) -> None:
        self.total = total
        self.used = used

    def wanted(self, variant: Variant, device: str) -> str:
        """Every variant runs on a GPU, unless the processor was asked for."""
        return PROCESSOR if device == PROCESSOR else device_of(device)

    def memory(self, device: str) -> DeviceMemory | None:
        """The same of each."""
        return DeviceMemory(self.total, self.used) if self.total and device != PROCESSOR else None
