"""XGBoost and CatBoost: their files, what they take, and their compiled forms."""

from pathlib import Path

import numpy as np
import pytest

from optimization.boosters import optimised, read, table
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, SettingInvalid
from servable.frameworks import lookup
from servable.frameworks.base import Hints
from servable.frameworks.frame import pack
from servable.optimization import nasty
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES
from servable.testing import check_adapter
from servable.testing.adapters import Specimen

catboost = pytest.importorskip("catboost", reason="needs the extra catboost; make test-all has it")
xgboost = pytest.importorskip("xgboost", reason="needs the extra xgboost; make test-all has it")
pytestmark = pytest.mark.frameworks

TABLE = table()
LIGHT = {"n_estimators": 12, "max_depth": 4, "n_jobs": 1}
FEW = {"iterations": 12, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
CODES = TABLE.numbers.assign(grade=TABLE.frame.grade // 10)


def of_xgboost(kind: str):
    numbers, categories = TABLE.numbers, TABLE.categories
    several = {"enable_categorical": True, **LIGHT}
    return {
        "two": lambda: xgboost.XGBClassifier(**LIGHT).fit(numbers, TABLE.two),
        "three": lambda: xgboost.XGBClassifier(**several).fit(categories, TABLE.three),
        "one hot": lambda: xgboost.XGBClassifier(max_cat_to_onehot=9, **several).fit(categories, TABLE.two),
        "value": lambda: xgboost.XGBRegressor(**several).fit(categories, TABLE.value),
        "poisson": lambda: xgboost.XGBRegressor(objective="count:poisson", **LIGHT).fit(
            numbers, np.abs(TABLE.value)
        ),
        "logistic": lambda: xgboost.XGBRegressor(objective="reg:logistic", **LIGHT).fit(numbers, TABLE.two),
        "hinge": lambda: xgboost.XGBClassifier(objective="binary:hinge", **LIGHT).fit(numbers, TABLE.two),
        "dart": lambda: xgboost.XGBRegressor(booster="dart", rate_drop=0.3, **LIGHT).fit(
            numbers, TABLE.value
        ),
        "forest": lambda: xgboost.XGBRFRegressor(**LIGHT).fit(numbers, TABLE.value),
        "own codes": lambda: xgboost.train(
            {"max_depth": 4, "objective": "multi:softmax", "num_class": 3, "nthread": 1},
            xgboost.DMatrix(CODES.to_numpy(), label=TABLE.three, feature_types=["q", "q", "c"]),
            6,
        ),
    }[kind]()


def of_catboost(kind: str):
    numbers, whole = TABLE.numbers, TABLE.frame
    encoded = {"cat_features": ["town", "grade"], "one_hot_max_size": 9, **FEW}
    labels = np.where(TABLE.two == 1, "yes", "no")
    return {
        "two": lambda: catboost.CatBoostClassifier(**FEW).fit(numbers, labels),
        "three": lambda: catboost.CatBoostClassifier(grow_policy="Lossguide", **FEW).fit(
            numbers, TABLE.three
        ),
        "each": lambda: catboost.CatBoostClassifier(loss_function="MultiClassOneVsAll", **FEW).fit(
            numbers, TABLE.three
        ),
        "one hot": lambda: catboost.CatBoostClassifier(**encoded).fit(whole, TABLE.three),
        "value": lambda: catboost.CatBoostRegressor(nan_mode="Max", grow_policy="Depthwise", **FEW).fit(
            numbers, TABLE.value
        ),
        "poisson": lambda: catboost.CatBoostRegressor(loss_function="Poisson", **FEW).fit(
            numbers, np.abs(TABLE.value)
        ),
    }[kind]()


def saved(model, path: Path) -> Path:
    model.save_model(str(path))
    return path


def sample_of(kind: str, *, categorical: tuple[str, ...]):
    return CODES if kind == "own codes" else TABLE.frame if kind in categorical else TABLE.numbers


XGBOOST = (
    "two",
    "three",
    "one hot",
    "value",
    "poisson",
    "logistic",
    "hinge",
    "dart",
    "forest",
    "own codes",
)


@pytest.mark.parametrize("kind", XGBOOST)
def test_xgboost_compiled_is_equal_on_thresholds(kind, tmp_path):
    sample = sample_of(kind, categorical=("three", "one hot", "value"))
    found = optimised(saved(of_xgboost(kind), tmp_path / "model.ubj"), sample, tmp_path / "package")
    exact = {variant.name: variant for variant in found.variants}["onnx-fp32"]
    assert exact.proof is not None
    # Sums of numbers are the library's own, bit for bit.
    most = 0.0 if kind in ("value", "forest") else 5e-7
    assert exact.proof.worst_difference <= most
    assert exact.proof.rows > 1000


@pytest.mark.parametrize("kind", ["two", "three", "each", "one hot", "value", "poisson"])
def test_catboost_compiled_is_equal_on_thresholds(kind, tmp_path):
    sample = sample_of(kind, categorical=("one hot",))
    found = optimised(saved(of_catboost(kind), tmp_path / "model.cbm"), sample, tmp_path / "package")
    exact = {variant.name: variant for variant in found.variants}["onnx-fp64"]
    assert exact.proof is not None
    assert exact.proof.worst_difference < 1e-12
    assert exact.proof.rows > 1000


def test_thresholds_lie_where_float32_changes_its_answer(tmp_path):
    trained = read(saved(of_xgboost("two"), tmp_path / "model.json"), TABLE.numbers)
    rows = pack(TABLE.numbers, trained.signature)
    found = nasty.thresholds_by_column(trained, rows)[1]
    splits = trained.model.trees_to_dataframe()
    above = np.asarray(splits[splits.Feature == "b"].Split, dtype=np.float32)
    assert np.isin(np.nextafter(above, np.float32(-np.inf)).astype(np.float64), found).all()
    assert np.isin(above.astype(np.float64), nasty.make(trained, rows)["values on thresholds"][NUMBERS]).any()


def test_what_catboost_cannot_have_compiled_is_said(tmp_path):
    model = catboost.CatBoostRegressor(cat_features=["town", "grade"], one_hot_max_size=1, **FEW)
    path = saved(model.fit(TABLE.frame, TABLE.value), tmp_path / "model.cbm")
    (note,) = optimised(path, TABLE.frame, tmp_path / "package").notes
    assert "statistics of the target" in note
    assert "one_hot_max_size" in note


def test_linear_boosters_serve_as_they_are(tmp_path):
    model = xgboost.XGBRegressor(booster="gblinear", n_estimators=4)
    path = saved(model.fit(TABLE.numbers.fillna(0), TABLE.value), tmp_path / "model.ubj")
    sample = TABLE.numbers.fillna(0)
    found = optimised(path, sample, tmp_path / "package")
    assert "gblinear" in found.notes[0]
    trained = read(path, sample)
    answer = lookup.adapter("xgboost").wrap(trained).predict(pack(sample, trained.signature))
    np.testing.assert_allclose(answer[PREDICTION], model.predict(sample), rtol=1e-6)


def test_categories_come_from_the_model_file(tmp_path):
    model = of_xgboost("three")
    trained = read(saved(model, tmp_path / "model.ubj"), None)
    town, grade = trained.signature.input("town"), trained.signature.input("grade")
    assert (town.kind, town.values) == ("category", ("x", "y", "z"))
    assert (grade.dtype, grade.values) == ("int64", (10, 20, 30, 40))
    answer = lookup.adapter("xgboost").wrap(trained).predict(pack(TABLE.frame, trained.signature))
    np.testing.assert_allclose(answer[PROBABILITIES], model.predict_proba(TABLE.categories), rtol=1e-6)


def test_the_best_iteration_counts_where_the_class_that_saved_it_stops_there(tmp_path):
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=3, learning_rate=1.0, n_jobs=1)
    noise = np.random.default_rng(1).normal(size=len(TABLE.value))
    model.fit(TABLE.numbers, TABLE.value, eval_set=[(TABLE.numbers, noise)], verbose=False)
    path = saved(model, tmp_path / "model.ubj")
    trained = read(path, TABLE.numbers)
    assert 0 < trained.options["rounds"] < model.get_booster().num_boosted_rounds()
    answer = lookup.adapter("xgboost").wrap(trained).predict(pack(TABLE.numbers, trained.signature))
    np.testing.assert_allclose(answer[PREDICTION], model.predict(TABLE.numbers), rtol=1e-6)
    found = optimised(path, TABLE.numbers, tmp_path / "package")
    assert [variant.name for variant in found.variants] == ["trained", "onnx-fp32"]


def test_catboost_keeps_its_own_labels(tmp_path):
    trained = read(saved(of_catboost("two"), tmp_path / "model.cbm"), TABLE.numbers)
    assert trained.signature.classes == ("no", "yes")


def test_labels_that_do_not_fit_are_refused(tmp_path):
    path = saved(of_xgboost("three"), tmp_path / "model.ubj")
    with pytest.raises(SettingInvalid, match="tells 3 classes apart"):
        read(path, None, Hints(labels=("a", "b")))


def test_several_targets_are_refused(tmp_path):
    both = np.column_stack([TABLE.value, TABLE.value**2])
    one = saved(xgboost.XGBRegressor(**LIGHT).fit(TABLE.numbers, both), tmp_path / "model.ubj")
    two = saved(
        catboost.CatBoostRegressor(loss_function="MultiRMSE", **FEW).fit(TABLE.numbers, both),
        tmp_path / "model.cbm",
    )
    for path in (one, two):
        with pytest.raises(ArtifactUnsupported, match=r"several targets|2 values"):
            read(path, None)


@pytest.mark.parametrize("first", [900, 0, 2])
def test_nodes_that_lead_nowhere_are_refused(tmp_path, first):
    """The first child of a tree's root: one that is not there, the root itself, its other child."""
    path = saved(of_xgboost("two"), tmp_path / "model.json")
    path.write_text(path.read_text().replace('"left_children":[1', f'"left_children":[{first}', 1))
    with pytest.raises(ArtifactUnreadable, match=r"model\.json"):
        read(path, None)


@pytest.mark.parametrize(("name", "suffix"), [("xgboost", "ubj"), ("xgboost", "json"), ("catboost", "cbm")])
def test_the_seam(name, suffix, tmp_path):
    make = of_xgboost if name == "xgboost" else of_catboost
    path = saved(make("two"), tmp_path / f"model.{suffix}")
    folder = tmp_path / "work"
    folder.mkdir()
    rows = np.ascontiguousarray(TABLE.numbers[:7].to_numpy(dtype=np.float64))
    check_adapter(lookup.adapter(name), Specimen(path, {NUMBERS: rows}), folder)
