"""Room on the disk that is kept for erasing people, so that a full disk keeps nobody from being erased.

To erase is to write: the keys that go, the record of it, the database without its free pages, segments anew.
"""

import os
from contextlib import suppress
from pathlib import Path

from servable.registry.records import DATABASE

#: Bytes for records and for segments that are written anew, besides copies of the database.
_LEAST = 4 * 1024 * 1024
#: Copies of the database that rewriting it may need at once: its log, and a file for the copy.
_COPIES = 3


class Reserve:
    """The room kept in one home. Every process of the home may use it at any time.

    Args:
        home: the folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / "erasure.reserve"

    def keep(self) -> bool:
        """Take the room, if it is not taken yet; whether it is.

        A disk that has none left, and a file system that cannot promise any, are no errors: whoever erases is
        told when it matters.
        """
        size = _LEAST + _COPIES * self._database_bytes()
        try:
            if self._path.exists() and self._path.stat().st_blocks * 512 >= size:
                return True
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError:
            # A part of it would be missing to others and be too little here.
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Give the room back, to be written into at once; whether there was any."""
        with suppress(OSError):
            self._path.unlink()
            return True
        return False

    def _database_bytes(self) -> int:
        with suppress(OSError):
            return (self._home / DATABASE).stat().st_size
        return 0
