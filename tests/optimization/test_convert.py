import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from optimization.models import CASES, fitted, prepare, trained
from optimization.models import data as make_data
from servable.artifact.manifest import Variant
from servable.frameworks.lookup import adapter
from servable.optimization.choose import Questions, optimise
from servable.optimization.convert import convert, feeds
from servable.optimization.graph import Unconvertible

#: Computed by skl2onnx, which works in double but in an order of its own.
ELSEWHERE = {
    "support",
    "bayes",
    "network",
    "network-value",
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
