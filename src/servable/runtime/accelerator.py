"""What stays on a GPU under a budget: pure decisions over plain values, see ``memory`` for who makes room."""

from collections.abc import Collection, Hashable
from typing import NamedTuple

from servable.frameworks.accelerators import DeviceMemory
from servable.frameworks.devices import AUTO, PROCESSOR
from servable.runtime.memory import Resident, make_room

#: Of a GPU without a budget so much stays free, for what models take beyond what loading them took: a
#: twentieth, and no less than this.
_LEAST_RESERVE = 512 * 1024**2
_RESERVE_SHARE = 20
_GIB = 1024**3


class Seat(NamedTuple):
    """Where a model goes.

    Attributes:
        on_device: whether it goes on the GPU; else the processor computes it.
        unload: the keys of those who leave the GPU first, in this order.
    """

    on_device: bool
    unload: tuple[Hashable, ...] = ()


def seat(needed: int, residents: Collection[Resident], budget: int) -> Seat:
    """Whether a model goes on a GPU.

    It does when it fits, if need be once the least recently used of those that can be loaded again left.
    Nobody leaves for a model that then would not fit.

    Args:
        needed: bytes, at least 0.
        residents: all that count against the budget of this GPU, with unequal keys.
        budget: bytes.
    """
    room = make_room(needed, residents, budget)
    return Seat(room.fits, room.unload)


def usual_budget(total: int) -> int:
    """The budget of a GPU of so many bytes where none was given: what it has, less a reserve."""
    return max(total - max(total // _RESERVE_SHARE, _LEAST_RESERVE), 0)


def device_of(wish: str) -> str:
    """The GPU that a wish for a device means, such as ``cuda:0``; ``cpu`` for the processor."""
    if wish == PROCESSOR:
        return PROCESSOR
    return "cuda:0" if wish in (AUTO, "cuda") else wish


def really(budget: int, held: int, memory: DeviceMemory | None) -> int:
    """What models may hold of a GPU now: the budget, or less where other programs are on it.

    Args:
        budget: bytes.
        held: bytes that models hold by now.
        memory: of the GPU; None where nothing is known of it.
    """
    if memory is None:
        return budget
    return min(budget, held + max(memory.total - memory.used, 0))


def no_room(device: str, needed: int, held: int, budget: int, room: int) -> str:
    """The sentence about a model that does not fit on its GPU, without a full stop.

    Args:
        device: the GPU.
        needed: bytes.
        held: bytes that other models hold.
        budget: bytes that all may have.
        room: bytes that all can have, see ``really``.
    """
    advice = "raise --accelerator-memory or move one of them"
    if room < budget:
        advice = "other programs hold the rest of the GPU"
    return (
        f"it should run on {device} and runs on the processor, because it needs {in_gibibytes(needed)} there "
        f"and other models hold {in_gibibytes(held)} of the {in_gibibytes(room)} that all may have; {advice}"
    )


def in_gibibytes(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / _GIB:.2f} GiB" if size else "nothing"
