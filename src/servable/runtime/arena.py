"""Shared memory between a server and a model process: an area for what goes there, one for what comes back.

An area is an anonymous file in memory (``memfd_create``) whose descriptor the child inherits. It has no
name, so nothing stays behind in ``/dev/shm`` whoever dies, and when the last descriptor closes it is gone.

Only its writer grows an area, and it is sealed against shrinking: a reader that maps what the file holds
can never be ended by a bus error because the other side took memory away. The reader maps anew when it is
told of bytes beyond what it mapped.
"""

import fcntl
import mmap
import os

from servable.runtime.framing import broken

#: Bytes of a new area. Pages take memory only once they are written.
FIRST_SIZE = 1024 * 1024
#: Memory of an area beyond this many bytes is given back after the batch.
KEPT_SIZE = 4 * 1024 * 1024


class Area:
    """One mapping of an area. Belongs to one thread at a time.

    Args:
        descriptor: of the anonymous file; closed with the area.
    """

    __slots__ = ("_map", "_size", "_used", "_view", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None
        self._size = 0
        self._used = 0
        self._view = memoryview(b"")

    @classmethod
    def make(cls, name: str) -> "Area":
        """A new area; ``name`` is seen by people in ``/proc`` and need not be unique.

        Raises:
            OSError: no memory or no descriptor left.
        """
        descriptor = os.memfd_create(name[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, FIRST_SIZE)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    @property
    def size(self) -> int:
        """Bytes that are mapped."""
        return self._size

    def to_write(self, size: int) -> memoryview:
        """Memory of at least so many bytes to write into; grows the area where needed.

        Raises:
            OSError: no memory left.
        """
        if size > self._size:
            wanted = max(FIRST_SIZE, 1 << (size - 1).bit_length())
            if os.fstat(self.descriptor).st_size < wanted:
                os.ftruncate(self.descriptor, wanted)
            self._remap(wanted)
        self._used = max(self._used, size)
        return self._view

    def to_read(self, size: int) -> memoryview:
        """The first so many bytes, read-only.

        Raises:
            ModelDied: the area does not hold so many.
        """
        if size > self._size:
            there = os.fstat(self.descriptor).st_size
            if size > there:
                raise broken("the length of a payload that is not there")
            self._remap(there)
        self._used = max(self._used, size)
        return self._view[:size].toreadonly()

    def relax(self) -> None:
        """Give memory beyond ``KEPT_SIZE`` back after a large batch; what it held reads as zeros then."""
        if self._used > KEPT_SIZE and self._map is not None:
            self._map.madvise(mmap.MADV_REMOVE, KEPT_SIZE, self._size - KEPT_SIZE)
        self._used = 0

    def _remap(self, size: int) -> None:
        # An array that still looks at the old mapping keeps it alive; otherwise it goes with its last name.
        self._map = mmap.mmap(self.descriptor, size)
        self._view = memoryview(self._map)
        self._size = size

    def close(self) -> None:
        """Close the descriptor; the mapping goes when nothing looks at it any more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self._view = memoryview(b"")
        self._map = None
        self._size = 0
