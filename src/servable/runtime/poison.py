"""The rows that killed a model, remembered for a while so that a repetition costs no further process.

A server of one process remembers them by itself. Several HTTP processes of one server share an area of
memory, so that rows which cost one of them two model processes cost the others none.
"""

import mmap
import os
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import numpy as np

from servable.errors import PoisonRequest
from servable.tensors import Arrays

#: Rows are remembered for so long: a process may also have died of something else.
_AGE_S = 600.0
#: The oldest is forgotten beyond so many.
_MOST = 256
_DIGEST_BYTES = 16
#: A place of the area: until when in seconds of the monotonic clock as a double, then the digest.
_HEAD_BYTES = 8
_PLACE_BYTES = _HEAD_BYTES + _DIGEST_BYTES
#: Places of the area among which a digest may stand.
_TRIED = 4


class Poison(Protocol):
    """The refused rows of one model. Belongs to one task.

    Attributes:
        until: nothing is remembered for longer, in seconds of the clock.
    """

    @property
    def until(self) -> float:
        """See above; cheap, because it is read for every request."""
        ...

    def add(self, arrays: Arrays, now: float) -> None:
        """Remember rows from now on, in seconds of the clock."""
        ...

    def has(self, arrays: Arrays, now: float) -> bool:
        """Whether equal rows are remembered; costs a digest of the rows."""
        ...


#: The memory for a model, by what tells its package and variant from all others.
Poisons = Callable[[str], Poison]


class PoisonMemory:
    """Refused rows of a model that one process serves; a bounded set of digests."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self.until = 0.0

    def add(self, arrays: Arrays, now: float) -> None:
        """See ``Poison``."""
        key = _digest(arrays)
        self._until.pop(key, None)
        self.until = self._until[key] = now + _AGE_S
        if len(self._until) > _MOST:
            self._until.popitem(last=False)

    def has(self, arrays: Arrays, now: float) -> bool:
        """See ``Poison``."""
        return self._until.get(_digest(arrays), 0.0) > now


def own_memory(model: str) -> Poison:
    """The memory of a process that is alone; see ``Poisons``."""
    return PoisonMemory()


class PoisonArea:
    """Refused rows of all models, in memory that several processes share.

    Nobody locks anything: a digest stands in one of a few places that follow from itself. Who writes at the
    very same moment as another may be forgotten, which costs two processes more; a half-written digest is
    equal to no other.

    Args:
        descriptor: of the memory; ``close`` closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _HEAD_BYTES + _MOST * _PLACE_BYTES)
        self._view = memoryview(self._memory)
        self._latest = self._view[:_HEAD_BYTES].cast("d")
        places = [
            self._view[start : start + _PLACE_BYTES]
            for start in range(_HEAD_BYTES, len(self._view), _PLACE_BYTES)
        ]
        self._until = [place[:_HEAD_BYTES].cast("d") for place in places]
        self._digests = [place[_HEAD_BYTES:] for place in places]

    @classmethod
    def create(cls) -> "PoisonArea":
        """An area in which nothing is remembered.

        Raises:
            OSError: no descriptor or no memory left.
        """
        descriptor = os.memfd_create("servable-poison")
        os.ftruncate(descriptor, _HEAD_BYTES + _MOST * _PLACE_BYTES)
        return cls(descriptor)

    def of(self, model: str) -> Poison:
        """The part of a model; see ``Poisons``."""
        return _SharedMemory(self, model.encode())

    @property
    def latest(self) -> float:
        """Nothing is remembered for longer."""
        return self._latest[0]

    def remember(self, digest: bytes, until: float, now: float) -> None:
        """Write a digest where it stands already, where nothing stands any more, or over the oldest."""
        places = _places(digest)
        place = next(
            (place for place in places if self._digests[place] == digest),
            min(places, key=lambda place: max(self._until[place][0], now)),
        )
        self._until[place][0] = 0.0
        self._digests[place][:] = digest
        self._until[place][0] = until
        self._latest[0] = max(until, self._latest[0])

    def knows(self, digest: bytes, now: float) -> bool:
        """Whether a digest is remembered."""
        return any(
            self._until[place][0] > now and self._digests[place] == digest for place in _places(digest)
        )

    def close(self) -> None:
        """Give this process's hold of it back."""
        for moment in (*self._until, self._latest):
            moment.release()
        for view in (*self._digests, self._view):
            view.release()
        self._memory.close()
        os.close(self.descriptor)


class _SharedMemory:
    """The refused rows of one model in an area."""

    def __init__(self, area: PoisonArea, model: bytes) -> None:
        self._area = area
        self._model = model

    @property
    def until(self) -> float:
        """See ``Poison``."""
        return self._area.latest

    def add(self, arrays: Arrays, now: float) -> None:
        """See ``Poison``."""
        self._area.remember(_digest(arrays, self._model), now + _AGE_S, now)

    def has(self, arrays: Arrays, now: float) -> bool:
        """See ``Poison``."""
        return self._area.knows(_digest(arrays, self._model), now)


def _places(digest: bytes) -> list[int]:
    first = int.from_bytes(digest[:4])
    return [(first + step) % _MOST for step in range(_TRIED)]


def poison_error(model: str) -> PoisonRequest:
    """What the caller is told."""
    return PoisonRequest(
        f"These rows ended two processes of {model} and are not tried again; "
        "change them, or have the model mended."
    )


def _digest(arrays: Arrays, model: bytes = b"") -> bytes:
    digest = blake2b(model, digest_size=_DIGEST_BYTES)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}\0".encode())
        if array.dtype.hasobject:
            digest.update(repr(array.tolist()).encode("utf-8", "surrogatepass"))
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
