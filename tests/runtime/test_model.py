"""Loading: rehearsal, self-check and the choice of executor."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.artifact.package import Package
from servable.errors import ArtifactUnreadable, ModelFailed
from servable.registry.home import open_home
from servable.runtime.batchable import Batching
from servable.runtime.model import load_model
from servable.runtime.rehearsal import check_answer, example_arrays
from serving.making import IRIS, publish_iris


@pytest.fixture
def package(home: Path) -> Package:
    record = publish_iris(home)
    with open_home(home) as opened:
        return opened.package(record)


def test_a_short_onnx_model_runs_inline(package: Package) -> None:
    loaded = asyncio.run(load_model(package))
    assert loaded.placement == "inline"
    assert "declarative" in loaded.reason
    assert loaded.executor.statistics().kind == "inline"
    assert loaded.batching == Batching()
    assert 0 < loaded.example_seconds < loaded.load_seconds


def test_an_unknown_variant_is_named(package: Package) -> None:
    with pytest.raises(ArtifactUnreadable, match="no variant 'int8'; it has trained"):
        asyncio.run(load_model(package, variant="int8"))


def test_the_example_is_packed() -> None:
    assert example_arrays(IRIS)["numbers"].tolist() == [[5.1, 3.5, 1.4, 0.2]]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"prediction": np.array([0, 1])},
        {"prediction": np.array(0)},
        {"prediction": np.array([3]), "probabilities": np.zeros((1, 3))},
        {"prediction": np.array([-1]), "probabilities": np.zeros((1, 3))},
        {"prediction": np.array([0.0]), "probabilities": np.zeros((1, 3))},
        {"prediction": np.array([0])},
        {"prediction": np.array([0]), "probabilities": np.zeros((1, 2))},
    ],
)
def test_answers_that_do_not_fit_are_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(ModelFailed, match="its own example"):
        check_answer(answer, IRIS, "iris")
