import json
import os
import pickle
import zipfile

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from servable.artifact.manifest import Variant
from servable.errors import (
    ArtifactUnreadable,
    ArtifactUnsupported,
    ArtifactUntrusted,
    DataError,
    DependencyMissing,
    ModelFailed,
)
from servable.frameworks.base import EXECUTES
from servable.frameworks.frame import pack
from servable.frameworks.sklearn import ADAPTER

FRAME = pd.DataFrame(
    {
        "age": [31, 45, 27, 60, 38, 52] * 5,
        "pay": [1.5, 2.5, np.nan, 4.0, 1.0, 3.0] * 5,
        "town": ["Oslo", "Rome", "Oslo", "Bern", "Rome", "Bern"] * 5,
        "owner": [True, False, True, True, False, False] * 5,
    }
)
TARGET = ["yes", "no", "yes", "no", "yes", "no"] * 5


def mixed(model, *, unknown: str = "ignore") -> Pipeline:
    filled = SimpleImputer(strategy="most_frequent")
    prepare = ColumnTransformer(
        [
            ("n", SimpleImputer(), ["age", "pay"]),
            (
                "c",
                make_pipeline(filled, OneHotEncoder(handle_unknown=unknown)),
                ["town"],
            ),
            ("b", "passthrough", ["owner"]),
        ]
    )
    return Pipeline([("prepare", prepare), ("model", model)]).fit(FRAME, TARGET)


def saved(model, path):
    if path.suffix == ".skops":
        skops.io.dump(model, path)
    elif path.suffix == ".joblib":
        joblib.dump(model, path)
    else:
        path.write_bytes(pickle.dumps(model))
    return path


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".skops"])
@pytest.mark.parametrize(
    "model",
    [RandomForestClassifier(5), lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, min_child_samples=2)],
)
def test_a_foreign_model_is_taken_in_kept_as_skops_and_answers_the_same(tmp_path, suffix, model):
    pipeline = mixed(model)
    path = saved(pipeline, tmp_path / f"m{suffix}")
    trained = ADAPTER.read(path, sample=FRAME, trust=suffix != ".skops")
    signature = trained.signature

    assert [(field.name, field.kind, field.dtype) for field in signature.inputs] == [
        ("age", "number", "int64"),
        ("pay", "number", "float64"),
        ("town", "category", "str"),
        ("owner", "boolean", "bool"),
    ]
    assert signature.input("town").values == ("Bern", "Oslo", "Rome")
    assert signature.input("age").minimum == 27
    assert signature.input("pay").missing
    assert signature.classes == ("no", "yes")
    assert signature.probabilities

    variant = ADAPTER.write(trained, tmp_path)
    assert variant.path == "model.skops"
    assert EXECUTES not in variant.options
    assert str(tmp_path) not in json.dumps(variant.options)
    arrays = pack(FRAME, signature)
    expected = pipeline.predict(FRAME)
    for predictor in (ADAPTER.wrap(trained), ADAPTER.load(tmp_path, variant, signature, trust=False)):
        answer = predictor.predict(arrays)
        assert answer["prediction"].dtype == np.int64
        assert [signature.classes[place] for place in answer["prediction"]] == expected.tolist()
        assert np.array_equal(answer["probabilities"], pipeline.predict_proba(FRAME))
        predictor.close()


def test_without_a_sample_the_model_itself_is_asked(tmp_path):
    trained = ADAPTER.read(
        saved(mixed(LogisticRegression(), unknown="error"), tmp_path / "m.skops"), sample=None, trust=False
    )
    town = trained.signature.input("town")
    assert town.unknown == "refuse"
    assert town.example == "Bern"
    assert trained.signature.input("age").missing
    assert not trained.signature.input("owner").missing


def test_a_model_fitted_on_arrays_gets_arrays(tmp_path):
    data = load_iris()
    model = LogisticRegression(max_iter=500).fit(data.data, data.target)
    path = saved(model, tmp_path / "m.pkl")
    trained = ADAPTER.read(path, sample=None, trust=True)
    assert [field.name for field in trained.signature.inputs] == ["x0", "x1", "x2", "x3"]
    answer = ADAPTER.wrap(trained).predict({"numbers": data.data})
    assert np.array_equal(answer["prediction"], model.predict(data.data))

    named = pd.DataFrame(data.data, columns=list("abcd"))
    assert [f.name for f in ADAPTER.read(path, sample=named, trust=True).signature.inputs] == list("abcd")
    with pytest.raises(DataError, match="takes 4 columns, the sample has 1"):
        ADAPTER.read(path, sample=named[["a"]], trust=True)


def test_a_sample_of_texts_does_not_fit_a_model_of_numbers():
    data = load_iris()
    model = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    with pytest.raises(DataError, match="column 'b' holds texts"):
        ADAPTER.take(model, sample=pd.DataFrame({"a": [1.0], "b": ["x"], "c": [1.0], "d": [1.0]}))


def test_regression_and_clustering_give_values_and_clusters(tmp_path):
    numbers = FRAME[["age"]].astype(float)
    line = ADAPTER.read(
        saved(LinearRegression().fit(numbers, numbers["age"] * 2), tmp_path / "l.skops"),
        sample=None,
        trust=False,
    )
    assert line.signature.task == "regression"
    assert ADAPTER.wrap(line).predict({"numbers": np.array([[21.0]])})["prediction"] == pytest.approx([42.0])
    groups = ADAPTER.read(
        saved(KMeans(2, n_init=1).fit(numbers), tmp_path / "k.skops"), sample=None, trust=False
    )
    assert groups.signature.task == "clustering"
    assert ADAPTER.wrap(groups).predict({"numbers": np.array([[21.0]])})["prediction"].dtype == np.int64


class Runs:
    def __reduce__(self):
        return (os.system, ("touch /tmp/never",))


class Doubled(LinearRegression):
    """A class of the user's own, which skops does not vouch for."""


def test_a_pickle_is_not_opened_without_trust(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ArtifactUntrusted, match="system"):
        ADAPTER.read(path, sample=None, trust=False)


def test_a_skops_with_types_of_the_users_own_needs_trust_and_stays_a_pickle_when_it_was_one(tmp_path):
    model = Doubled().fit(FRAME[["age"]].astype(float), FRAME["age"])
    path = saved(model, tmp_path / "m.skops")
    with pytest.raises(ArtifactUntrusted, match="Doubled"):
        ADAPTER.read(path, sample=None, trust=False)
    pickled = tmp_path / "m.pkl"
    joblib.dump(LinearRegressionWithCode(), pickled)
    with pytest.raises(ArtifactUnreadable, match="never fitted"):
        ADAPTER.read(pickled, sample=None, trust=True)


class LinearRegressionWithCode(LinearRegression):
    """Another one."""


@pytest.mark.parametrize("content", [b"", b"not a pickle at all", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".skops"])
def test_damaged_files_are_unreadable(tmp_path, content, suffix):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(ArtifactUnreadable):
        ADAPTER.read(path, sample=None, trust=True)


def test_truncated_files_are_unreadable(tmp_path):
    model = RandomForestRegressor(3).fit(FRAME[["age"]], FRAME["age"])
    for suffix in (".pkl", ".joblib", ".skops"):
        whole = saved(model, tmp_path / f"m{suffix}")
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(ArtifactUnreadable):
            ADAPTER.read(whole, sample=None, trust=True)


def test_a_skops_whose_schema_is_no_schema_is_unreadable(tmp_path):
    path = tmp_path / "m.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", "{}")
    with pytest.raises(ArtifactUnreadable):
        ADAPTER.read(path, sample=None, trust=True)


def test_a_module_that_is_not_installed_is_named(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(b"cnot_installed_here\nModel\n.")
    with pytest.raises(DependencyMissing, match="not_installed_here"):
        ADAPTER.read(path, sample=None, trust=True)


def test_what_predicts_nothing_is_unsupported(tmp_path):
    path = saved(StandardScaler().fit(FRAME[["age"]]), tmp_path / "m.skops")
    with pytest.raises(ArtifactUnsupported, match="no predict"):
        ADAPTER.read(path, sample=None, trust=False)


def test_a_failing_model_says_so_without_the_rows(tmp_path):
    model = OrdinalPipeline().fit(FRAME[["town"]], TARGET)
    trained = ADAPTER.read(saved(model, tmp_path / "m.skops"), sample=None, trust=True)
    secret = np.array([["Atlantis"]], dtype=object)
    with pytest.raises(ModelFailed) as caught:
        ADAPTER.wrap(trained).predict({"strings": secret})
    assert "Atlantis" not in caught.value.message


def OrdinalPipeline() -> Pipeline:  # noqa: N802 - reads like a class where it is used
    return make_pipeline(OrdinalEncoder(), LogisticRegression())


def test_a_damaged_package_file_is_refused_without_trust(tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Runs()))
    variant = Variant(name="trained", format="sklearn", path="model.pkl")
    trained = ADAPTER.read(saved(mixed(LogisticRegression()), tmp_path / "m.skops"), sample=None, trust=False)
    with pytest.raises(ArtifactUntrusted):
        ADAPTER.load(tmp_path, variant, trained.signature, trust=False)
