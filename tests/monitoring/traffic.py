"""Tables of predictions and feedback as segments hold them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
MOMENT = pa.timestamp("us", "UTC")


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def predictions(rows: Sequence[tuple[str, int, int, float, Any]]) -> pa.Table:
    """Rows of (request_id, row, version, seconds, prediction)."""
    ids, places, versions, times, answers = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return pa.table(
        {
            "request_id": pa.array(ids, pa.string()),
            "row": pa.array(places, pa.int32()),
            "at": pa.array([moment(each) for each in times], MOMENT),
            "version": pa.array(versions, pa.int32()),
            "out.prediction": pa.array(answers, pa.string()),
        }
    )


def feedback(rows: Sequence[tuple[str, int, float, str | None, float | None]]) -> pa.Table:
    """Rows of (request_id, row, seconds, outcome, reward)."""
    ids, places, times, outcomes, rewards = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return pa.table(
        {
            "request_id": pa.array(ids, pa.string()),
            "row": pa.array(places, pa.int32()),
            "outcome": pa.array(outcomes, pa.string()),
            "reward": pa.array(rewards, pa.float64()),
            "at": pa.array([moment(each) for each in times], MOMENT),
            "observed_at": pa.nulls(len(rows), MOMENT),
        }
    )
