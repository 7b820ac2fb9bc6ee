"""Where traffic lies: Parquet segments of predictions and of feedback below a home, each written whole.

A segment is ``HOME/traffic/MODEL/KIND/DATE/SERVER-N.parquet``; the date is that of its first row, in UTC. It
appears under its name only when all of it is on the disk and is never changed afterwards, so whoever lists
the folder may read every file there. Old ones are removed whole. DuckDB, pyarrow and any warehouse read them
with ``traffic/MODEL/predictions/*/*.parquet``.

pyarrow is imported when it is first needed, by those who capture or read traffic alone.
"""

import os
import secrets
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from servable.artifact.files import storage_errors, sync_folder
from servable.errors import DependencyMissing, StorageFailed

#: What is kept of a model's traffic.
Kind = Literal["predictions", "feedback"]
#: The folder of a home that holds the traffic of all models.
TRAFFIC = "traffic"
_SUFFIX = ".parquet"
_KEY = ".key"
_KEY_BYTES = 32


def need_pyarrow() -> None:
    """Make sure that pyarrow is there, and import all of it that traffic needs.

    Raises:
        DependencyMissing: it is not; the message names the extra.
    """
    try:
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet  # noqa: F401 - imported now, so that no later import takes its time
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            "Captured traffic and feedback need pyarrow, which is not installed; "
            "run: pip install 'servable[columns]'"
        ) from missing


class TrafficStore:
    """The traffic of one home. Safe to share between threads and processes.

    Args:
        home: the folder of the registry; it need not exist before something is written.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / TRAFFIC

    def key(self) -> bytes:
        """The key of the hashes of this home, which is made when it is first asked for.

        Whoever can read the file can try out values; it is readable for its owner alone.

        Raises:
            StorageFull: no space left.
            StorageFailed: it cannot be read or written, or is damaged.
        """
        path = self.root / _KEY
        with storage_errors("reading the key of captured values"):
            if not path.exists():
                _make_key(path)
            key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise StorageFailed(f"{path} is no key of {_KEY_BYTES} bytes; restore it from a backup.")
        return key

    def models(self) -> tuple[str, ...]:
        """Every model of which there is traffic, sorted."""
        return tuple(sorted(name for name in _names(self.root) if not name.startswith(".")))

    def segments(
        self, model: str, kind: Kind, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[Path, ...]:
        """The files that may hold rows of a span of time, by date and name.

        Args:
            model: its name.
            kind: predictions or feedback.
            since: rows from here on; None for all.
            until: rows before here; None for all.
        """
        folder = self.root / model / kind
        # A segment is named by its first row and may reach into the next day.
        first = None if since is None else _day(since) - timedelta(days=1)
        last = None if until is None else _day(until)
        found: list[Path] = []
        for name in sorted(_names(folder)):
            day = _date(name)
            if day is None or (first is not None and day < first) or (last is not None and day > last):
                continue
            found.extend(
                folder / name / file
                for file in sorted(_names(folder / name))
                if file.endswith(_SUFFIX) and not file.startswith(".")
            )
        return tuple(found)

    def write(self, model: str, kind: Kind, name: str, table: Any, first: datetime) -> Path:
        """Write one segment; when this returns it is durable, and before that nobody sees it.

        Writing one of the same name again replaces it.

        Args:
            model: its name.
            kind: predictions or feedback.
            name: ``SERVER-N``, unique among all servers.
            table: a ``pyarrow.Table``.
            first: when its first row was taken.

        Raises:
            StorageFull: no space left.
            StorageFailed: the storage refuses it.
        """
        from pyarrow import parquet

        folder = self.root / model / kind / _day(first).isoformat()
        path = folder / f"{name}{_SUFFIX}"
        draft = folder / f".{name}-{uuid.uuid4().hex}.tmp"
        with storage_errors(f"writing {kind} of {model}"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("wb") as file:
                    # Compression finds what is repeated; dictionaries of ids and numbers, which seldom
                    # are, would take twice the time and more space.
                    parquet.write_table(
                        table, file, compression="zstd", compression_level=1, use_dictionary=False
                    )
                    file.flush()
                    os.fsync(file.fileno())
                draft.rename(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
            sync_folder(folder)
        return path

    def read(self, paths: Iterable[Path], columns: Iterable[str] | None = None) -> list[Any]:
        """The tables of segments; one that was removed meanwhile is passed over.

        Args:
            paths: as ``segments`` gives them.
            columns: only these, where a segment has them; None for all.

        Raises:
            DependencyMissing: pyarrow is not installed.
            StorageFailed: a file cannot be read.
        """
        need_pyarrow()
        import pyarrow
        from pyarrow import parquet

        wanted = None if columns is None else frozenset(columns)
        tables = []
        for path in paths:
            try:
                with parquet.ParquetFile(path) as file:
                    names = file.schema_arrow.names
                    chosen = names if wanted is None else [name for name in names if name in wanted]
                    tables.append(file.read(columns=chosen, use_threads=False))
            except FileNotFoundError:
                continue
            except (OSError, pyarrow.ArrowException) as error:
                raise StorageFailed(f"The segment {path} cannot be read ({error}).") from error
        return tables

    def remove_before(self, day: date) -> int:
        """Remove the segments of all models from days before this one; how many there were.

        What a killed writer left behind goes with the day that it belongs to.
        """
        removed = 0
        for model in self.models():
            for kind in ("predictions", "feedback"):
                folder = self.root / model / kind
                for name in _names(folder):
                    held = _date(name)
                    if held is not None and held < day:
                        removed += _emptied(folder / name)
        return removed


def _make_key(path: Path) -> None:
    """Make a key; of several servers that do at once, the first one's is everybody's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{_KEY}-{uuid.uuid4().hex}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
        os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _emptied(folder: Path) -> int:
    """Remove a folder of segments; best effort, since another server may do the same."""
    removed = 0
    for name in _names(folder):
        try:
            (folder / name).unlink()
        except OSError:
            continue
        removed += name.endswith(_SUFFIX)
    try:
        folder.rmdir()
    except OSError:
        return removed
    return removed


def _names(folder: Path) -> list[str]:
    """The names in a folder; none where there is no such folder."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageFailed(f"The folder {folder} cannot be read ({error.strerror}).") from error


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _date(name: str) -> date | None:
    """The day that a folder is named by; None for any other folder."""
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None
