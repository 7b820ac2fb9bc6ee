"""River models: what they take and give, equal answers, and learning on from where they are."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from river import cluster, compose, linear_model, naive_bayes, preprocessing, tree

from frameworks.river_models import MODELS, Taught, made, rows, taught
from servable.artifact.signature import Field
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, DataError, ModelFailed, SettingInvalid
from servable.frameworks import lookup
from servable.frameworks.base import Hints, Learner, Trained
from servable.frameworks.frame import pack
from servable.frameworks.river import ADAPTER
from servable.tensors import PREDICTION, PROBABILITIES

ASKED = rows(60, seed=7)


def read(given: Taught, folder: Path, hints: Hints = Hints()) -> Trained:  # noqa: B008 - it is frozen
    path = folder / "model.pkl"
    path.write_bytes(pickle.dumps(given.model))
    return ADAPTER.read(path, sample=given.frame, trust=False, hints=hints)


def answered(trained: Trained, asked: list[dict[str, Any]]) -> dict[str, Any]:
    predictor = ADAPTER.wrap(trained)
    found = predictor.predict(pack(pd.DataFrame(asked), trained.signature))
    predictor.close()
    return found


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_river(name: str, tmp_path: Path) -> None:
    given = made(name)
    trained = read(given, tmp_path)
    found = answered(trained, ASKED)
    if trained.signature.task == "regression":
        assert found[PREDICTION].tolist() == [given.model.predict_one(row) for row in ASKED]
        return
    classes = trained.signature.classes
    assert [classes[place] for place in found[PREDICTION]] == [given.model.predict_one(row) for row in ASKED]
    shares = [given.model.predict_proba_one(row) for row in ASKED]
    assert found[PROBABILITIES].tolist() == [[share.get(label, 0.0) for label in classes] for share in shares]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_river_is_told_from_others(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(made("logistic").model, protocol))
    assert lookup.framework_of(path) == "river"
    path.write_bytes(pickle.dumps({"not": "a model of river."}, protocol))
    assert lookup.framework_of(path) == "sklearn"


def test_the_sample_tells_names_types_and_what_may_be_missing(tmp_path: Path) -> None:
    trained = read(made("logistic"), tmp_path)
    assert [(field.name, field.kind, field.dtype, field.missing) for field in trained.signature.inputs] == [
        ("size", "number", "float64", False),
        ("count", "number", "int64", False),
        ("town", "category", "str", True),
    ]
    assert trained.signature.classes == (False, True)
    assert trained.signature.answer.dtype == "bool"


@pytest.mark.parametrize(("name", "way"), [("imputed", "none"), ("tree", "absent")])
def test_a_missing_value_is_said_as_the_model_understands_it(name: str, way: str, tmp_path: Path) -> None:
    given = made(name)
    trained = read(given, tmp_path)
    assert trained.options["missing"] == way
    assert trained.signature.input("size").missing
    row = {"size": None, "count": 2, "town": "u"}
    if way == "absent":
        del row["size"]
    wanted = given.model.predict_one(row)
    frame = pd.DataFrame([{"size": np.nan, "count": 2, "town": "u"}])
    place = ADAPTER.wrap(trained).predict(pack(frame, trained.signature))[PREDICTION][0]
    assert trained.signature.classes[place] == wanted


def test_labels_name_the_classes(tmp_path: Path) -> None:
    trained = read(made("logistic"), tmp_path, Hints(labels=("stays", "leaves")))
    assert trained.signature.classes == ("stays", "leaves")
    assert trained.options["labels"] == [False, True]
    assert read(made("softmax"), tmp_path, Hints(labels=("low", "mid", "high"))).options["labels"] == [
        "low",
        "mid",
        "high",
    ]
    numbered = taught(naive_bayes.GaussianNB(), lambda row: row["count"] % 3, _numbers())
    assert read(numbered, tmp_path, Hints(labels=("a", "b", "c"))).signature.classes == ("a", "b", "c")
    # As they come from a command line.
    assert read(numbered, tmp_path, Hints(labels=("2", "1", "0"))).options["labels"] == [2, 1, 0]
    with pytest.raises(SettingInvalid, match="are not those of the model"):
        read(made("softmax"), tmp_path, Hints(labels=("low", "mid")))


def _numbers() -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("size", "count")} for row in rows()]


def test_a_description_stands_in_for_a_sample(tmp_path: Path) -> None:
    given = made("logistic")
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(given.model))
    inputs = (
        Field(name="size", kind="number", dtype="", example=1.0),
        Field(name="count", kind="number", dtype="int64", example=1),
        Field(name="town", kind="category", dtype="", example="u"),
    )
    trained = ADAPTER.read(path, sample=None, trust=False, hints=Hints(inputs=inputs))
    assert answered(trained, ASKED)[PREDICTION].tolist() == [given.model.predict_one(row) for row in ASKED]
    with pytest.raises(ArtifactUnsupported, match="add --sample"):
        ADAPTER.read(path, sample=None, trust=False)


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnsupported, match="KMeans of River is neither"):
        ADAPTER.take(cluster.KMeans(), sample=pd.DataFrame(ASKED))
    with pytest.raises(DataError, match="does not answer the sample's first row"):
        ADAPTER.take(made("logistic").model, sample=pd.DataFrame({"other": [1.0]}))
    with pytest.raises(SettingInvalid, match="gives 0 labels"):
        ADAPTER.take(tree.HoeffdingTreeClassifier(), sample=pd.DataFrame(ASKED))
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ArtifactUnreadable, match="holds a list, not a River model"):
        ADAPTER.read(path, sample=None, trust=False)


def test_a_label_that_nobody_named_is_no_answer(tmp_path: Path) -> None:
    given = made("softmax")
    trained = read(given, tmp_path)
    for _ in range(300):
        given.model.learn_one(ASKED[0], "new")
    with pytest.raises(ModelFailed, match="'new', which is none of the 3 classes"):
        answered(trained._replace(model=given.model), ASKED[:1])


def test_a_model_that_raises_is_one_sentence(tmp_path: Path) -> None:
    trained = read(made("logistic"), tmp_path)
    arrays = pack(pd.DataFrame(ASKED), trained.signature)
    broken = trained._replace(model=compose.Select("other") | linear_model.LogisticRegression())
    with pytest.raises(ModelFailed, match=r"failed on 60 rows \(KeyError\)"):
        ADAPTER.wrap(broken).predict(arrays)


@pytest.mark.parametrize("name", MODELS)
def test_learning_on_is_what_river_does(name: str, tmp_path: Path) -> None:
    given, more = made(name), rows(120, seed=3)
    make, answer = MODELS[name]
    assert isinstance(ADAPTER, Learner)
    trained = read(given, tmp_path)
    before = answered(trained, ASKED)
    arrays = pack(pd.DataFrame(more), trained.signature)
    right = [answer(row) for row in more]
    classes = trained.signature.classes
    truth = np.array([classes.index(label) for label in right] if classes else right)
    learned = ADAPTER.learn_on(trained, arrays, truth)
    # Nothing happened to the model that it came from.
    assert np.array_equal(answered(trained, ASKED)[PREDICTION], before[PREDICTION])
    reference = taught(make(), answer, [*given.rows, *more]).model
    found = answered(learned, ASKED)[PREDICTION].tolist()
    wanted = [reference.predict_one(row) for row in ASKED]
    if classes:
        assert [classes[place] for place in found] == wanted
    else:
        assert found == pytest.approx(wanted, rel=1e-9)
    assert pickle.dumps(learned.model) != pickle.dumps(trained.model)


def test_new_classes_come_behind_the_old_ones(tmp_path: Path) -> None:
    trained = read(made("softmax"), tmp_path)
    grown = ADAPTER.with_labels(trained, ["mid", "new", "high"])
    assert grown.signature.classes == ("high", "low", "mid", "new")
    assert ADAPTER.with_labels(trained, ["mid"]) == trained
    arrays = pack(pd.DataFrame(ASKED), grown.signature)
    learned = ADAPTER.learn_on(grown, arrays, np.full(len(ASKED), 3))
    assert "new" in {grown.signature.classes[place] for place in answered(learned, ASKED)[PREDICTION]}
    # Two classes are all that such a model can tell apart.
    binary = read(made("logistic"), tmp_path)
    assert ADAPTER.with_labels(binary, [True, "perhaps"]) == binary


def test_a_row_that_cannot_be_learned_from_is_named(tmp_path: Path) -> None:
    given = taught(preprocessing.StandardScaler() | linear_model.LogisticRegression(), above_size, _numbers())
    trained = read(given, tmp_path)
    broken = trained._replace(model=compose.Select("other") | linear_model.LogisticRegression())
    arrays = pack(pd.DataFrame(_numbers()[:3]), trained.signature)
    with pytest.raises(DataError, match="row 1 of 3"):
        ADAPTER.learn_on(broken, arrays, np.array([0, 1, 0]))


def above_size(row: dict[str, Any]) -> bool:
    return bool(row["size"] > 0)


def test_models_in_memory_are_taken_in_too() -> None:
    given = made("tree")
    assert ADAPTER.take(given.model, sample=given.frame).signature.classes == ("high", "low", "mid")
