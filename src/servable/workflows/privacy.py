"""``privacy``: what is held about a person is handed out, or erased. Running servers follow at once."""

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from servable.artifact.files import storage_errors
from servable.artifact.personal import subject_header
from servable.clock import Clock, SystemClock, timestamp
from servable.errors import SettingInvalid, StorageFull
from servable.logs import logger
from servable.monitoring.joined import united
from servable.monitoring.journal import journals, settle_orphans
from servable.monitoring.people import People, Removed, remove, spelled, tables_about
from servable.monitoring.segments import TrafficStore, need_pyarrow
from servable.registry.home import Home
from servable.registry.policy import read_policy
from servable.registry.reserve import Reserve
from servable.settings import load_settings
from servable.workflows.compacting import stand_alone
from servable.workflows.homes import opened

_log = logger("privacy")
#: Seconds for which erasing waits for servers to write what they hold, and between two looks.
PATIENCE_S, _LOOK_S = 15.0, 0.1
#: Seconds in which servers write captured rows that are in memory, after they learned that they must.
_WRITTEN_S = 1.5
#: Rows of a turn that goes on, below the home.
_TURNS = "updates/*/*/rows.parquet"
#: What is found in traffic and might name values; it is found anew within a minute.
_DRIFT = "drift"


class ExportOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is held about a person.

    Attributes:
        rows: captured rows.
        feedback: rows of feedback.
        models: in whose traffic they are.
        output: the file that they were written to; empty for none.
        records: all of them, as JSON has them; empty where there is a file.
    """

    rows: int
    feedback: int
    models: tuple[str, ...]
    output: str = ""
    records: tuple[dict[str, Any], ...] = ()


class EraseOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The receipt of an erasure; it says nothing of who was erased.

    Attributes:
        receipts: a keyed hash of each that was erased, the same each time.
        at: when, ISO 8601 in UTC.
        keys: how many keys there were until now.
        sealed: captured rows that became unreadable with the key, here and in every backup.
        rows: captured rows that were taken out of segments.
        feedback: rows of feedback that were taken out.
        segments: how many were written anew.
        models: in whose traffic something was found.
        complete: whether nothing is left to be done; else ``left`` says what.
        left: sentences.
    """

    receipts: tuple[str, ...]
    at: str
    keys: int
    sealed: int
    rows: int
    feedback: int
    segments: int
    models: tuple[str, ...]
    complete: bool
    left: tuple[str, ...] = ()


def export_subject(
    *subjects: str,
    where: Mapping[str, str] | None = None,
    output: str | Path | None = None,
    home: str | Path | None = None,
) -> ExportOutcome:
    """Everything that is held about a person in captured traffic and feedback.

    Args:
        subjects: as the input or header holds them that ``deploy`` names as ``capture_subject``.
        where: values by the name of an input, for what was captured without a subject.
        output: a file, ``.jsonl`` or ``.parquet``, to which it is written; replaced when it is there.
        home: the folder of the registry; looked up when None.

    Raises:
        SettingInvalid: nobody is named, or the file has another ending.
        DependencyMissing: pyarrow is not installed.
        StorageFailed: the storage cannot be read, or the file not be written.
    """
    need_pyarrow()
    target = None if output is None else Path(output)
    if target is not None and target.suffix.lower() not in (".jsonl", ".parquet"):
        raise SettingInvalid(f"{target.name} is neither .jsonl nor .parquet; name one such as person.jsonl.")
    with opened(home) as place:
        store = TrafficStore(place.path, keys=place.subjects)
        named = subjects or (msgspec.json.encode(where, order="sorted").decode(),)
        ids = list(map(store.secret().subject_id, named))
        place.audit.record("privacy.export", subjects=ids[:100], count=len(ids))
        settle_orphans(store)
        found: list[Any] = []
        counts = {"predictions": 0, "feedback": 0}
        models = []
        for model in store.models():
            held = tables_about(store, model, _people(place, store, model, subjects, where or {}))
            for kind, tables in held.items():
                counts[kind] += sum(table.num_rows for table in tables)
                found += [_labelled(table, model, kind) for table in tables if table.num_rows]
            if any(table.num_rows for tables in held.values() for table in tables):
                models.append(model)
    if target is not None:
        _write(found, target)
    records = () if target is not None else tuple(row for table in found for row in _records(table))
    return ExportOutcome(
        rows=counts["predictions"],
        feedback=counts["feedback"],
        models=tuple(models),
        output="" if target is None else str(target),
        records=records,
    )


def erase_subject(
    *subjects: str,
    where: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
    home: str | Path | None = None,
    clock: Clock | None = None,
) -> EraseOutcome:
    """Erase a person from captured traffic and feedback; the rows of all others stay.

    The key of the subject is destroyed first, so that what is sealed under it is noise from then on, in
    backups of segments too. Then servers write what they hold, and what is in clear is taken out. It may be
    done again at any time, and must be when it was killed or is not complete.

    Args:
        subjects: as ``export_subject``.
        where: likewise.
        patience_s: seconds for which servers are waited for.
        home: the folder of the registry; looked up when None.
        clock: dates the erasure; the machine's own when None.

    Raises:
        SettingInvalid: nobody is named.
        DependencyMissing: pyarrow is not installed.
        StorageFull: no space left for what must be written anew, not even with what is kept for it; do it
            again.
        StorageFailed: the storage or the registry fails; do it again.
    """
    need_pyarrow()
    now = (clock or SystemClock()).now()
    reserve = Reserve(Path(load_settings({"home": home}).home))
    try:
        outcome = _erased(subjects, where, patience_s, home, now)
    except StorageFull:
        if not reserve.release():
            raise
        outcome = _erased(subjects, where, patience_s, home, now)
    if not reserve.keep():
        _log.warning("no room is kept for the next erasure, because the disk is full")
    return outcome


def _erased(
    subjects: Sequence[str],
    where: Mapping[str, str] | None,
    patience_s: float,
    home: str | Path | None,
    now: datetime,
) -> EraseOutcome:
    """See ``erase_subject``."""
    with opened(home) as place:
        store = TrafficStore(place.path, keys=place.subjects)
        _named(subjects, where or {})
        secret = store.secret()
        named = subjects or (msgspec.json.encode(where, order="sorted").decode(),)
        receipts = tuple(map(secret.subject_id, named))
        before = journals(store.root)
        destroyed = place.subjects.erase(receipts, round(now.timestamp() * 1e6))
        captures = any(read_policy(each.policy).capture for each in place.deployments.all())
        left = _settled(store, before, patience_s, _WRITTEN_S if where and captures else 0.0)
        removed = _removed(place, store, subjects, where or {}, left)
        touched = {
            model: each for model, each in removed.items() if each.sealed or each.rows or each.feedback
        }
        for model in touched:
            place.findings.put(model, _DRIFT, {})
        if touched and any(place.path.glob(_TURNS)):
            left.append("An update goes on that may have read the rows; they go when it is over.")
        if not place.state.scrub():
            left.append("Somebody read the database all the time, so that its log still holds old pages.")
    return EraseOutcome(
        receipts=receipts,
        at=timestamp(now),
        keys=destroyed,
        sealed=sum(each.sealed for each in removed.values()),
        rows=sum(each.rows for each in removed.values()),
        feedback=sum(each.feedback for each in removed.values()),
        segments=sum(each.segments for each in removed.values()),
        models=tuple(touched),
        complete=not left,
        left=tuple(left),
    )


def _removed(
    place: Home, store: TrafficStore, subjects: Sequence[str], where: Mapping[str, str], left: list[str]
) -> dict[str, Removed]:
    """Take people out of the traffic of every model; ``left`` gets what is left to be done."""
    removed: dict[str, Removed] = {}
    alone = True
    for model in store.models():
        alone = stand_alone(place) and alone
        removed[model] = remove(store, model, _people(place, store, model, subjects, where))
    if not alone:
        left.append("Segments were put together all the time, in which rows may have stayed.")
    left += [f"The segment {path} cannot be read." for each in removed.values() for path in each.damaged]
    return removed


def _settled(store: TrafficStore, before: frozenset[str], patience_s: float, least_s: float) -> list[str]:
    """Wait until servers wrote what they hold; what is left to be done, if anything.

    Args:
        store: of the home.
        before: journals of feedback that must become segments.
        patience_s: most seconds.
        least_s: fewest seconds: of captured rows in memory nothing tells when they were written.
    """
    started = time.monotonic()
    while True:
        settle_orphans(store)
        waiting = before & journals(store.root)
        passed_s = time.monotonic() - started
        if not waiting and passed_s >= least_s:
            return []
        if waiting and passed_s > patience_s:
            return [f"{len(waiting)} journals of feedback are held by servers that do not answer."]
        time.sleep(_LOOK_S)


def _named(subjects: Sequence[str], where: Mapping[str, str]) -> None:
    if not any(subjects) and not where:
        raise SettingInvalid("Say who: a subject, or --where COLUMN=VALUE.")
    if subjects and where:
        raise SettingInvalid("Say who by a subject or by --where, not both.")


def _people(
    place: Home, store: TrafficStore, model: str, subjects: Sequence[str], where: Mapping[str, str]
) -> People:
    """Whom to look for in the traffic of a model."""
    _named(subjects, where)
    if where:
        return People(frozenset(), {name: spelled(store, value) for name, value in where.items()})
    subject = place.subjects.column(model)
    # Of a header no value is kept, so rows from before it was declared are about nobody known.
    column = "" if subject_header(subject) else subject
    # What was captured before the subject was declared is in clear.
    forms = frozenset[str]().union(*(spelled(store, subject) for subject in subjects))
    ids = frozenset(map(store.secret().subject_id, subjects))
    return People(ids, {column: forms} if column else {})


def _labelled(table: Any, model: str, kind: str) -> Any:
    """A table with the model and the kind in front."""
    import pyarrow as pa

    said = {"model": pa.array([model] * table.num_rows), "kind": pa.array([kind] * table.num_rows)}
    return pa.table({**said, **{name: table[name] for name in table.column_names}})


def _records(table: Any) -> list[dict[str, Any]]:
    """The rows of a table as JSON has them."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(table.to_pylist())
    return plain


def _write(tables: list[Any], target: Path) -> None:
    """The whole file or nothing."""
    from pyarrow import parquet

    draft = target.with_name(f".{target.name}-{uuid.uuid4().hex}.tmp")
    with storage_errors(f"writing {target.name}"):
        try:
            if target.suffix.lower() == ".parquet":
                parquet.write_table(united(tables), draft, compression="zstd")
            else:
                with draft.open("wb") as file:
                    for table in tables:
                        file.writelines(msgspec.json.encode(row) + b"\n" for row in table.to_pylist())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
