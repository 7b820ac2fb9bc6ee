"""Where checkpoints of the audit log go besides the registry: out of reach of whoever may change it."""

import os
from pathlib import Path

from servable.artifact.files import storage_errors, sync_folder
from servable.security.checkpoints import notes_in

#: How a checkpoint's file ends, in a folder of them.
ENDING = ".note"


def ship(note: str, where: str) -> None:
    """Keep a checkpoint outside; it is on the disk when this returns.

    Args:
        note: the text of a signed note.
        where: a folder, which gets a file for each; or a file, to the end of which it is written, so that
            one that can only be appended to will do. Empty: nowhere.

    Raises:
        StorageFailed: it is not taken there.
        StorageFull: no space left.
    """
    if not where:
        return
    place = Path(where)
    with storage_errors("shipping a checkpoint of the audit log"):
        if place.is_dir() or where.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            _, size, _, at = next(iter(notes_in(note))).body.split("\n")[:4]
            name = f"{int(size):012d}-{at.replace(':', '')}-{os.urandom(3).hex()}{ENDING}"
            _append(place / name, note, os.O_EXCL)
            sync_folder(place)
        else:
            _append(place, f"{note}\n", 0)


def shipped(where: Path) -> list[tuple[Path, str]]:
    """Every file of checkpoints at a place, with its text.

    Args:
        where: a file, or a folder of files.

    Raises:
        StorageFailed: it cannot be read, or is not there.
    """
    with storage_errors("reading checkpoints of the audit log"):
        files = sorted(where.glob(f"*{ENDING}")) if where.is_dir() else [where]
        return [(file, file.read_text("utf-8", "replace")) for file in files]


def _append(file: Path, text: str, how: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | how
    descriptor = os.open(file, flags, 0o644)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(text.encode("utf-8"))
        opened.flush()
        os.fsync(descriptor)
