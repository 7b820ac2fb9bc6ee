"""What all processes of a server count of each limited caller, in memory that they share.

A caller is a slot of numbers: the moment of its rate, what is left of the block of its quota, the share that
this server has of its limits, and for each process how many of its requests are being answered there. Slots
are found by a digest of the caller's name, so that no process has to tell another.
"""

import fcntl
import mmap
import os
import threading
import time
from contextlib import AbstractContextManager
from hashlib import blake2b

#: Numbers of a slot: the digest of who it is (0: nobody), the moment of the rate in nanoseconds of the
#: monotonic clock, the day of UTC that the quota is counted for, what is left of the block that was taken out
#: of it, when a request last took from the block and when the registry last had nothing more, likewise; of
#: the server's share when it was last taken (0: there is none) and last asked for, likewise, its requests
#: of the rate's window and at once, how many servers have one, the requests that came since it was last
#: asked for, and how often in a row there were none; then the requests that each process answers.
(MARK, MOMENT, DAY, LEFT, USED, EMPTY, SHARED, SETTLED, REQUESTS, AT_ONCE, HOLDERS, ASKED, QUIET,
 COUNTS) = range(14)  # fmt: skip
#: Slots of keys, of callers that are known elsewhere, and of addresses.
_KEYS, _SUBJECTS, _ADDRESSES = 4096, 8192, 16_384
#: Slots among which a caller may stand.
_TRIED = 16
_NUMBER_BYTES = 8
#: Seconds after which a process goes on without its turn, because the one that has it was stopped in it.
_TURN_S = 0.1
_REST_S = 0.00005


class LimitArea:
    """Slots of callers. Each process has a hold of its own; not for several threads of one.

    Args:
        descriptor: of the shared memory; ``close`` closes it. None for memory of this process alone.
        places: how many processes there may be.
        place: this one.

    Attributes:
        descriptor: as given.
        cells: the numbers of all slots; change them only in ``turn``.
        place: as given.
        alone: whether no other process has it, so that nobody's turn need be waited for.
        server: a name of the server, the same one in all of its processes and no other's.
    """

    def __init__(self, descriptor: int | None = None, places: int = 1, place: int = 0) -> None:
        self.descriptor = descriptor
        self.place = place
        self._stride = COUNTS + places
        self.alone = descriptor is None
        #: The turn of a process that has the area to itself.
        self._own_turn = threading.RLock()
        self._memory: mmap.mmap | None = None
        self.cells: list[int] | memoryview[int]
        if descriptor is None:
            # Every request reads a dozen of them, and a list is read in a third of the time.
            self.cells = [0] * (area_bytes(places) // _NUMBER_BYTES)
        else:
            self._memory = mmap.mmap(descriptor, area_bytes(places))
            self.cells = memoryview(self._memory).cast("q")
        if not self.cells[-1]:
            # Before there is another process.
            self.cells[-1] = int.from_bytes(os.urandom(_NUMBER_BYTES)) >> 1 | 1
        self.server = f"{self.cells[-1]:016x}"

    @classmethod
    def create(cls, places: int) -> "LimitArea":
        """An area in which nothing is counted, to be shared.

        Raises:
            OSError: no descriptor or no memory left.
        """
        descriptor = os.memfd_create("servable-limits")
        os.ftruncate(descriptor, area_bytes(places))
        return cls(descriptor, places)

    @property
    def shared(self) -> int:
        """The descriptor of an area that is shared."""
        if self.descriptor is None:
            raise ValueError("This area belongs to one process.")
        return self.descriptor

    def key(self, name: str) -> int:
        """The slot of a key's name: where it begins in ``cells``."""
        return self._slot(_mark("key", name), 0, _KEYS)

    def subject(self, account: str) -> int:
        """The slot of a caller that is known elsewhere, such as by an issuer of tokens."""
        return self._slot(_mark("subject", account), _KEYS, _SUBJECTS)

    def address(self, kind: str, address: str) -> int:
        """The slot of an address for one kind of limit."""
        return self._slot(_mark(kind, address), _KEYS + _SUBJECTS, _ADDRESSES)

    def requests(self, slot: int) -> int:
        """How many requests of a caller all processes answer."""
        if self._stride == COUNTS + 1:
            return self.cells[slot + COUNTS]
        return sum(self.cells[slot + COUNTS : slot + self._stride])

    def turn(self, slot: int) -> AbstractContextManager[object]:
        """While this is entered no other process changes the slot.

        The kernel ends the turn of a process that dies in it. One that is stopped in it must not stop the
        others: after a moment they go on, and what is counted may then differ by one.
        """
        return self._own_turn if self.descriptor is None else _Turn(self.descriptor, slot)

    def left(self, place: int) -> None:
        """A process has ended: it answers nothing any more."""
        for slot in range(0, len(self.cells) - 1, self._stride):
            if self.cells[slot + MARK]:
                self.cells[slot + COUNTS + place] = 0

    def close(self) -> None:
        """Give this process's hold of it back."""
        if isinstance(self.cells, memoryview):
            self.cells.release()
        if self._memory is not None:
            self._memory.close()
        if self.descriptor is not None:
            os.close(self.descriptor)

    def _slot(self, mark: int, first: int, count: int) -> int:
        cells, stride = self.cells, self._stride
        places = [(first + (mark + step) % count) * stride for step in range(_TRIED)]
        for slot in places:
            if cells[slot + MARK] == mark:
                return slot
        # One turn for all who look for a new slot, so that no two of them take the same one.
        with self.turn(len(cells)):
            for slot in places:
                if cells[slot + MARK] in (mark, 0):
                    cells[slot + MARK] = mark
                    return slot
            # All are taken. Whose moment is longest past is as if it had never asked.
            slot = min(places, key=lambda each: (self.requests(each) > 0, cells[each + MOMENT]))
            for number in range(stride):
                cells[slot + number] = 0
            cells[slot + MARK] = mark
            return slot


class _Turn:
    """A lock of one slot, of the kernel's; see ``LimitArea.turn``."""

    __slots__ = ("_descriptor", "_slot")

    def __init__(self, descriptor: int, slot: int) -> None:
        self._descriptor = descriptor
        self._slot = slot

    def __enter__(self) -> None:
        last = 0.0
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._slot)
            except OSError:
                now = time.monotonic()
                last = last or now + _TURN_S
                if now > last:
                    return
                time.sleep(_REST_S)
            else:
                return

    def __exit__(self, *reason: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._slot)


def area_bytes(places: int) -> int:
    """The size of an area for so many processes."""
    # And the name of the server.
    return ((_KEYS + _SUBJECTS + _ADDRESSES) * (COUNTS + places) + 1) * _NUMBER_BYTES


def _mark(kind: str, name: str) -> int:
    digest = blake2b(f"{kind}\0{name}".encode("utf-8", "surrogatepass"), digest_size=_NUMBER_BYTES).digest()
    # Never 0, which is nobody, and never below.
    return int.from_bytes(digest) >> 1 | 1
