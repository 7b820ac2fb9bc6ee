import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline

from optimization.models import CASES, fitted, prepare, trained
from optimization.models import data as make_data
from servable.artifact.manifest import Proof, Variant
from servable.frameworks.lookup import adapter
from servable.optimization.choose import Questions, optimise
from servable.optimization.convert import convert, feeds
from servable.optimization.graph import Unconvertible

#: Computed by skl2onnx, which works in double but in an order of its own.
ELSEWHERE = {
    "support",
    "bayes",
    "mixture",
    "components",
}


@pytest.mark.parametrize("case", CASES)
def test_a_compiled_model_answers_like_the_trained_one_on_real_and_nasty_rows(case, tmp_path):
    model, given = trained(case)
    (tmp_path / "v.onnx").write_bytes(convert(model))
    variant = Variant(name="v", format="onnx", path="v.onnx", options=feeds(model.signature))
    compiled = adapter("onnx").load(tmp_path, variant, model.signature, trust=False)
    questions = Questions(model, adapter("sklearn").wrap(model), given.arrays)

    proof = questions.prove(compiled, 1e-4)

    assert proof.reason == ""
    assert proof.rows > 300
    if case not in ELSEWHERE:
        assert proof.worst_difference < 1e-9


def test_what_cannot_be_compiled_says_which_step():
    given = make_data()
    pipeline = Pipeline([("prepare", prepare("scaled")), ("model", KNeighborsClassifier())])
    model = fitted(pipeline, given, "two")
    with pytest.raises(Unconvertible, match="KNeighborsClassifier is compiled in double precision only"):
        convert(model, single=True)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", ["two", "three", "value"])
def test_networks_compile_in_both_precisions(
    task: str, activation: str, single: bool, tmp_path: Path
) -> None:
    kind = MLPRegressor if task == "value" else MLPClassifier
    network = kind(hidden_layer_sizes=(9, 5), activation=activation, max_iter=8, random_state=1)
    proof = proven(network, task, tmp_path, single=single)
    if single and task == "value" and activation in ("identity", "relu"):
        # What grows with its inputs without end has no float32 at their very ends, and the proof says so.
        assert proof.equal or "extreme" in proof.reason
    else:
        assert proof.reason == ""
    assert single or proof.worst_difference < 1e-9


def test_a_network_for_counts_compiles(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", minversion="1.7", reason="older ones have no Poisson loss for networks")
    network = MLPRegressor(
        hidden_layer_sizes=(9,), activation="tanh", loss="poisson", max_iter=8, random_state=1
    )
    assert proven(network, "value", tmp_path).reason == ""


def test_a_network_for_several_targets_is_refused() -> None:
    given = make_data()
    pipeline = Pipeline(
        [("prepare", prepare("scaled")), ("model", MLPRegressor(hidden_layer_sizes=(9,), max_iter=8))]
    )
    model = fitted(pipeline, given, "value")
    rows = np.random.default_rng(0).normal(size=(60, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.model.named_steps["model"].fit(rows, rows[:, :2])
    with pytest.raises(Unconvertible, match="several targets at once"):
        convert(model)


def proven(network: Any, task: str, folder: Path, *, single: bool = False) -> Proof:
    """The proof of a compiled network on real and nasty rows."""
    given = make_data()
    model = fitted(Pipeline([("prepare", prepare("scaled")), ("model", network)]), given, task)
    (folder / "v.onnx").write_bytes(convert(model, single=single))
    variant = Variant(name="v", format="onnx", path="v.onnx", options=feeds(model.signature))
    compiled = adapter("onnx").load(folder, variant, model.signature, trust=False)
    return Questions(model, adapter("sklearn").wrap(model), given.arrays).prove(compiled, 1e-4)


def test_neighbours_so_far_away_that_all_are_equally_near_are_refused_by_the_proof(tmp_path):
    given = make_data()
    pipeline = Pipeline([("prepare", prepare("scaled")), ("model", KNeighborsClassifier())])
    chosen = optimise(fitted(pipeline, given, "three"), given.arrays, tmp_path, batches=(1,))
    assert chosen.serving == "trained"
    assert chosen.refused[0].proof is not None
    assert "extreme" in chosen.refused[0].proof.reason


def test_a_custom_estimator_is_refused_by_name():
    given = make_data()
    model = fitted(Pipeline([("prepare", prepare("scaled")), ("model", Odd())]), given, "two")
    with pytest.raises(Unconvertible, match="Odd"):
        convert(model)


class Odd(KNeighborsClassifier):
    """A class that no converter knows."""
