"""Compiled against trained, one row at a time: the ratios that the README promises.

    python -m bench.compiled [--shared-data FOLDER]

Everything in one process and one run, onnxruntime on one thread. ``trained`` is the trained model behind
the same packed arrays as the compiled one; ``plain`` is what a user writes, ``pipeline.predict(frame)``.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from servable.artifact.signature import Field, Signature
from servable.frameworks.base import Trained
from servable.frameworks.frame import pack, to_frame
from servable.frameworks.lookup import adapter
from servable.optimization.choose import optimise
from servable.tensors import take

_ROUNDS = 5


class Row(NamedTuple):
    """One model: median microseconds of one row in each form, and the ratio that was promised."""

    name: str
    compiled_us: float
    trained_us: float
    plain_us: float
    promised: float
    variant: str
    rows_compared: int

    @property
    def ratio(self) -> float:
        """Trained predictor to compiled."""
        return self.trained_us / self.compiled_us

    @property
    def plain_ratio(self) -> float:
        """The user's own call to compiled."""
        return self.plain_us / self.compiled_us


def run(shared_data: Path | None = None) -> list[Row]:
    """Measure every model; the adult pipelines only where the data is."""
    rows = [_iris(), _breast_cancer()]
    folder = shared_data or _shared_data()
    table = folder / "adult_income" / "adult.csv"
    if table.is_file():
        rows += _adult(table)
    return rows


def _shared_data() -> Path:
    given = os.environ.get("SERVABLE_SHARED_DATA")
    return Path(given) if given else Path(__file__).parents[2] / "shared" / "data"


def _signature(frame: pd.DataFrame, classes: int) -> Signature:
    texts = {name for name in frame.columns if frame[name].dtype == "str"}
    inputs = tuple(
        Field(
            name=name,
            kind="category" if name in texts else "number",
            dtype="str" if name in texts else "float64",
            missing=bool(frame[name].isna().any()),
        )
        for name in frame.columns
    )
    answer = Field(name="prediction", kind="category", dtype="int64", values=tuple(range(classes)))
    return Signature(task="classification", inputs=inputs, outputs=(answer,), probabilities=True)


def _numbered(data: Any) -> tuple[pd.DataFrame, Any]:
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    return pd.DataFrame(data.data, columns=names), data.target


def _iris() -> Row:
    frame, target = _numbered(load_iris())
    pipeline = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    return _measure("iris: scaler + logistic regression", pipeline, frame, target, 40.0)


def _breast_cancer() -> Row:
    frame, target = _numbered(load_breast_cancer())
    pipeline = Pipeline([("model", RandomForestClassifier(200, random_state=0))])
    return _measure("breast cancer: forest of 200", pipeline, frame, target, 500.0)


def _adult(table: Path) -> list[Row]:
    frame = pd.read_csv(table)
    target = (frame.pop("income") == ">50K").astype(int).to_numpy()
    texts = [name for name in frame.columns if frame[name].dtype == "str"]
    numbers = [name for name in frame.columns if name not in texts]
    encoders = {
        "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        "one-hot": OneHotEncoder(handle_unknown="ignore"),
    }
    rows = []
    for name, encoder in encoders.items():
        prepare = ColumnTransformer([("numbers", "passthrough", numbers), ("texts", encoder, texts)])
        model = LGBMClassifier(n_estimators=200, verbose=-1, random_state=0, n_jobs=1)
        pipeline = Pipeline([("prepare", prepare), ("model", model)])
        rows.append(_measure(f"adult: {name} + LightGBM of 200", pipeline, frame, target, 100.0))
    return rows


def _measure(name: str, pipeline: Pipeline, frame: pd.DataFrame, target: Any, promised: float) -> Row:
    """Fit on two thirds, prove on the rest, then time the three forms in turn, round after round."""
    signature = _signature(frame, len(set(target)))
    arrays = pack(frame, signature)
    held = np.arange(len(frame)) % 3 == 0
    pipeline.fit(to_frame(take(arrays, ~held), signature), target[~held])
    trained = Trained(pipeline, signature, {"style": "canonical"}, {})
    one = {key: np.ascontiguousarray(value[:1]) for key, value in arrays.items()}
    row = to_frame(one, signature)
    with tempfile.TemporaryDirectory() as folder:
        chosen = optimise(trained, take(arrays, held), Path(folder), batches=(1,))
        variant = next(v for v in chosen.variants if v.name == chosen.serving)
        if variant.proof is None:
            raise SystemExit(f"{name}: nothing compiled was proven equal: {chosen.notes} {chosen.refused}")
        compiled = adapter("onnx").load(Path(folder), variant, signature, trust=False)
        wrapped = adapter("sklearn").wrap(trained)
        forms: list[Callable[[], Any]] = [
            lambda: compiled.predict(one),
            lambda: wrapped.predict(one),
            lambda: pipeline.predict(row),
        ]
        rounds = np.array([[_microseconds(form) for form in forms] for _ in range(_ROUNDS)])
    compiled_us, trained_us, plain_us = np.median(rounds, axis=0).tolist()
    return Row(name, compiled_us, trained_us, plain_us, promised, variant.name, variant.proof.rows)


def _microseconds(form: Callable[[], Any], seconds: float = 0.2) -> float:
    """The median duration of a call."""
    form()
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < 7 or time.perf_counter() < end:
        start = time.perf_counter()
        form()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations)) * 1e6


def report(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| model | compiled us | trained us | ratio | plain us | ratio | promised | rows proven equal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} ({row.variant}) | {row.compiled_us:.1f} | {row.trained_us:,.0f} | {row.ratio:,.0f}x "
        f"| {row.plain_us:,.0f} | {row.plain_ratio:,.0f}x | {row.promised:.0f}x | {row.rows_compared:,} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table; exit 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared-data", type=Path)
    rows = run(parser.parse_args().shared_data)
    print(report(rows))
    raise SystemExit(any(min(row.ratio, row.plain_ratio) < row.promised for row in rows))


if __name__ == "__main__":
    main()
