"""``inspect``: what a file, a folder or a version is, and what loading it would execute."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from servable.errors import ArtifactUnreadable, FileMissing
from servable.frameworks.contents import look
from servable.frameworks.members import Content
from servable.workflows.homes import opened

#: So many files of a folder are looked at.
MOST_FILES = 10_000


class InspectedPart(msgspec.Struct, frozen=True, kw_only=True):
    """One file.

    Attributes:
        path: relative to the folder; the file's name when it was asked for alone.
        kind: what it is, by its content.
        size: bytes.
        clean: whether loading it executes nothing.
        names: what loading it would import, call or open, sorted.
        complete: whether these are all of them.
        reason: why it is not clean, in a few words; empty where the names say it.
        note: what else is worth knowing.
    """

    path: str
    kind: str
    size: int
    clean: bool
    names: tuple[str, ...] = ()
    complete: bool = True
    reason: str = ""
    note: str = ""

    @property
    def summary(self) -> str:
        """Why it is not clean, in one phrase."""
        if self.reason:
            return self.reason
        return f"executes or opens {len(self.names)} names" + ("" if self.complete else " and more")


class InspectOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at.

    Attributes:
        what: as it was asked for.
        clean: whether loading any of it executes nothing.
        parts: every file.
    """

    what: str
    clean: bool
    parts: tuple[InspectedPart, ...]


def inspect(what: str | Path, *, home: str | Path | None = None) -> InspectOutcome:
    """Say what something is and what loading it would execute. Nothing of it is executed or imported.

    Args:
        what: a file, a folder, or ``name``, ``name:3``, ``name@alias``, whose package is verified.
        home: the folder of the registry; looked up when None.

    Raises:
        FileMissing: there is no such file, and no such home.
        NotFoundError: there is no such model, version or alias.
        ArtifactTampered: a file of the package differs from its digest.
        StorageFailed: something cannot be read.
    """
    path = Path(what)
    if path.is_dir():
        parts = tuple(_of_folder(path))
    elif path.exists():
        # What a person names is meant, a link to a file as well; links in folders are said.
        parts = (_part(path.resolve(), path.name),)
    else:
        with opened(_home_of(what, home)) as place:
            package = place.package(place.models.resolve(str(what)))
            parts = tuple(_of_folder(package.folder))
    return InspectOutcome(what=str(what), clean=all(part.clean for part in parts), parts=parts)


def _home_of(what: str | Path, home: str | Path | None) -> str | Path | None:
    """The home, unless what was asked for can only be a file that is not there.

    Raises:
        FileMissing: it can.
    """
    if "/" in str(what) or "." in str(what).rpartition(":")[0]:
        raise FileMissing(f"There is no file {what}.")
    return home


def _of_folder(folder: Path) -> Iterator[InspectedPart]:
    """Every file below a folder, by name. Links are said and not followed."""
    count = 0
    for root, folders, files in os.walk(folder):
        folders.sort()
        linked = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in sorted((*files, *linked)):
            count += 1
            path = Path(root) / name
            if count > MOST_FILES:
                raise ArtifactUnreadable(
                    f"{folder} holds more than {MOST_FILES:,} files; look at a part of it."
                )
            yield _part(path, path.relative_to(folder).as_posix())


def _part(path: Path, shown: str) -> InspectedPart:
    try:
        about = path.lstat()
        found = look(path) if stat.S_ISREG(about.st_mode) else _not_regular(path, about.st_mode)
    except OSError as error:
        raise FileMissing(f"{path} cannot be read: {error.strerror}.") from error
    return InspectedPart(
        path=shown,
        kind=found.kind,
        size=about.st_size,
        clean=found.clean,
        names=found.names,
        complete=found.complete,
        reason=found.reason,
        note=found.note,
    )


def _not_regular(path: Path, mode: int) -> Content:
    if stat.S_ISLNK(mode):
        return Content("link", complete=False, reason=f"it is a link to {str(path.readlink())[:80]!a}")
    return Content("special", complete=False, reason="it is a device, pipe or socket")
