"""Live quality: how good served answers were by the labels that came back, and what is kept of it.

``refresh_quality`` is called again and again by whoever watches a home; it opens only segments that are new,
and looks no more often than its own cost allows. What it finds lies in the registry as findings of the kind
``quality``, one for each version.
"""

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.package import read_outline
from servable.artifact.signature import Signature
from servable.clock import Clock
from servable.errors import ServableError
from servable.logs import fields, logger
from servable.monitoring.joined import Traffic, join_stored
from servable.monitoring.journal import settle_orphans
from servable.monitoring.labels import label_text
from servable.monitoring.quality import Answered, VersionQuality, version_quality
from servable.monitoring.segment_cache import SegmentCache
from servable.monitoring.segments import TrafficStore
from servable.registry.home import Home
from servable.registry.policy import read_policy
from servable.settings import load_settings
from servable.workflows.homes import opened
from servable.workflows.monitored import QualityOutcome, QualityRow

_log = logger("quality")
#: The kind of the findings about versions.
QUALITY = "quality"
#: The kind of what is remembered about a model's segments, under version 0.
READ = "quality_read"
#: A refresh waits until so many times the seconds have passed that the last one took.
_REST = 20.0
_COLUMNS = ("code", "out.prediction", "out.probabilities", "sampled")


#: A storage that failed is asked again after so many seconds at the earliest.
_PAUSE_S = 60.0


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """What the last look at a model's segments was.

    Attributes:
        segments: differs when there are others; empty when they could not be read.
        at: when, in seconds since 1970.
        took_s: how long it took.
        unknown: rows of feedback that belong to no prediction here.
        damaged: segments that are passed over, because nobody can read them.
        reason: why they could not be read; empty when they could.
    """

    segments: str
    at: float
    took_s: float
    unknown: int
    damaged: tuple[str, ...] = ()
    reason: str = ""

    def rests(self, now: float) -> bool:
        """Whether it is too early for another look."""
        pause_s = max(_REST * self.took_s, _PAUSE_S if self.reason else 0.0)
        return self.at <= now < self.at + pause_s


class Measured(NamedTuple):
    """What the labels of a model say.

    Attributes:
        versions: how good each version's answers were.
        unknown: rows of feedback that belong to no captured prediction.
    """

    versions: Mapping[int, VersionQuality]
    unknown: int


def refresh_quality(home: Home, clock: Clock, cache: SegmentCache | None = None) -> tuple[str, ...]:
    """Bring the findings about quality up to date. Cheap when nothing changed.

    Args:
        home: open.
        clock: says when a model is looked at again.
        cache: what was read of segments before; the same at every call, or None to read all of them.

    Returns:
        The models about which something new was found.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage or the registry fails.
        DependencyMissing: there is traffic, and pyarrow is not installed.
    """
    store, kept = TrafficStore(home.path, keys=home.subjects), SegmentCache() if cache is None else cache
    settle_orphans(store)
    known = {record.name for record in home.models.all()}
    # What is said about a model whose traffic is all gone must go as well.
    looked_at = {finding.model for finding in home.findings.of(READ)}
    models = known & {*store.models(), *looked_at}
    kept.keep(models)
    return tuple(model for model in sorted(models) if _refreshed(home, store, model, clock, kept))


def remove_old(home: Home, clock: Clock) -> int:
    """Remove the traffic that is older than ``capture_days``, and keys that seal nothing any more.

    Args:
        home: open.
        clock: says what is old.

    Returns:
        How many segments there were.

    Raises:
        StorageFailed: the storage cannot be read.
    """
    days = load_settings({"home": str(home.path)}).capture_days
    oldest = clock.now() - timedelta(days=days)
    removed = TrafficStore(home.path).remove_before(oldest.date())
    # After the segments, so that none is there without its keys if this is killed in between.
    home.subjects.forget_before(oldest)
    return removed


def quality(name: str, *, home: str | Path | None = None) -> QualityOutcome:
    """How good the answers of a model's versions were, by the labels that came back so far.

    Args:
        name: a model.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        DependencyMissing: pyarrow is not installed.
        StorageFailed: the storage cannot be read.
    """
    with opened(home) as place:
        place.models.resolve(name)
        store, cache = TrafficStore(place.path, keys=place.subjects), SegmentCache()
        settle_orphans(store)
        found = measured(place, cache.of(store), name)
        return QualityOutcome(
            model=name,
            unknown=found.unknown,
            versions=tuple(
                QualityRow(version=version, quality=each) for version, each in found.versions.items()
            ),
            damaged=cache.damaged(name),
            written_every_s=written_every_s(place, name),
        )


def written_every_s(home: Home, model: str) -> float:
    """Seconds after which captured requests become readable; 0 where the deployment captures none."""
    deployed = home.deployments.get(model)
    if deployed is None or not read_policy(deployed.policy).capture:
        return 0.0
    return load_settings({"home": str(home.path)}).capture_interval_s


def measured(home: Home, traffic: Traffic, model: str) -> Measured:
    """The quality of every version with captured answers, and how many labels belong to none of them.

    Raises:
        DependencyMissing: pyarrow is not installed.
        StorageFailed: the storage cannot be read.
    """
    found = join_stored(traffic, model, columns=_COLUMNS)
    made: dict[int, VersionQuality] = {}
    versions = np.asarray(found.table["version"])
    for version in np.unique(versions).tolist():
        signature = _signature(home, model, version)
        if signature is not None:
            rows = found.table.filter(versions == version)
            classes = tuple(label_text(label) for label in signature.classes)
            made[version] = version_quality(answered(rows, len(classes)), signature.task, classes)
    return Measured(made, found.unknown)


def answered(table: Any, classes: int) -> Answered:
    """The answered rows of a joined table.

    Args:
        table: ``pyarrow.Table`` of one version.
        classes: how many a classifier has.
    """
    import pyarrow as pa
    from pyarrow import compute

    table = table.filter(compute.equal(table["code"], "ok"))
    names = table.column_names
    texts = (
        [None if each is None else label_text(each) for each in table["out.prediction"].to_pylist()]
        if "out.prediction" in names
        else [None] * table.num_rows
    )
    chances = None
    if "out.probabilities" in names and classes:
        lists = table["out.probabilities"].combine_chunks()
        flat = np.asarray(lists.flatten(), np.float64)
        if not lists.null_count and len(flat) == classes * table.num_rows:
            chances = flat.reshape(-1, classes)
    return Answered(
        prediction=_objects(texts),
        outcome=_objects(table["outcome"].to_pylist()),
        reward=np.asarray(compute.fill_null(table["reward"], float("nan")), np.float64),
        weight=1.0 / np.asarray(table["sampled"], np.float64),
        at=np.asarray(table["at"].cast(pa.int64())),
        probabilities=chances,
    )


def _objects(values: list[Any]) -> Any:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def _refreshed(home: Home, store: TrafficStore, model: str, clock: Clock, cache: SegmentCache) -> bool:
    """Look at one model; whether something new was found."""
    before = _read(home, model)
    now = clock.now().timestamp()
    if before is not None and before.rests(now):
        return False
    stamp = store.stamp(model)
    if before is not None and before.segments == stamp:
        return False
    started = time.monotonic()
    try:
        found = measured(home, cache.of(store), model)
    except ServableError as error:
        if before is None or before.reason != error.message:
            _log.error("live quality is not known", extra=fields(model=model, reason=error.message))
        unknown, took_s = before.unknown if before else 0, time.monotonic() - started
        failed = _Read(segments="", at=now, took_s=took_s, unknown=unknown, reason=error.message)
        home.findings.put(model, READ, {0: _plain(failed)})
        return False
    home.findings.put(model, QUALITY, {version: _plain(each) for version, each in found.versions.items()})
    read = _Read(
        segments=stamp,
        at=now,
        took_s=time.monotonic() - started,
        unknown=found.unknown,
        damaged=cache.damaged(model),
    )
    home.findings.put(model, READ, {0: _plain(read)})
    return True


def _read(home: Home, model: str) -> _Read | None:
    """What the last look was; None when there was none, or another program's."""
    found = home.findings.of(READ, model)
    try:
        return msgspec.convert(found[0].value, _Read) if found else None
    except msgspec.ValidationError:
        return None


def _signature(home: Home, model: str, version: int) -> Signature | None:
    """What a version takes and gives; None when its package is not here."""
    try:
        record = home.models.resolve(f"{model}:{version}")
        return read_outline(home.packages.folder(record.package)).signature
    except ServableError:
        return None


def _plain(value: Any) -> Mapping[str, Any]:
    plain: Mapping[str, Any] = msgspec.to_builtins(value)
    return plain
