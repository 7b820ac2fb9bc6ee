"""Live quality: how good served answers were by the labels that came back, and what is kept of it.

``refresh_quality`` is called again and again by whoever watches a home; it reads nothing when no segment is
new, and no more often than its own cost allows. What it finds lies in the registry as findings of the kind
``quality``, one for each version.
"""

import hashlib
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from servable.artifact.package import read_outline
from servable.artifact.signature import Signature
from servable.clock import Clock
from servable.errors import ServableError
from servable.logs import fields, logger
from servable.monitoring.joined import join_stored
from servable.monitoring.journal import settle_orphans
from servable.monitoring.labels import label_text
from servable.monitoring.quality import Answered, VersionQuality, version_quality
from servable.monitoring.segments import TrafficStore
from servable.registry.home import Home
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


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """What the last look at a model's segments was.

    Attributes:
        segments: a digest of their names.
        at: when, in seconds since 1970.
        took_s: how long it took.
        unknown: rows of feedback that belong to no prediction here.
    """

    segments: str
    at: float
    took_s: float
    unknown: int


def refresh_quality(home: Home, clock: Clock) -> tuple[str, ...]:
    """Bring the findings about quality up to date and remove what is too old. Cheap when nothing changed.

    Args:
        home: open.
        clock: says what is old.

    Returns:
        The models about which something new was found.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage or the registry fails.
        DependencyMissing: there is traffic, and pyarrow is not installed.
    """
    store = TrafficStore(home.path)
    if not store.root.is_dir():
        return ()
    settle_orphans(store)
    days = load_settings({"home": str(home.path)}).capture_days
    store.remove_before((clock.now() - timedelta(days=days)).date())
    known = {record.name for record in home.models.all()}
    return tuple(
        model for model in store.models() if model in known and _refreshed(home, store, model, clock)
    )


def quality(name: str, *, home: str | Path | None = None) -> QualityOutcome:
    """How good the answers of a model's versions were, by the labels that came back so far.

    Args:
        name: a model.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        DependencyMissing: pyarrow is not installed.
        StorageFailed: a segment cannot be read.
    """
    with opened(home) as place:
        place.models.resolve(name)
        store = TrafficStore(place.path)
        settle_orphans(store)
        found, unknown = measured(place, store, name)
        return QualityOutcome(
            model=name,
            unknown=unknown,
            versions=tuple(QualityRow(version=version, quality=each) for version, each in found.items()),
        )


def measured(home: Home, store: TrafficStore, model: str) -> tuple[dict[int, VersionQuality], int]:
    """The quality of every version with captured answers, and how many labels belong to none of them.

    Raises:
        DependencyMissing: pyarrow is not installed.
        StorageFailed: a segment cannot be read.
    """
    found = join_stored(store, model, columns=_COLUMNS)
    made: dict[int, VersionQuality] = {}
    versions = np.asarray(found.table["version"])
    for version in np.unique(versions).tolist():
        signature = _signature(home, model, version)
        if signature is not None:
            rows = found.table.filter(versions == version)
            classes = tuple(label_text(label) for label in signature.classes)
            made[version] = version_quality(answered(rows, len(classes)), signature.task, classes)
    return made, found.unknown


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


def _refreshed(home: Home, store: TrafficStore, model: str, clock: Clock) -> bool:
    """Look at one model; whether something new was found."""
    digest = _digest(store, model)
    before = _read(home, model)
    now = clock.now().timestamp()
    if before is not None and (
        before.segments == digest or before.at <= now < before.at + _REST * before.took_s
    ):
        return False
    started = time.monotonic()
    try:
        found, unknown = measured(home, store, model)
    except ServableError as error:
        _log.error("live quality is not known", extra=fields(model=model, reason=error.message))
        return False
    home.findings.put(model, QUALITY, {version: _plain(each) for version, each in found.items()})
    read = _Read(segments=digest, at=now, took_s=time.monotonic() - started, unknown=unknown)
    home.findings.put(model, READ, {0: _plain(read)})
    return True


def _digest(store: TrafficStore, model: str) -> str:
    """A digest of the names of a model's segments, which are never changed."""
    names = (path.as_posix() for kind in ("predictions", "feedback") for path in store.segments(model, kind))
    return hashlib.blake2b("\n".join(names).encode(), digest_size=16).hexdigest()


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
