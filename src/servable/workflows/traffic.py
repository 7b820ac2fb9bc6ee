"""``traffic``: what was captured of a model, joined with what turned out."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from servable.artifact.files import storage_errors
from servable.clock import Clock, SystemClock, span_s, timestamp
from servable.errors import SettingInvalid
from servable.monitoring.joined import join_stored
from servable.monitoring.journal import settle_orphans
from servable.monitoring.segments import TrafficStore, need_pyarrow
from servable.workflows.homes import opened
from servable.workflows.monitored import TrafficOutcome, TrafficVersion
from servable.workflows.quality import written_every_s

_SHOWN = ("request_id", "row", "at", "version", "code", "out.prediction", "outcome", "reward")
_NEWEST = 10


def traffic(
    name: str,
    *,
    since: str | datetime | None = None,
    output: str | Path | None = None,
    home: str | Path | None = None,
    clock: Clock | None = None,
) -> TrafficOutcome:
    """The captured requests of a model and their answers, with the outcomes that came back.

    Args:
        name: a model.
        since: only from here on: a moment (ISO 8601, in UTC without a zone), or how long ago: ``2h``, ``7d``.
        output: a Parquet file to which all rows are written; replaced when it is there.
        home: the folder of the registry; looked up when None.
        clock: says what time it is; the machine's own when None.

    Raises:
        ModelNotFound: there is no such model.
        SettingInvalid: ``since`` is no time, or ``output`` no Parquet file.
        DependencyMissing: pyarrow is not installed.
        StorageFailed: a segment cannot be read, or the file not be written.
    """
    need_pyarrow()
    start = moment(since, (clock or SystemClock()).now()) if since is not None else None
    target = None if output is None else Path(output)
    if target is not None and target.suffix.lower() not in (".parquet", ".pq"):
        raise SettingInvalid(f"{target.name} is no Parquet file; name one such as traffic.parquet.")
    with opened(home) as place:
        model = place.models.resolve(name).model
        store = TrafficStore(place.path, keys=place.subjects)
        settle_orphans(store)
        found = join_stored(store, model, start)
        every_s = written_every_s(place, model)
    if target is not None:
        _write(found.table, target)
    return TrafficOutcome(
        model=model,
        versions=_versions(found.table),
        unknown=found.unknown,
        newest=_newest(found.table),
        output="" if target is None else str(target),
        written_every_s=every_s,
    )


def moment(since: str | datetime, now: datetime) -> datetime:
    """The moment that somebody means.

    Args:
        since: a moment, or how long before now.
        now: aware.

    Raises:
        SettingInvalid: it is neither.
    """
    if isinstance(since, str):
        text = since.strip()
        ago = span_s(text)
        if ago is not None:
            return now - timedelta(seconds=ago)
        try:
            since = datetime.fromisoformat(text)
        except ValueError:
            raise SettingInvalid(
                f"{text[:60]!r} is no time; say one such as 2026-01-31T12:00:00, or how long ago: 2h, 7d."
            ) from None
    return since if since.tzinfo is not None else since.replace(tzinfo=UTC)


def _write(table: Any, target: Path) -> None:
    """The whole file or nothing."""
    from pyarrow import parquet

    draft = target.with_name(f".{target.name}-{uuid.uuid4().hex}.tmp")
    with storage_errors(f"writing {target.name}"):
        try:
            parquet.write_table(table, draft, compression="zstd")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def _versions(table: Any) -> tuple[TrafficVersion, ...]:
    import pyarrow as pa

    version, at = np.asarray(table["version"]), np.asarray(table["at"].cast(pa.int64()))
    labelled = np.asarray(table["labelled_at"].is_valid())
    names = table.column_names
    failed = np.asarray(table["code"]) != "ok" if "code" in names else np.zeros(len(version), bool)
    made = []
    for number in np.unique(version).tolist():
        rows = version == number
        first, last = (
            datetime.fromtimestamp(int(each) / 1e6, UTC) for each in (at[rows].min(), at[rows].max())
        )
        made.append(
            TrafficVersion(
                version=number,
                rows=int(rows.sum()),
                errors=int((rows & failed).sum()),
                labelled=int((rows & labelled).sum()),
                since=timestamp(first),
                until=timestamp(last),
            )
        )
    return tuple(made)


def _newest(table: Any) -> tuple[dict[str, Any], ...]:
    shown = [name for name in _SHOWN if name in table.column_names]
    rows = table.select(shown).slice(max(0, table.num_rows - _NEWEST)).to_pylist()
    return tuple({**row, "at": timestamp(row["at"])} for row in reversed(rows))
