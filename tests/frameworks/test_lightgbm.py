"""LightGBM's own model files."""

import warnings
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest

from optimization.boosters import optimised, read, table
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, DataError, SettingInvalid
from servable.frameworks import lookup
from servable.frameworks.base import Hints
from servable.frameworks.frame import pack
from servable.optimization import nasty
from servable.tensors import PREDICTION, PROBABILITIES, STRINGS

FEW = {"n_estimators": 12, "verbose": -1, "min_child_samples": 5, "min_data_per_group": 5, "n_jobs": 1}
TABLE = table()


def saved(model, folder: Path) -> Path:
    path = folder / "model.txt"
    model.booster_.save_model(path)
    return path


def classifier(folder: Path) -> Path:
    return saved(lightgbm.LGBMClassifier(**FEW).fit(TABLE.numbers, TABLE.three), folder)


def test_a_model_file_says_its_columns_and_classes(tmp_path):
    trained = read(classifier(tmp_path), None)
    assert [(field.name, field.kind, field.missing) for field in trained.signature.inputs] == [
        ("a", "number", True),
        ("b", "number", True),
        ("grade", "number", True),
    ]
    assert trained.signature.classes == (0, 1, 2)
    assert trained.signature.probabilities


def test_labels_name_the_classes_and_a_sample_gives_ranges(tmp_path):
    trained = read(classifier(tmp_path), TABLE.numbers, Hints(labels=("low", "mid", "high")))
    assert trained.signature.classes == ("low", "mid", "high")
    b = trained.signature.input("b")
    assert (b.minimum, b.maximum) == (TABLE.frame.b.min(), TABLE.frame.b.max())


def test_categories_of_pandas_are_texts_and_numbers_for_callers(tmp_path):
    model = lightgbm.LGBMClassifier(**FEW).fit(TABLE.categories, TABLE.two)
    trained = read(saved(model, tmp_path), None)
    town, grade = trained.signature.input("town"), trained.signature.input("grade")
    assert (town.kind, town.dtype, town.values) == ("category", "str", ("x", "y", "z"))
    assert (grade.kind, grade.dtype, grade.values) == ("category", "int64", (10, 20, 30, 40))
    answer = lookup.adapter("lightgbm").wrap(trained).predict(pack(TABLE.frame, trained.signature))
    assert np.array_equal(answer[PROBABILITIES], model.predict_proba(TABLE.categories))
    assert np.array_equal(answer[PREDICTION], model.predict(TABLE.categories))


def test_an_unknown_category_is_missing_as_for_the_library(tmp_path):
    model = lightgbm.LGBMRegressor(**FEW).fit(TABLE.categories, TABLE.value)
    trained = read(saved(model, tmp_path), None)
    arrays = pack(TABLE.frame[:2], trained.signature)
    arrays[STRINGS][0, 0] = "nowhere"
    unknown = TABLE.categories[:2].copy()
    unknown.loc[0, "town"] = np.nan
    answer = lookup.adapter("lightgbm").wrap(trained).predict(arrays)
    assert np.array_equal(answer[PREDICTION], model.predict(unknown))


def fit(kind: str):
    """The model of a case."""
    numbers, categories = TABLE.numbers, TABLE.categories
    return {
        "two": lambda: lightgbm.LGBMClassifier(**FEW).fit(numbers, TABLE.two),
        "three": lambda: lightgbm.LGBMClassifier(**FEW).fit(categories, TABLE.three),
        "value": lambda: lightgbm.LGBMRegressor(**FEW).fit(categories, TABLE.value),
        "poisson": lambda: lightgbm.LGBMRegressor(objective="poisson", **FEW).fit(
            numbers, np.abs(TABLE.value)
        ),
        "own codes": lambda: lightgbm.LGBMRegressor(**FEW).fit(
            numbers.to_numpy(), TABLE.value, categorical_feature=[2]
        ),
    }[kind]()


@pytest.mark.parametrize("kind", ["two", "three", "value", "poisson", "own codes"])
def test_the_compiled_form_is_equal_on_thresholds(kind, tmp_path):
    sample = TABLE.frame if kind in ("three", "value") else TABLE.numbers
    found = optimised(saved(fit(kind), tmp_path), sample, tmp_path / "package")
    exact = {variant.name: variant for variant in found.variants}["onnx-fp64"]
    assert exact.proof is not None
    assert exact.proof.worst_difference < 1e-12
    assert exact.proof.rows > 1000


def test_thresholds_of_the_file_are_among_the_nasty_rows(tmp_path):
    trained = read(classifier(tmp_path), TABLE.numbers)
    found = nasty.thresholds_by_column(trained, pack(TABLE.numbers, trained.signature))
    dumped = trained.model.trees_to_dataframe()
    splits = dumped[(dumped.split_feature == "b") & (dumped.threshold.abs() > 1e-30)].threshold
    assert len(splits) > 3
    assert set(splits) <= set(found[1].tolist())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("left_child=", "left_child=900 ", "left_child"),
        ("right_child=-2", "right_child=-900", "do not make a tree"),
        ("split_feature=", "split_feature=9", "tree 0"),
        ("num_leaves=", "num_leaves=1", "leaves"),
        ("tree_sizes=", "tree_sizes=1", "tree"),
        ("end of trees", "end of wood", "ends before"),
        ("max_feature_idx=2", "max_feature_idx=x", "number"),
        ("feature_names=", "names=", "feature_names"),
    ],
)
def test_numbers_that_lead_out_of_the_file_are_refused_before_the_library_follows(tmp_path, old, new, said):
    path = classifier(tmp_path)
    text = path.read_text()
    changed = text.replace(old, new, 1)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(ArtifactUnreadable, match=said):
        read(path, None)


def test_names_that_the_library_changed_are_those_of_the_sample(tmp_path):
    sample = TABLE.numbers.rename(columns={"b": "sepal length (cm)"})
    with warnings.catch_warnings():
        # It says that it puts underscores for spaces.
        warnings.simplefilter("ignore")
        model = lightgbm.LGBMRegressor(**FEW).fit(sample, TABLE.value)
    path = saved(model, tmp_path)
    assert [field.name for field in read(path, sample).signature.inputs] == list(sample.columns)
    assert "sepal_length_(cm)" in [field.name for field in read(path, None).signature.inputs]


def test_linear_models_in_leaves_serve_as_they_are(tmp_path):
    whole = TABLE.numbers.fillna(0)
    model = lightgbm.LGBMRegressor(linear_tree=True, **FEW).fit(whole, TABLE.value)
    found = optimised(saved(model, tmp_path), whole, tmp_path / "package")
    assert [variant.name for variant in found.variants] == ["trained"]
    assert "linear models in its leaves" in found.notes[0]


def test_texts_that_are_no_models_are_not_taken_for_one(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(ArtifactUnsupported, match=r"notes\.txt"):
        lookup.framework_of(path)


def test_hints_that_contradict_the_model_are_refused(tmp_path):
    path = classifier(tmp_path)
    with pytest.raises(SettingInvalid, match="2 labels"):
        read(path, None, Hints(labels=("a", "b")))
    with pytest.raises(SettingInvalid, match="regression"):
        read(path, None, Hints(task="regression"))
    with pytest.raises(DataError, match="grade"):
        read(path, pd.DataFrame({"a": [1.0], "b": [2.0]}))
