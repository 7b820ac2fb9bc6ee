"""Labelled traffic as servers write it, and a model that it teaches something new."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from servable.monitoring.segments import TrafficStore

#: When the first row of all traffic was asked for.
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = pa.timestamp("us", "UTC")


def rows(count: int, *, seed: int, turned: bool = False) -> pd.DataFrame:
    """Rows of two numbers, a category, and a label that follows x, or y when ``turned``."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"x": rng.normal(size=count), "y": rng.normal(size=count), "shop": rng.choice(["a", "b"], count)}
    )
    says = frame["y"] if turned else frame["x"]
    noise = rng.normal(scale=0.3, size=count)
    return frame.assign(label=np.where(says + noise > 0, "yes", "no"))


def write_traffic(
    home: Path, model: str, frame: pd.DataFrame, *, first: int, labels: Sequence[Any] | None = None
) -> None:
    """Predictions and feedback for rows, a row a second, the first of them so many seconds after ``BEGAN``.

    Args:
        home: of the registry.
        model: its name.
        frame: the inputs, and ``label``.
        first: number of the first row.
        labels: as they are fed back, None for rows without; those of ``frame`` when not given.
    """
    store, count = TrafficStore(home), len(frame)
    at = [BEGAN + timedelta(seconds=first + row) for row in range(count)]
    inputs = {f"in.{name}": pa.array(frame[name]) for name in frame.columns if name != "label"}
    predictions = {
        "request_id": [f"request-{first}"] * count,
        "row": pa.array(range(count), pa.int32()),
        "at": pa.array(at, MOMENT),
        "version": pa.array([1] * count, pa.int32()),
        "code": ["ok"] * count,
        "seconds": [0.001] * count,
        **inputs,
        "out.prediction": ["yes"] * count,
        "sampled": [1.0] * count,
    }
    store.write(model, "predictions", f"test-{first}", pa.table(predictions), at[0])
    given = list(frame["label"] if labels is None else labels)
    known = [row for row in range(count) if given[row] is not None]
    feedback = {
        "request_id": [f"request-{first}"] * len(known),
        "row": pa.array(known, pa.int32()),
        "outcome": [str(given[row]) for row in known],
        "reward": pa.nulls(len(known), pa.float64()),
        "at": pa.array([at[row] + timedelta(hours=1) for row in known], MOMENT),
        "observed_at": pa.nulls(len(known), MOMENT),
    }
    store.write(model, "feedback", f"test-{first}", pa.table(feedback), at[0])
