"""The answers of one live version, kept for a while for callers who send the same rows again.

Every live version has a cache of its own, so an answer is never given for another version. The key is
a digest of the packed input as the codec made it: two wire formats that say the same share an answer.
"""

import sys
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.clock import Clock, SystemClock
from servable.monitoring.metrics import Meter
from servable.tensors import Arrays

#: Bytes of a digest: with 128 bits two inputs share one by chance in no server's lifetime.
KEY_BYTES = 16
#: Bytes counted for an entry besides its arrays: its place in the table, its record and its key.
ENTRY_BYTES = 400 + KEY_BYTES
#: Bytes counted for each array besides its content.
ARRAY_BYTES = 128
_encode = msgspec.msgpack.encode


class _Entry(NamedTuple):
    arrays: dict[str, Any]
    size: int
    stored_at: float


class ResponseCache:
    """Answers by input, bounded by bytes and by age; the least recently used goes first.

    Belongs to one event loop. The figures go to the meter: hits, misses and bytes held.

    Args:
        max_bytes: most bytes of answers, with what it costs to keep them.
        max_age_s: seconds after which an answer is not given any more.
        meter: of the version.
        clock: its monotonic time counts.
    """

    def __init__(self, max_bytes: int, max_age_s: float, meter: Meter, clock: Clock | None = None) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._meter = meter
        self._now = (clock or SystemClock()).monotonic
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """How many answers are held, also those whose time is over and which nobody asked for since."""
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """Bytes of answers, with what it costs to keep them."""
        return self._bytes

    def key(self, arrays: Arrays) -> bytes:
        """The digest of packed arrays: names, dtypes, shapes and every byte.

        Numbers are told apart by their bits: 0.0 and -0.0, and two different NaNs, are different
        inputs. A model may tell them apart, and taking equals for different costs a run, no more.
        """
        digest = blake2b(digest_size=KEY_BYTES)
        # In the order of the names, so that it does not matter which array was packed first.
        for name in sorted(arrays):
            array = arrays[name]
            text = array.dtype.kind == "O"
            # Texts as a list that says the length of each; a text cannot pass for two others.
            content = _encode(array.ravel().tolist()) if text else _bytes_of(array)
            digest.update(_encode((name, array.dtype.str, array.shape, len(content))))
            digest.update(content)
        return digest.digest()

    def get(self, key: bytes) -> dict[str, Any] | None:
        """The answer kept under a key; None when there is none that is young enough.

        The arrays cannot be written to: all who ask share them. The dictionary is the caller's own.
        """
        entry = self._entries.get(key)
        if entry is not None and self._now() - entry.stored_at >= self._max_age_s:
            self._drop(key)
            entry = None
        if entry is None:
            self._meter.cache_misses += 1
            return None
        self._entries.move_to_end(key)
        self._meter.cache_hits += 1
        return entry.arrays.copy()

    def put(self, key: bytes, arrays: Mapping[str, Any]) -> None:
        """Keep an answer; what is larger than everything that may be kept is not.

        The arrays are copied, because they may be slices of the answer to a whole batch, which would
        stay in memory with them, and because others may still write to them.
        """
        size = ENTRY_BYTES + sum(ARRAY_BYTES + _size_of(array) for array in arrays.values())
        if key in self._entries:
            self._drop(key)
        if size > self._max_bytes:
            return
        while self._bytes + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
        kept = {}
        for name, array in arrays.items():
            kept[name] = copy = np.array(array)
            copy.setflags(write=False)
        self._entries[key] = _Entry(kept, size, self._now())
        self._held(size)

    def clear(self) -> None:
        """Let go of everything, as when the version is unloaded."""
        self._entries.clear()
        self._held(-self._bytes)

    def _drop(self, key: bytes) -> None:
        self._held(-self._entries.pop(key).size)

    def _held(self, change: int) -> None:
        self._bytes += change
        self._meter.cache_bytes += change


class NoCache:
    """Keeps nothing and counts nothing: a version without a cache."""

    def key(self, _arrays: Arrays) -> bytes:
        """Always the same."""
        return b""

    def get(self, _key: bytes) -> dict[str, Any] | None:
        """Always None."""
        return None

    def put(self, _key: bytes, _arrays: Mapping[str, Any]) -> None:
        """Does nothing."""

    def clear(self) -> None:
        """Does nothing."""


def _bytes_of(array: Any) -> Any:
    """The bytes of an array in C order, without a copy where it lies like that."""
    # A memory view of nothing cannot be looked at as bytes.
    if array.size and array.flags.c_contiguous:
        return memoryview(array.reshape(-1).view(np.uint8))
    return array.tobytes()


def _size_of(array: Any) -> int:
    if array.dtype.kind == "O":
        return int(array.nbytes) + sum(map(sys.getsizeof, array.ravel().tolist()))
    return int(array.nbytes)
