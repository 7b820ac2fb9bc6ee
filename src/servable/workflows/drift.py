"""``drift``: what is served, or the rows of a file, against what a version learned from."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from servable.artifact.files import storage_errors
from servable.artifact.manifest import SAMPLE_FILE
from servable.artifact.package import Package, read_evaluation, read_profile, read_sample
from servable.artifact.profile import profile
from servable.artifact.sample import read_answers
from servable.artifact.signature import is_table
from servable.clock import Clock, SystemClock, timestamp
from servable.errors import DataError, ServableError
from servable.logs import fields, logger
from servable.monitoring.drift import Observed, judge
from servable.monitoring.drift_records import ColumnDrift, DriftReport, Limits
from servable.monitoring.joined import Traffic
from servable.monitoring.reference import Key, Reference, references
from servable.monitoring.segment_cache import SegmentCache
from servable.monitoring.segments import TrafficStore
from servable.monitoring.streams import follow
from servable.monitoring.vector_drift import judge_arrays
from servable.monitoring.vectors import same_width
from servable.monitoring.windows import Length, cut, length_of
from servable.progress import NoProgress, Progress
from servable.registry.findings import Findings
from servable.registry.home import Home
from servable.registry.records import VersionRecord
from servable.tensors import Arrays
from servable.workflows.drift_rows import Found, from_data, from_traffic
from servable.workflows.homes import opened

if TYPE_CHECKING:
    import pandas as pd

_log = logger("drift")
#: The kind of the findings about versions.
DRIFT = "drift"
#: The kind of what is remembered about a model's segments, under version 0.
READ = "drift_read"
#: A model is looked at again after so many times the seconds that the last look took.
_REST = 20.0
#: How far back captured traffic is looked at when nobody says, in days.
SPAN_DAYS = 30
_DAY = 86_400.0
#: Traffic of fewer days than this is cut into windows of rows.
_LEAST_DAYS = 3


def drift(
    reference: str,
    data: "str | Path | pd.DataFrame | None" = None,
    *,
    window: str | None = None,
    days: float = SPAN_DAYS,
    target: str | None = None,
    time: str | None = None,
    limits: Limits | None = None,
    report: str | Path | None = None,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> DriftReport:
    """Find out which columns of a version are no longer what they were, since when, and how much.

    Args:
        reference: ``name`` (what is deployed, else the newest version), ``name:3`` or ``name@alias``.
        data: a CSV or Parquet file, or a DataFrame, in order of time; for a model of pictures or sounds what
            ``evaluate`` takes; None for captured traffic.
        window: how long a window is: ``6h``, ``1d`` or a number of rows; None: to suit the rows.
        days: how far back captured traffic is looked at.
        target: the column of the data with the right answers, if it is not named as the model's answer.
        time: the column of the data that says when a row came.
        limits: what counts as drift.
        report: where to write the HTML report; None writes none.
        home: the folder of the registry; looked up when None.
        progress: told of every stage.

    Raises:
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        DataError: there are no rows, they do not fit, or the package keeps nothing to compare with.
        SettingInvalid: a window that cannot be used.
        DependencyMissing: an extra is not installed.
        StorageFailed: the storage failed.
    """
    watched = progress or NoProgress()
    clock = SystemClock()
    length = Length() if window is None else length_of(window)
    with opened(home) as place:
        record = _meant(place, reference)
        package = place.package(record)
        store = TrafficStore(place.path, keys=place.subjects)
        if data is not None:
            found = from_data(package, known_of(package), data, target=target, time=time, progress=watched)
        else:
            watched.begin("Read captured traffic")
            since = clock.now() - timedelta(days=days)
            found = from_traffic(store, record.model, record.version, package.signature, since)
            watched.done(f"{found.observed.rows:,} rows")
            if not found.observed.rows:
                raise DataError(
                    f"No traffic of {record.reference} was captured in the last {days:g} days; "
                    "let its deployment capture a share of it, or give a file of rows."
                )
    made = examine(record, package, found, length, limits or Limits(), clock.now(), watched)
    if report is not None:
        _write(report, made)
    return made


def _meant(home: Home, reference: str) -> VersionRecord:
    """The version that a reference means; a name alone means what is deployed."""
    if ":" not in reference and "@" not in reference:
        deployed = home.deployments.get(reference)
        if deployed is not None:
            return home.models.resolve(f"{reference}:{deployed.version}")
    return home.models.resolve(reference)


def examine(
    record: VersionRecord,
    package: Package,
    found: Found,
    length: Length,
    limits: Limits,
    now: datetime,
    progress: Progress,
) -> DriftReport:
    """Hold rows against what the package keeps.

    Raises:
        DataError: the package keeps nothing that the rows could be compared with.
        SettingInvalid: windows of a time over rows without one.
        DependencyMissing: scipy or river is not installed.
    """
    observed = found.observed
    comparable = [each for each in known_of(package) if each.key in observed.columns]
    kept = kept_arrays(package) if found.arrays else {}
    arrays = {
        key: rows for key, rows in found.arrays.items() if key in kept and same_width(kept[key], rows.values)
    }
    if not comparable and not arrays:
        raise DataError(
            f"The package of {record.reference} keeps no profile, evaluation or sample rows, so there is "
            "nothing to compare with; train it with Servable, or add it with --sample."
        )
    length = _length(length, observed)
    windows = cut(observed.rows, observed.at, length, limits.least_rows)
    progress.begin("Compare", total=len(windows))
    columns = judge(comparable, observed, windows, limits, progress)
    columns += judge_arrays(arrays, kept, observed, windows, limits)
    streams = follow(observed, limits)
    progress.done(f"{sum(column.state == 'drift' for column in columns)} of {len(columns)} columns drift")
    return DriftReport(
        model=record.model,
        version=record.version,
        data=found.source,
        rows=observed.rows,
        windows=len(windows),
        window=str(length) if length.seconds or length.rows else f"{windows[0].rows:,} rows",
        since=observed.when(0),
        until=observed.when(observed.rows - 1),
        columns=columns,
        streams=streams,
        notes=(*found.notes, *_notes(columns)),
        made_at=timestamp(now),
        limits=limits,
    )


def known_of(package: Package) -> tuple[Reference, ...]:
    """Everything that a package lets rows be compared with.

    Raises:
        ArtifactUnreadable: its records are damaged.
    """
    known = read_profile(package.folder)
    sample = {} if known is not None else _sample(package)
    if known is None and sample and is_table(package.signature.inputs):
        # A model that was trained elsewhere says what it takes by the rows that it was proven on.
        known = profile(package.signature, sample)
    return references(package.signature, known, read_evaluation(package.folder))


def kept_arrays(package: Package) -> dict[Key, NDArray[Any]]:
    """The rows of whole arrays that a package lets later ones be compared with ``[rows, ...]``.

    Raises:
        ArtifactUnreadable: its records are damaged.
    """
    inputs = {field.name for field in package.signature.inputs if field.is_tensor}
    taken = {Key("input", name): array for name, array in _sample(package).items() if name in inputs}
    given = {Key("output", name): array for name, array in read_answers(package.folder).items()}
    return {key: array for key, array in (taken | given).items() if array.dtype.kind in "biuf"}


def _sample(package: Package) -> Arrays:
    return read_sample(package.folder) if (package.folder / SAMPLE_FILE).is_file() else {}


def _length(length: Length, observed: Observed) -> Length:
    """Whole days for traffic of several days, when nobody says."""
    if length != Length() or observed.at is None:
        return length
    days = (float(observed.at[-1]) - float(observed.at[0])) / _DAY
    return Length(seconds=_DAY) if days >= _LEAST_DAYS else length


def _notes(columns: Sequence[ColumnDrift]) -> list[str]:
    notes = []
    for column in columns:
        if column.season:
            notes.append(
                f"The column {column.title} comes back every {column.season} windows, which looks like a "
                "season; make a window as long as a whole one"
            )
        elif column.episodes > 2:
            notes.append(f"The column {column.title} comes and goes: it drifted {column.episodes} times")
    unused = [column.name for column in columns if column.side == "unused" and column.state == "drift"]
    if unused:
        names = ", ".join(unused)
        notes.append(
            f"What training left out because it never varied does vary now: {names}; a model trained on "
            "newer rows can use it"
        )
    return notes


def _write(path: str | Path, report: DriftReport) -> None:
    from servable.training.drift_report import render

    page = render(report)
    with storage_errors(f"writing the report {path}"):
        Path(path).write_text(page, encoding="utf-8")


def refresh_drift(home: Home, clock: Clock, cache: SegmentCache | None = None) -> tuple[str, ...]:
    """Bring the findings about drift up to date. Cheap when no segment is new; idempotent.

    It rests in proportion to its cost, so that busy traffic is not read all the time.
    A model that cannot be looked at is passed over with a line in the log: the others must not wait for it.

    Args:
        home: open.
        clock: says how far back to look.
        cache: what was read of segments before; the same at every call, or None to read all of them.

    Returns:
        The models about which something new was found.

    Raises:
        StorageFull: no space left for the findings.
        StorageFailed: the registry cannot be read or written.
    """
    store, kept = TrafficStore(home.path, keys=home.subjects), SegmentCache() if cache is None else cache
    findings = Findings(home.state, clock)
    changed = []
    deployments = home.deployments.all()
    kept.keep(each.model for each in deployments)
    for deployment in deployments:
        model = deployment.model
        versions = sorted({deployment.version, *deployment.traffic.versions})
        held = store.stamp(model, clock.now() - timedelta(days=SPAN_DAYS))
        stamp = f"{held} {versions}"
        now, began = clock.now().timestamp(), clock.monotonic()
        read = next((each.value for each in findings.of(READ, model)), {})
        resting = 0 <= now - read.get("at", 0.0) < _REST * read.get("took_s", 0.0)
        if not held or read.get("stamp") == stamp or resting:
            continue
        values = {}
        for version in versions:
            value = _examined(home, kept.of(store), model, version, clock)
            if value is not None:
                values[version] = value
        if values != {each.version: each.value for each in findings.of(DRIFT, model)}:
            findings.put(model, DRIFT, values)
            changed.append(model)
        findings.put(model, READ, {0: {"stamp": stamp, "at": now, "took_s": clock.monotonic() - began}})
    return tuple(changed)


def _examined(home: Home, traffic: Traffic, model: str, version: int, clock: Clock) -> dict[str, Any] | None:
    """What is kept about one version; None where nothing can be said."""
    try:
        record = home.models.resolve(f"{model}:{version}")
        package = home.package(record)
        since = clock.now() - timedelta(days=SPAN_DAYS)
        found = from_traffic(traffic, model, version, package.signature, since)
        if not found.observed.rows:
            return None
        report = examine(record, package, found, Length(), Limits(), clock.now(), NoProgress())
    except ServableError as error:
        _log.warning("drift not looked at", extra=fields(model=model, version=version, reason=error.message))
        return None
    return summary(report)


def summary(report: DriftReport) -> dict[str, Any]:
    """What is kept of a report as a finding: counts, and the newest of each column."""
    drifting = report.drifting
    inputs = [column for column in drifting if column.side == "input"]
    effects = [column.newest.psi for column in inputs if column.newest is not None]
    return {
        "rows": report.rows,
        "windows": report.windows,
        "window": report.window,
        "since": report.since,
        "until": report.until,
        "inputs": len(inputs),
        "outputs": sum(column.side == "output" for column in drifting),
        "quality": sum(column.side == "quality" for column in drifting),
        "share": report.share,
        "effect": max(effects, default=0.0),
        "columns": [_kept(column) for column in report.columns],
        "changes": {
            f"{stream.name} ({stream.side})": msgspec.to_builtins(stream.changes)
            for stream in report.streams
            if stream.changes
        },
        "notes": list(report.notes),
    }


def effect(column: ColumnDrift) -> float:
    """The one number for how far a column is off in its newest window."""
    if column.newest is None:
        return 0.0
    if column.side == "quality":
        return max(column.newest.worse, 0.0)
    return column.newest.statistic if column.kind == "array" else column.newest.psi


def _kept(column: ColumnDrift) -> dict[str, Any]:
    newest = column.newest
    return {
        "name": column.name,
        "side": column.side,
        "state": column.state,
        "drift": column.state == "drift",
        "since": column.since,
        "since_row": column.since_row,
        "new_values": list(column.new_values),
        "effect": effect(column),
        "psi": 0.0 if newest is None else newest.psi,
        "p_value": 1.0 if newest is None else newest.p_value,
        "wasserstein": None if newest is None else newest.wasserstein,
        "jensen_shannon": 0.0 if newest is None else newest.jensen_shannon,
        "missing": 0.0 if newest is None else newest.missing,
        "unseen": 0.0 if newest is None else newest.unseen,
        "worse": 0.0 if newest is None else newest.worse,
    }
