"""Where traffic lies: Parquet segments of predictions and of feedback, each written whole.

A segment is ``traffic/MODEL/KIND/DATE/SERVER-N.parquet`` in the home, or in the blob store where there is
one; the date is that of its first row, in UTC. It appears under its name only when all of it is durable and
is never changed afterwards, so whoever lists the folder may read all of it. Old ones are removed whole, and
those of a day are put together into larger ones (``compaction``).
DuckDB, pyarrow and any warehouse read them with ``traffic/MODEL/predictions/*/*.parquet``.

pyarrow is imported when it is first needed, by those who capture or read traffic alone.
"""

import hashlib
import os
import secrets
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import msgspec

from servable.artifact.blob_files import blob_files
from servable.artifact.files import storage_errors, sync_folder
from servable.errors import DependencyMissing, StorageFailed
from servable.logs import fields, logger
from servable.monitoring.compaction import LEDGER, Ledger, is_merged, seen
from servable.monitoring.compaction import SEGMENT as _SUFFIX
from servable.monitoring.sealed_tables import needed, opened_table
from servable.monitoring.sealing import NoSubjectKeys, Secret, SubjectKeys
from servable.monitoring.segment_places import place_of
from servable.settings import load_settings

_log = logger("traffic")
#: What is kept of a model's traffic.
Kind = Literal["predictions", "feedback"]
KINDS: tuple[Kind, ...] = ("predictions", "feedback")
#: The folder of a home, and of a blob store, that holds the traffic of all models.
TRAFFIC = "traffic"
_KEY = ".key"
#: The key in a blob store lies beside the folder of segments, so that readers of these need not see it.
_SHARED_KEY = "capture.key"
_KEY_BYTES = 32


class Segment(NamedTuple):
    """A segment that was read.

    Attributes:
        path: as it was listed.
        table: ``pyarrow.Table``; None where it is damaged.
    """

    path: PurePath
    table: Any


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
        blob_url: of the blob store in which segments lie; empty: they lie in the home; None: as the settings
            say.
        keys: of the subjects of rows that are sealed; without any, such rows are not there.

    Raises:
        SettingInvalid: the settings cannot be read.
    """

    def __init__(self, home: Path, blob_url: str | None = None, keys: SubjectKeys | None = None) -> None:
        #: The folder in the home. What a server needs for itself lies there in any case.
        self.root = home / TRAFFIC
        self._url = load_settings({"home": str(home)}).blob_url if blob_url is None else blob_url
        #: Where segments lie.
        self.place = place_of(self.root, self._url)
        self.keys: SubjectKeys = NoSubjectKeys() if keys is None else keys
        self._secret: Secret | None = None

    def key(self) -> bytes:
        """The key of the hashes of this home, which is made when it is first asked for.

        With a blob store it lies there, so that the hashes of all machines are alike. Whoever can read it can
        try out values; in a home it is readable for its owner alone.

        Raises:
            StorageFull: no space left.
            StorageFailed: it cannot be read or written, or is damaged.
        """
        if self._url:
            return self._shared_key()
        path = self.root / _KEY
        with storage_errors("reading the key of captured values"):
            if not path.exists():
                _make_key(path)
            return _checked(path.read_bytes(), str(path))

    def secret(self) -> Secret:
        """What seals rows of this home; raises what ``key`` does."""
        if self._secret is None:
            self._secret = Secret(self.key())
        return self._secret

    def _shared_key(self) -> bytes:
        """The key in the blob store; that of the home becomes it where there is one."""
        with blob_files(self._url, "reading the key of captured values") as (files, root):
            path = f"{root}/{_SHARED_KEY}"
            if not files.exists(path):
                own = self.root / _KEY
                made = own.read_bytes() if own.exists() else secrets.token_bytes(_KEY_BYTES)
                files.makedirs(root, exist_ok=True)
                # Of several servers that make one at once, the first one's is everybody's.
                with suppress(FileExistsError):
                    files.pipe_file(path, made, mode="create")
                files.invalidate_cache()
            return _checked(files.cat_file(path), path)

    def models(self) -> tuple[str, ...]:
        """Every model of which there is traffic, sorted.

        Raises:
            StorageFailed: the storage cannot be read.
        """
        return tuple(sorted(name for name in self.place.folders() if not name.startswith(".")))

    def segments(
        self, model: str, kind: Kind, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[PurePath, ...]:
        """The files that may hold rows of a span of time, by date and name.

        Args:
            model: its name.
            kind: predictions or feedback.
            since: rows from here on; None for all.
            until: rows before here; None for all.

        Raises:
            StorageFailed: the storage cannot be read.
        """
        # A segment is named by its first row and may reach into the next day.
        first = date.min if since is None else _day(since) - timedelta(days=1)
        last = date.max if until is None else _day(until)

        return tuple(sorted(self._seen(self.files(model, kind, first, last)), key=str))

    def files(
        self, model: str, kind: Kind, first: date = date.min, last: date = date.max
    ) -> Sequence[PurePath]:
        """All files in the folders of days, also those whose rows are in another one; in no order.

        Raises:
            StorageFailed: the storage cannot be read.
        """

        def wanted(name: str) -> bool:
            day = _date(name)
            return day is not None and first <= day <= last

        return self.place.files(f"{model}/{kind}", wanted)

    def ledger(self, folder: PurePath) -> Ledger:
        """What replaces what in the folder of a day; empty where nothing does.

        Raises:
            StorageFailed: it cannot be read, or is damaged.
        """
        return self._ledgers([folder])[folder]

    def _ledgers(self, folders: Iterable[PurePath]) -> dict[PurePath, Ledger]:
        ledgers = {}
        for found in self.place.read([folder / LEDGER for folder in folders]):
            if found.source is None:
                ledgers[found.path.parent] = Ledger()
                continue
            try:
                ledgers[found.path.parent] = msgspec.json.decode(found.source.read(), type=Ledger)
            except msgspec.MsgspecError as error:
                raise StorageFailed(
                    f"{found.path} is damaged, so nobody knows which segments are in others; restore it."
                ) from error
            finally:
                found.source.close()
        return ledgers

    def _seen(self, paths: Iterable[PurePath]) -> Iterator[PurePath]:
        """The segments among files that hold every row once."""
        days: dict[PurePath, list[PurePath]] = {}
        for path in paths:
            days.setdefault(path.parent, []).append(path)
        # One that was put together may have come while its ledger was not listed yet, but is never before it.
        ledgers = self._ledgers(
            folder for folder, held in days.items() if any(is_merged(path.name) for path in held)
        )
        for folder, held in days.items():
            shown = seen({path.name for path in held}, ledgers.get(folder, Ledger()))
            yield from (path for path in held if path.name in shown)

    def write(self, model: str, kind: Kind, name: str, table: Any, first: datetime) -> PurePath:
        """Write one segment; when this returns it is durable, and before that nobody sees it.

        Writing one of the same name again replaces it.

        Args:
            model: its name.
            kind: predictions or feedback.
            name: ``SERVER-N``, unique among all servers.
            table: a ``pyarrow.Table``.
            first: when its first row was taken.

        Returns:
            Its path in the storage.

        Raises:
            StorageFull: no space left.
            StorageFailed: the storage refuses it.
        """
        import pyarrow
        from pyarrow import parquet

        made = pyarrow.BufferOutputStream()
        # Compression finds what is repeated; dictionaries of ids and numbers, which seldom are, would take
        # twice the time and more space.
        parquet.write_table(table, made, compression="zstd", compression_level=1, use_dictionary=False)
        path = f"{model}/{kind}/{_day(first).isoformat()}/{name}{_SUFFIX}"
        return self.place.put(path, made.getvalue())

    def replace(self, segment: PurePath, table: Any) -> None:
        """Put a table in the place of a segment, for rows that had to go; raises what ``write`` does.

        Whoever read the segment before and remembers it learns of it by the erasure; see ``stamp``.
        """
        model, kind, day = segment.parts[-4:-1]
        moment = datetime.combine(date.fromisoformat(day), time(), UTC)
        self.write(model, "feedback" if kind == "feedback" else "predictions", segment.stem, table, moment)

    def each(self, paths: Iterable[PurePath], columns: Iterable[str] | None = None) -> Iterator[Segment]:
        """Segments one after the other; one that was removed meanwhile is passed over.

        The log names each that is damaged.

        Args:
            paths: as ``segments`` gives them.
            columns: only these, where a segment has them; None for all.

        Raises:
            DependencyMissing: pyarrow is not installed.
            StorageFailed: the storage cannot be read.
        """
        wanted = None if columns is None else frozenset(columns)
        for segment in self.stored(paths, wanted):
            table = None if segment.table is None else self.unsealed(segment, wanted)
            yield Segment(segment.path, table)

    def unsealed(self, segment: Segment, wanted: frozenset[str] | None = None) -> Any:
        """The table of a segment that was read as it lies, opened as far as anybody can.

        Args:
            segment: as ``stored`` gives it, not damaged.
            wanted: only these columns; None for all.
        """
        about = "/".join(segment.path.parts[-4:-2])
        return opened_table(segment.table, wanted, self.keys, self.secret, about)

    def stored(self, paths: Iterable[PurePath], wanted: frozenset[str] | None = None) -> Iterator[Segment]:
        """Segments as they lie, sealed rows unopened; see ``each``.

        Args:
            paths: as ``segments`` gives them.
            wanted: what is to be asked of ``unsealed``; None for all.
        """
        need_pyarrow()
        import pyarrow

        for found in self.place.read(paths):
            if found.source is None:
                continue
            table = None
            try:
                table = _table(found.source, wanted)
            except (OSError, pyarrow.ArrowException) as error:
                reason = str(error).splitlines()[0]
                _log.error(
                    "a damaged segment is passed over", extra=fields(segment=str(found.path), reason=reason)
                )
            yield Segment(found.path, table)

    def read(self, paths: Iterable[PurePath], columns: Iterable[str] | None = None) -> list[Any]:
        """The tables of segments, without those that are damaged or gone; see ``each``."""
        return [segment.table for segment in self.each(paths, columns) if segment.table is not None]

    def tables(
        self,
        model: str,
        kind: Kind,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: Iterable[str] | None = None,
    ) -> list[Any]:
        """The tables of the segments that may hold rows of a span of time; see ``segments`` and ``each``."""
        return self.read(self.segments(model, kind, since, until), columns)

    def stamp(self, model: str, since: datetime | None = None) -> str:
        """Differs when there are other segments of a model, or rows left them because somebody was erased.

        It is empty where there are no segments.

        Args:
            model: its name.
            since: of rows from here on; None for all.

        Raises:
            StorageFailed: the storage cannot be read.
        """
        paths = [path for kind in KINDS for path in self.segments(model, kind, since)]
        told = "\n".join([self.keys.stamp(), *map(str, paths)])
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest() if paths else ""

    def remove_before(self, day: date) -> int:
        """Remove the segments of all models from days before this one; how many there were.

        What a killed writer left behind goes with the day that it belongs to.

        Raises:
            StorageFailed: the storage cannot be read.
        """

        def gone(name: str) -> bool:
            held = _date(name)
            return held is not None and held < day

        folders = [f"{model}/{kind}" for model in self.models() for kind in KINDS]
        return sum(name.endswith(_SUFFIX) for folder in folders for name in self.place.remove(folder, gone))


def _table(source: Any, wanted: frozenset[str] | None) -> Any:
    """What is in a file; raises ``ArrowException`` or ``OSError`` where that is no table."""
    from pyarrow import parquet

    with source, parquet.ParquetFile(source) as file:
        return file.read(columns=needed(file.schema_arrow, wanted), use_threads=False)


def _checked(key: bytes, where: str) -> bytes:
    if len(key) != _KEY_BYTES:
        raise StorageFailed(f"{where} is no key of {_KEY_BYTES} bytes; restore it from a backup.")
    return key


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


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _date(name: str) -> date | None:
    """The day that a folder is named by; None for any other folder."""
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None
