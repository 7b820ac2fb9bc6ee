"""Files that are read again when they change."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from servable.errors import SettingInvalid
from servable.logs import fields, logger
from servable.security.grants import MOST_BYTES, Grants, parse_grants

_log = logger("server")
#: Seconds between two looks whether files are others.
LOOK_S = 5.0


def stamps(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    """What changes when a file is written or replaced; nothing for one that is not there."""
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            status = file.stat()
            found.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return found


def content_of(file: Path, most: int) -> bytes:
    """The beginning of a file, one byte longer than allowed when the file is.

    Raises:
        SettingInvalid: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(most + 1)
    except OSError as error:
        raise SettingInvalid(f"The file {file} cannot be read ({error.strerror}).") from error


class GrantsFile:
    """What names allow, from a file that may change. Belongs to one event loop.

    Args:
        file: as ``security.grants`` describes it.

    Attributes:
        grants: those that count now.

    Raises:
        SettingInvalid: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = stamps([file])
        self.grants: Grants = self._read()

    def _read(self) -> Grants:
        return parse_grants(content_of(self._file, MOST_BYTES), self._file.name)

    def look(self) -> bool:
        """Look once; whether other grants count from now on. Of an unusable file the old ones do."""
        seen = stamps([self._file])
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self.grants = self._read()
        except SettingInvalid as error:
            _log.warning("the file of scopes is not used", extra=fields(reason=error.message))
            return False
        _log.info("another file of scopes is used", extra=fields(file=str(self._file)))
        return True
