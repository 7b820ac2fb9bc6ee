"""Writing files so that they survive: fsync, and the storage errors said in our words.

A file is durable once it and the folder that names it were synced; ``write_file`` and ``sync_folder``
are the two halves. Everything here blocks and is safe to call from any thread.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servable.errors import ServableError, StorageFailed, StorageFull

#: What the kernel says when there is no room: disk, quota, or the limit on a file's size.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_error(error: OSError, doing: str) -> ServableError:
    """The error of ours that says what an ``OSError`` means for ``doing`` ("writing the package")."""
    reason = error.strerror or type(error).__name__
    if error.errno in FULL:
        return StorageFull(f"No space left while {doing} ({reason}); free some space and try again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        where = f" to {error.filename}" if error.filename else ""
        return StorageFailed(f"No permission{where} while {doing} ({reason}); check owner and mode.")
    where = f" at {error.filename}" if error.filename else ""
    return StorageFailed(f"The storage failed{where} while {doing} ({reason}).")


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn every ``OSError`` of the block into ``StorageFull`` or ``StorageFailed``.

    Args:
        doing: what was going on, as it fits after "while".
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing) from error


def sync_file(path: Path) -> None:
    """Make a file's content durable.

    Raises:
        OSError: the disk did not take it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make a folder's list of names durable.

    Raises:
        OSError: the disk did not take it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file and make its content durable; its folder is the caller's to sync.

    Raises:
        StorageFull: no space for it.
        StorageFailed: anything else that the storage refuses.
    """
    with storage_errors(f"writing {path.name}"), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
