"""The promise of the whole: what is answered over HTTP is what the trained pipeline answers."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

import servable
from e2e.conftest import Serve
from servable.artifact.package import Package, open_package
from servable.frameworks import lookup
from servable.tensors import take
from servable.training import data, split


def trained_answers(package: Package, arrays: dict[str, Any]) -> dict[str, Any]:
    """What the trained form in the package answers; it is read from its file, not kept from training."""
    variant = package.manifest.variant("trained")
    predictor = lookup.adapter(variant.format).load(package.folder, variant, package.signature, trust=False)
    return predictor.predict(arrays)


def as_rows(frame: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """Rows as a client would send them: missing values are null."""
    plain = frame[names].astype(object)
    rows: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict(orient="records")
    return rows


def ask(url: str, name: str, rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """All rows through HTTP, a thousand at a time."""
    predictions: list[Any] = []
    probabilities: list[Any] = []
    for start in range(0, len(rows), 1000):
        answer = httpx.post(
            f"{url}/models/{name}/predict", json={"inputs": rows[start : start + 1000]}, timeout=60
        )
        assert answer.status_code == 200, answer.text[:500]
        body = answer.json()
        predictions += body["predictions"]
        probabilities += body.get("probabilities", [])
    return predictions, probabilities


@pytest.mark.slow
@pytest.mark.parametrize("most", [6_000, pytest.param(None, marks=pytest.mark.soak)], ids=["some", "all"])
@pytest.mark.parametrize(
    ("file", "target"),
    [("adult_income/adult.csv", "income"), ("california_housing/housing.csv", "median_house_value")],
)
def test_every_held_out_row_is_answered_over_http_as_by_the_trained_pipeline(
    shared_data: Path, home: Path, serve: Serve, tmp_path: Path, file: str, target: str, most: int | None
) -> None:
    """How good the model is, is asked for elsewhere; here it is trained for a moment, on some of the rows."""
    frame = data.read_table(shared_data / file)[:most]
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False)
    outcome = servable.train(
        path, target=target, name="real", model="lightgbm", time_budget_s=0.1, home=home, deploy=True
    )
    assert outcome.serving.startswith("onnx")
    package = open_package(Path(outcome.package))
    frame = data.read_table(path)
    problem = data.infer(frame, target)
    parts = split.hold_out(problem.size, problem.truth, problem.task, share=0.2, time_order=False, seed=0)
    assert len(parts.holdout) == outcome.rows_holdout
    expected = trained_answers(package, dict(take(problem.arrays, parts.holdout)))
    rows = as_rows(frame.iloc[problem.rows[parts.holdout]], [f.name for f in package.signature.inputs])
    predictions, probabilities = ask(serve(home), "real", rows)
    if problem.task == "classification":
        labels = [package.signature.classes[index] for index in expected["prediction"]]
        assert predictions == labels
        served = np.array([[row[str(label)] for label in package.signature.classes] for row in probabilities])
        np.testing.assert_allclose(served, expected["probabilities"], rtol=0, atol=1e-4)
        truth = [package.signature.classes[index] for index in problem.truth[parts.holdout]]
        assert np.mean([a == b for a, b in zip(predictions, truth, strict=True)]) == pytest.approx(
            outcome.metrics["accuracy"]
        )
    else:
        np.testing.assert_allclose(predictions, expected["prediction"], rtol=1e-4)
