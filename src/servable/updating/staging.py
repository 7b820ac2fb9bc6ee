"""What a turn has made so far, in a folder of its own below the home: rows, the challenger, the package.

Each appears under its name only when it is whole, so that a turn that was killed finds a part finished or not
at all. The folder is gone when the turn is over.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from servable.artifact.files import storage_errors, sync_folder, write_file
from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import read_signature, write_signature
from servable.frameworks import lookup
from servable.frameworks.base import Trained

if TYPE_CHECKING:
    import pandas as pd

_ROWS, _CHALLENGER, _PACKAGE = "rows.parquet", "challenger", "package"
#: Beside a package, not in it: its head before it is sealed.
_HEAD, _VARIANT = "head.msgpack", "variant.json"


class Challenger(NamedTuple):
    """A fitted model and the name of the adapter that writes it."""

    adapter: str
    trained: Trained


class Staging:
    """The folder of one turn. Belongs to the one process that works on the turn.

    Args:
        home: the folder of the registry.
        model: whose turn.
        turn: its number.
    """

    def __init__(self, home: Path, model: str, turn: int) -> None:
        self._all = home / "updates" / model
        self.folder = self._all / str(turn)

    def open(self) -> None:
        """Make the folder, and clear those of turns that are over.

        Raises:
            StorageFull: no space left.
            StorageFailed: the home cannot be written.
        """
        with storage_errors("making the folder of a turn"):
            self.folder.mkdir(parents=True, exist_ok=True)
            for other in self._all.iterdir():
                if other != self.folder and other.is_dir():
                    shutil.rmtree(other, ignore_errors=True)

    def clear(self) -> None:
        """Remove the folder; best effort, the next turn does it otherwise."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def finished(self) -> frozenset[str]:
        """The steps whose outcome lies here: ``collect``, ``train``, ``optimise``."""
        made = {"collect": _ROWS, "train": _CHALLENGER, "optimise": _PACKAGE}
        return frozenset(step for step, name in made.items() if (self.folder / name).exists())

    def keep_rows(self, frame: "pd.DataFrame") -> None:
        """Keep the rows of the turn."""
        self._file(_ROWS, lambda path: frame.to_parquet(path, index=False))

    def rows(self) -> "pd.DataFrame":
        """The rows that were kept."""
        import pandas as pd

        return pd.read_parquet(self.folder / _ROWS)

    def keep_challenger(self, challenger: Challenger) -> None:
        """Keep a fitted model."""

        def write(folder: Path) -> None:
            variant = lookup.adapter(challenger.adapter).write(challenger.trained, folder)
            write_signature(folder, challenger.trained.signature)
            kept = {"adapter": challenger.adapter, "variant": variant,
                    "libraries": dict(challenger.trained.libraries)}  # fmt: skip
            write_file(folder / _VARIANT, msgspec.json.encode(kept))

        self._made(_CHALLENGER, write)

    def challenger(self, *, trust: bool = False) -> Challenger:
        """The model that was kept.

        Args:
            trust: whether it may run code when it is opened, as that of the version before it may.

        Raises:
            ArtifactUntrusted: it would, and ``trust`` is false.
        """
        folder = self.folder / _CHALLENGER
        kept = msgspec.json.decode((folder / _VARIANT).read_bytes())
        variant = msgspec.convert(kept["variant"], Variant)
        adapter = lookup.adapter(kept["adapter"])
        trained = adapter.restore(folder, variant, read_signature(folder), trust=trust)
        return Challenger(kept["adapter"], trained._replace(libraries=kept["libraries"]))

    def keep_package(self, fill: Callable[[Path], Manifest]) -> Manifest:
        """Keep a package that is not sealed yet."""
        heads: list[Manifest] = []

        def write(folder: Path) -> None:
            heads.append(fill(folder))
            write_file(self.folder / _HEAD, msgspec.msgpack.encode(heads[0], enc_hook=_plain))

        self._made(_PACKAGE, write)
        return heads[0]

    def package(self) -> tuple[Path, Manifest]:
        """The folder of the package that was kept, ready to be published, and its head."""
        # MessagePack, because a difference without bound has no word in JSON.
        head = msgspec.msgpack.decode((self.folder / _HEAD).read_bytes(), type=Manifest)
        return self.folder / _PACKAGE, head

    def _file(self, name: str, write: Callable[[Path], Any]) -> None:
        """Make a file that appears whole."""
        draft = self.folder / f"{name}.tmp"
        with storage_errors(f"keeping {name} of a turn"):
            write(draft)
            descriptor = os.open(draft, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            draft.rename(self.folder / name)
            sync_folder(self.folder)

    def _made(self, name: str, fill: Callable[[Path], None]) -> None:
        """Make a folder that appears whole."""
        draft, target = self.folder / f"{name}.tmp", self.folder / name
        with storage_errors(f"keeping the {name} of a turn"):
            for former in (draft, target):
                shutil.rmtree(former, ignore_errors=True)
            draft.mkdir()
            fill(draft)
            draft.rename(target)
            sync_folder(self.folder)


def _plain(value: Any) -> Any:
    """What msgspec cannot write by itself: a number of numpy."""
    return value.item()
