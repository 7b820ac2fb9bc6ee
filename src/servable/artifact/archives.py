"""What unpacking an archive would do besides making files: members that escape, links, devices, bombs.

Servable unpacks no archives. This is for whoever looks at one before another program does.
"""

import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from servable.artifact.streams import LARGEST

#: So many members are looked at.
MOST_MEMBERS = 100_000
#: A member that grows beyond this ratio, and beyond a megabyte, is a bomb; text shrinks to a twentieth.
LARGEST_RATIO = 200
_MEGABYTE = 1 << 20
#: So many faults are said.
MOST_FAULTS = 20


class Member(NamedTuple):
    """One entry of an archive.

    Attributes:
        name: as it stands there.
        size: bytes once it is unpacked, as the archive says.
        packed: bytes in the archive; 0 where nobody can tell.
        kind: ``file``, ``folder``, ``link`` or ``special``.
        target: where a link leads.
    """

    name: str
    size: int
    packed: int
    kind: str
    target: str = ""


def zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """The entries of a zip."""
    for info in archive.infolist():
        mode = info.external_attr >> 16
        kind = "folder" if info.is_dir() else "file"
        if stat.S_ISLNK(mode):
            kind = "link"
        elif mode and stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = "special"
        yield Member(info.filename, info.file_size, info.compress_size, kind)


def tar_members(file: IO[bytes]) -> Iterator[Member]:
    """The entries of a tar, compressed or not; nothing is unpacked.

    Raises:
        tarfile.TarError: it is damaged.
    """
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        for info in archive:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "special"
            if info.issym() or info.islnk():
                kind = "link"
            yield Member(info.name, info.size, 0, kind, info.linkname)


def faults(members: Iterable[Member]) -> tuple[str, ...]:
    """What unpacking would do that nobody wants, a phrase each; empty for a plain archive. Pure."""
    found: list[str] = []
    seen: set[str] = set()
    total = 0
    for number, member in enumerate(members):
        if number >= MOST_MEMBERS:
            found.append(f"it has more than {MOST_MEMBERS:,} members")
            break
        total += max(member.size, 0)
        if total > LARGEST:
            found.append(f"it unpacks to more than {LARGEST // 1024**3} GiB")
            break
        found += _of_member(member, seen)
        seen.add(member.name)
        if len(found) >= MOST_FAULTS:
            break
    return tuple(dict.fromkeys(found))


def _of_member(member: Member, seen: set[str]) -> Iterator[str]:
    shown = ascii(member.name)[:80]
    if escapes(member.name):
        yield f"{shown} leads out of the folder"
    if member.kind == "link":
        yield f"{shown} is a link" + (f" to {ascii(member.target)[:80]}" if member.target else "")
    if member.kind == "special":
        yield f"{shown} is a device, pipe or socket"
    if member.name in seen:
        yield f"{shown} is there twice"
    if member.packed and member.size > _MEGABYTE and member.size > LARGEST_RATIO * member.packed:
        yield f"{shown} grows to {member.size // member.packed:,} times its size"


def escapes(name: str) -> bool:
    """Whether a member's name leads out of the folder that it is unpacked into. Pure."""
    plain = name.replace("\\", "/")
    drive = plain[1:3] == ":/"
    return plain.startswith("/") or drive or "\0" in name or ".." in PurePosixPath(plain).parts


def is_tar(path: Path) -> bool:
    """Whether a file is a tar, compressed or not."""
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError, ValueError):
        return False
