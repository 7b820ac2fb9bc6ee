"""What is in archives: each member is copied out under a name of ours, looked at, and deleted again."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple

from servable.artifact import archives
from servable.artifact.audit import ZIP_ERRORS

#: Of an archive so many members are looked into, up to so many bytes each, and archives in archives so deep.
MOST_LOOKED_INTO = 200
LARGEST_LOOKED_INTO = 64 * 1024 * 1024
DEEPEST_LOOKED_INTO = 3
#: Name, bytes, and how a member is opened; nothing comes of one that is no file.
Members = Iterator[tuple[str, int, Callable[[], IO[bytes] | None]]]


class Content(NamedTuple):
    """What a file is and what loading it would do.

    Attributes:
        kind: ``pickle``, ``onnx``, ``safetensors``, ``archive``, ``unknown`` ...
        names: what loading it would import, call or open beyond what is harmless, sorted.
        complete: whether that is all; false where only loading it would tell.
        reason: why it is not clean, in a few words; empty where the names say it.
        note: what else is worth knowing.
    """

    kind: str
    names: tuple[str, ...] = ()
    complete: bool = True
    reason: str = ""
    note: str = ""

    @property
    def clean(self) -> bool:
        """Whether loading it executes nothing."""
        return self.complete and not self.names and not self.reason


#: Says what a copied member is, given how many archives it lay in.
Look = Callable[[Path, int], Content]


def tar(path: Path, depth: int, look: Look) -> Content:
    """What a tar is, compressed or not."""
    try:
        with path.open("rb") as file:
            members = tuple(_some(archives.tar_members(file)))
        wrong = archives.faults(members)
        inner = [] if wrong else looked_into(_of_tar(path), depth, look)
        return archive("tar", wrong, inner, len(members))
    except (tarfile.TarError, EOFError, ValueError, *ZIP_ERRORS) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return Content("tar", complete=False, reason="it is a truncated or damaged tar file")


def archive(kind: str, wrong: tuple[str, ...], inner: list[tuple[str, Content]], count: int) -> Content:
    """What an archive is, by its faults and by what its members are."""
    names = [f"{name}: {each}" for name, found in inner for each in found.names]
    unclear = [
        f"in {name} {found.reason or 'only loading it would tell'}"
        for name, found in inner
        if not found.clean and not found.names
    ]
    reason = "; ".join((*wrong[:3], *unclear[:3]))
    note = f"an archive of {count:,} members, which Servable does not unpack"
    return Content(kind, tuple(sorted(names)), not wrong and not unclear, reason, note)


def of_zip(archive: zipfile.ZipFile) -> Members:
    """The members of a zip."""
    for info in archive.infolist():
        if not info.is_dir():
            yield info.filename, info.file_size, lambda info=info: archive.open(info)  # type: ignore[misc]


def _of_tar(path: Path) -> Members:
    with tarfile.open(path, "r:*") as archive:
        for info in archive:
            if info.isreg():
                yield info.name, info.size, lambda info=info: archive.extractfile(info)  # type: ignore[misc]


def looked_into(members: Members, depth: int, look: Look) -> list[tuple[str, Content]]:
    """What the members of an archive are; each is copied out under a name of ours, one at a time."""
    found: list[tuple[str, Content]] = []
    with TemporaryDirectory(prefix="servable-") as folder:
        for number, (name, size, opened) in enumerate(members):
            shown = ascii(name)[1:-1][:80]
            if number >= MOST_LOOKED_INTO or size > LARGEST_LOOKED_INTO or depth >= DEEPEST_LOOKED_INTO:
                reason = "lies more than can be looked into" if number >= MOST_LOOKED_INTO else "is too large"
                found.append((shown, Content("unknown", complete=False, reason=reason)))
                break
            # Its ending tells of what is executed as a text; nothing else of its name is used.
            copy = Path(folder) / f"member{'.py' if name.lower().endswith(('.py', '.pyw')) else ''}"
            content = opened()
            if content is None:
                continue
            with content, copy.open("wb") as file:
                shutil.copyfileobj(Bounded(content, LARGEST_LOOKED_INTO), file)
            found.append((shown, look(copy, depth + 1)))
            copy.unlink()
    return found


class Bounded:
    """A file of which no more can be read than so many bytes."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._left = most

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none when that many were read."""
        data = self._file.read(min(size if size >= 0 else self._left, self._left))
        self._left -= len(data)
        return data


def _some(members: Iterator[archives.Member]) -> Iterator[archives.Member]:
    """The members up to one more than are looked at."""
    for number, member in enumerate(members):
        if number > archives.MOST_MEMBERS:
            return
        yield member
