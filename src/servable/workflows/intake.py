"""Takes in a model file that is to be served at once, unless the newest version was made from it already."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from servable.errors import ArtifactUnreadable, NotFoundError, SettingInvalid, converted
from servable.frameworks.lookup import KNOWN
from servable.progress import Progress

# What takes a file in is imported by what does so: every server asks whether it is given a file, and most are
# not, which would wait longer for these than for everything else that they import.
if TYPE_CHECKING:
    from servable.workflows.outcomes import AddOutcome

_LONGEST_NAME = 128


class Taken(NamedTuple):
    """A model file that was taken in and is deployed.

    Attributes:
        name: of the model.
        outcome: of ``add``; None when the newest version was made from this very file.
        version: that is deployed.
    """

    name: str
    outcome: "AddOutcome | None"
    version: int


def take_in(
    path: str | Path,
    *,
    sample: str | Path | None = None,
    trust: bool = False,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> Taken:
    """Take a model file in under its own name and deploy it.

    Several processes may do so with one file at once: one of them makes the version, the others find it.

    Args:
        path: of the model file.
        sample: rows that the model accepts; with one, a new version is always made.
        trust: whether code in the file may run.
        home: the folder of the registry; looked up, and made, when it does not exist.
        progress: told of every stage.

    Raises:
        SettingInvalid: no name can be made from the file's.
        ServableError: as ``add``.
    """
    from servable.workflows.deploy import deploy
    from servable.workflows.sources import model_path

    name = name_of(Path(path))
    with _alone(model_path(path)):
        known = None if sample is not None else _same_file(Path(path), name, home)
        if known is not None:
            deploy(f"{name}:{known}", home=home)
            return Taken(name, None, known)
        from servable.workflows.add import add  # The one that takes longest.

        outcome = add(path, name=name, sample=sample, trust=trust, deploy=True, home=home, progress=progress)
        return Taken(name, outcome, outcome.version)


def is_path(text: str) -> bool:
    """Whether what is to be served is a file: it has a folder, a model file's ending, or exists."""
    endings = tuple(ending for known in KNOWN.values() for ending in known.suffixes)
    return "/" in text or text.lower().endswith(endings) or Path(text).is_file()


def name_of(path: Path) -> str:
    """The model name made from a file's: ``My Model v2.pkl`` becomes ``my-model-v2``.

    Raises:
        SettingInvalid: nothing of the file's name can be used.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:_LONGEST_NAME]
    if not name:
        raise SettingInvalid(
            f"No model name can be made from {path.name}; use servable add {path} --name NAME --deploy."
        )
    return name


def _same_file(path: Path, name: str, home: str | Path | None) -> int | None:
    """The newest version of a name, if it was made from a file with this content."""
    from servable.workflows.look import describe
    from servable.workflows.sources import model_digest

    try:
        found = describe(name, home=home)
    except NotFoundError:
        return None
    return found.version if found.source.get("sha256") == model_digest(path) else None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else takes this file in within the block. A process that dies gives its turn up."""
    with converted({OSError: ArtifactUnreadable}, f"{path} cannot be read: {{}}."):
        # A folder can be locked like a file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Some file systems know no locks; two processes that start at once make two equal versions there.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
