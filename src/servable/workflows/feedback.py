"""``feedback``: a file that says what turned out, given to a server or straight to a home."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servable.artifact.package import read_outline
from servable.client import Client
from servable.clock import Clock, SystemClock
from servable.errors import DataError, FileMissing, RequestInvalid, RequestMalformed
from servable.monitoring.feedback import CSV, JSON, PARQUET, FeedbackRow, read_feedback
from servable.monitoring.journal import Line, table_of
from servable.monitoring.labels import Outcomes
from servable.monitoring.sealed_traffic import FeedbackKeeper
from servable.monitoring.segments import TrafficStore, need_pyarrow
from servable.workflows.generate import signature_of_server
from servable.workflows.homes import opened
from servable.workflows.monitored import FeedbackOutcome

_FORMS = {".json": JSON, ".csv": CSV, ".parquet": PARQUET, ".pq": PARQUET}
#: Rows of a file.
_MOST_ROWS = 50_000_000
#: Rows in one request to a server.
_PART = 10_000


def feedback(
    name: str,
    file: str | Path,
    *,
    url: str | None = None,
    home: str | Path | None = None,
    clock: Clock | None = None,
) -> FeedbackOutcome:
    """Say what turned out about requests that were answered: their ids, and outcomes or rewards.

    Args:
        name: a model, perhaps with a version or an alias whose classes count.
        file: CSV, Parquet or JSON with ``request_id`` and ``outcome`` or ``reward``; ``row`` and
            ``observed_at`` where they are needed.
        url: a server that takes it; None writes into the home.
        home: the folder of the registry; looked up when None.
        clock: says when it came; the machine's own when None.

    Raises:
        FileMissing: there is no such file.
        DataError: it is of no form that is read here, or holds something else.
        ModelNotFound: there is no such model.
        DependencyMissing: pyarrow is not installed.
        RemoteError: the server refused it; the parts before were kept.
        StorageFailed: the storage does not take it.
    """
    need_pyarrow()
    path = Path(file)
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise DataError(f"{path.name} is none of {', '.join(_FORMS)}; give feedback in one of these forms.")
    try:
        content = path.read_bytes()
    except FileNotFoundError as missing:
        raise FileMissing(f"There is no file {path}.") from missing
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    if url:
        with Client(url) as client:
            outcomes = Outcomes(signature_of_server(client.model(name).details, url))
            rows = _rows(content, form, outcomes, path)
            return FeedbackOutcome(model=name, accepted=_sent(client, name, rows, outcomes), where=url)
    with opened(home) as place:
        record = place.models.resolve(name)
        deployed = place.deployments.get(name) if ":" not in name and "@" not in name else None
        chosen = deployed or record
        signature = read_outline(place.packages.folder(chosen.package)).signature
        rows = _rows(content, form, Outcomes(signature), path)
        now = (clock or SystemClock()).now()
        at = round(now.timestamp() * 1e6)
        lines = [
            Line(record.model, row.request_id, row.row, row.outcome, row.reward, at + index, row.observed_at)
            for index, row in enumerate(rows)
        ]
        place.audit.record("feedback", model=record.model, count=len(rows))
        store = TrafficStore(place.path, keys=place.subjects)
        FeedbackKeeper(store).keep(record.model, f"file-{uuid.uuid4().hex}", table_of(lines), now)
        return FeedbackOutcome(model=record.model, accepted=len(rows), where=str(place.path))


def _rows(content: bytes, form: str, outcomes: Outcomes, path: Path) -> list[FeedbackRow]:
    """The rows of a file.

    Raises:
        DataError: it does not hold feedback; says where.
    """
    try:
        return read_feedback(content, form, outcomes, _MOST_ROWS)
    except (RequestInvalid, RequestMalformed) as error:
        raise DataError(f"{path.name}: {error.message}") from error


def _plain(row: FeedbackRow, outcomes: Outcomes) -> dict[str, Any]:
    """A row as a caller sends it."""
    said = {name: value for name, value in row._asdict().items() if value is not None}
    if row.outcome is not None:
        said["outcome"] = outcomes.value(row.outcome)
    if row.observed_at is not None:
        said["observed_at"] = datetime.fromtimestamp(row.observed_at / 1e6, UTC)
    return said


def _sent(client: Client, name: str, rows: list[FeedbackRow], outcomes: Outcomes) -> int:
    accepted = 0
    for start in range(0, len(rows), _PART):
        part = [_plain(row, outcomes) for row in rows[start : start + _PART]]
        accepted += client.feedback_rows(name, part)
    return accepted
