"""Small fitted pipelines over mixed columns, for tests of the compiler."""

import warnings
from typing import Any, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from servable.artifact.signature import Field, Signature
from servable.frameworks.base import Trained
from servable.frameworks.frame import to_frame
from servable.frameworks.transformers import DateParts

FIELDS = (
    Field(name="size", kind="number", dtype="float64"),
    Field(name="town", kind="category", dtype="str", missing=True),
    Field(name="rate", kind="number", dtype="float64"),
    Field(name="sold", kind="date", dtype="datetime", missing=True),
    Field(name="kind", kind="category", dtype="str"),
    Field(name="grade", kind="category", dtype="int64"),
)


class Data(NamedTuple):
    arrays: dict[str, NDArray[Any]]
    three: NDArray[np.int64]
    two: NDArray[np.int64]
    value: NDArray[np.float64]


def data(rows: int = 300, *, missing: bool = False, seed: int = 0) -> Data:
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(rows, 4))
    numbers[:, 2] = generator.integers(0, 2_000_000_000, rows).astype(float)
    numbers[:, 3] = generator.integers(0, 4, rows).astype(float)
    strings = np.empty((rows, 2), dtype=object)
    strings[:, 0] = generator.choice(["a", "b", "c", ""], rows)
    strings[:, 1] = generator.choice(["a", "x", "y", "é", "zz"], rows)
    two = (numbers[:, 0] + (strings[:, 0] == "a") + generator.normal(size=rows) * 0.3 > 0.2).astype(np.int64)
    three = two + ((numbers[:, 1] > 0.3) & (strings[:, 1] != "x")).astype(np.int64)
    value = np.abs(numbers[:, 0] * 2 + numbers[:, 1] ** 2 + (strings[:, 0] == "b") + numbers[:, 3])
    if missing:
        numbers[generator.random(rows) < 0.2, 2] = np.nan
    return Data({"numbers": numbers, "strings": strings}, three, two, value)


def prepare(form: str) -> ColumnTransformer:
    numbers, texts = ["size", "rate", "sold"], ["town", "kind"]
    other = {"handle_unknown": "use_encoded_value"}
    if form == "ordinal":
        encoder = OrdinalEncoder(**other, unknown_value=-1)
        return ColumnTransformer([("n", "passthrough", [*numbers, "grade"]), ("c", encoder, texts)])
    if form == "mixed":
        encoder = OrdinalEncoder(**other, unknown_value=np.nan)
        columns = ["town", "grade", "kind"]
        return ColumnTransformer([("c", encoder, columns), ("n", RobustScaler(), numbers)])
    if form == "target":
        return ColumnTransformer(
            [("c", TargetEncoder(random_state=0), texts), ("n", "passthrough", ["size"])]
        )
    if form == "scaled":
        steps = [
            ("a", MinMaxScaler(clip=True), ["size"]),
            ("b", MaxAbsScaler(), ["rate"]),
            (
                "c",
                OneHotEncoder(handle_unknown="ignore", drop="first", sparse_output=False),
                ["town", "grade"],
            ),
        ]
        return ColumnTransformer(steps)
    steps = [
        ("n", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
        ("c", OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=60), texts),
        ("d", make_pipeline(DateParts(), SimpleImputer()), ["sold"]),
    ]
    return ColumnTransformer(steps, sparse_threshold=0)


LIGHT = {"verbose": -1, "n_estimators": 12, "min_child_samples": 5, "n_jobs": 1, "random_state": 0}
CATEGORICAL = {"categorical_feature": [4, 5], "min_data_per_group": 5}
HIST = {"max_iter": 8, "random_state": 0, "min_samples_leaf": 5}
FEW = {"n_estimators": 8, "random_state": 0}

#: Name to target, form of the preparation, whether it is fitted with missing numbers, and the model.
CASES: dict[str, tuple[str, str, bool, Any]] = {
    "forest": ("three", "ordinal", False, RandomForestClassifier(**FEW)),
    "forest-unsure": ("three", "ordinal", True, RandomForestClassifier(max_depth=4, **FEW)),
    "forest-value": ("value", "dense", True, RandomForestRegressor(**FEW)),
    "tree": ("two", "mixed", False, DecisionTreeClassifier(random_state=0)),
    "extra-trees": ("two", "target", False, ExtraTreesClassifier(**FEW)),
    "gradient": ("three", "dense", True, GradientBoostingClassifier(**FEW)),
    "gradient-two": ("two", "dense", True, GradientBoostingClassifier(**FEW)),
    "gradient-value": ("value", "dense", True, GradientBoostingRegressor(**FEW)),
    "hist": ("three", "mixed", True, HistGradientBoostingClassifier(categorical_features=[0, 1, 2], **HIST)),
    "hist-two": ("two", "ordinal", True, HistGradientBoostingClassifier(**HIST)),
    "hist-poisson": ("value", "ordinal", False, HistGradientBoostingRegressor(loss="poisson", **HIST)),
    "light": ("two", "ordinal", False, lightgbm.LGBMClassifier(**LIGHT)),
    "light-three": ("three", "mixed", True, lightgbm.LGBMClassifier(**LIGHT)),
    "light-each": ("three", "mixed", True, lightgbm.LGBMClassifier(objective="multiclassova", **LIGHT)),
    "light-zero": ("two", "ordinal", True, lightgbm.LGBMClassifier(zero_as_missing=True, **LIGHT)),
    "light-nothing-missing": ("two", "ordinal", True, lightgbm.LGBMClassifier(use_missing=False, **LIGHT)),
    "light-categories": ("two", "ordinal", True, lightgbm.LGBMClassifier(**CATEGORICAL, **LIGHT)),
    "light-value": ("value", "dense", True, lightgbm.LGBMRegressor(**LIGHT)),
    "light-tweedie": ("value", "dense", True, lightgbm.LGBMRegressor(objective="tweedie", **LIGHT)),
    "light-forest": (
        "value",
        "dense",
        True,
        lightgbm.LGBMRegressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, **LIGHT),
    ),
    "logistic": ("two", "dense", True, LogisticRegression()),
    "logistic-three": ("three", "scaled", False, LogisticRegression()),
    "ridge": ("value", "scaled", False, Ridge()),
    "ridge-labels": ("three", "scaled", False, RidgeClassifier()),
    "support": ("three", "scaled", False, SVC()),
    "bayes": ("three", "scaled", False, GaussianNB()),
    "network": ("three", "scaled", False, MLPClassifier(max_iter=20, random_state=0)),
    "network-value": ("value", "scaled", False, MLPRegressor(max_iter=20, random_state=0)),
    "dummy": ("three", "dense", False, DummyClassifier(strategy="prior")),
    "dummy-value": ("value", "dense", False, DummyRegressor()),
    "clusters": ("clusters", "scaled", False, KMeans(3, random_state=0, n_init=2)),
    "mixture": ("clusters", "scaled", False, GaussianMixture(3, random_state=0)),
    "components": ("three", "scaled", False, make_pipeline(PCA(3), StandardScaler(), LogisticRegression())),
}


def fitted(pipeline: Pipeline, given: Data, target: str) -> Trained:
    """Fit a pipeline and give it a signature."""
    goal = None if target == "clusters" else getattr(given, target)
    task = {"clusters": "clustering", "value": "regression"}.get(target, "classification")
    if task == "classification":
        answer = Field(
            name="prediction", kind="category", dtype="int64", values=tuple(range(len(set(goal.tolist()))))
        )
    else:
        answer = Field(name="prediction", kind="number", dtype="float64")
    signature = Signature(task=task, inputs=FIELDS, outputs=(answer,))
    with warnings.catch_warnings():
        # Few iterations on little data are enough here, whatever the libraries think of it.
        warnings.simplefilter("ignore")
        pipeline.fit(to_frame(given.arrays, signature), goal)
    likely = task == "classification" and hasattr(pipeline, "predict_proba")
    signature = Signature(task=task, inputs=FIELDS, outputs=(answer,), probabilities=likely)
    return Trained(pipeline, signature, {"style": "canonical"}, {})


def trained(case: str) -> tuple[Trained, Data]:
    """A case of ``CASES``, fitted, with its data."""
    target, form, missing, model = CASES[case]
    given = data(missing=missing)
    return fitted(Pipeline([("prepare", prepare(form)), ("model", model)]), given, target), given
