"""The estimators that are compared, each as one pipeline from the canonical frame to the answer.

All preparation is inside the pipeline, so nothing is learned from rows that a fold holds back. Only
steps that ``optimize`` can compile are used. Random numbers come from the seed that is handed in.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from servable.artifact.signature import Signature, Task
from servable.errors import SettingInvalid
from servable.frameworks.transformers import DateParts
from servable.tensors import STRINGS

#: Fewer rows than this are learned from with one thread.
THREADED_ROWS = 15_000
#: Names of the two baselines, of every task with a target.
DUMMY = "dummy"
LINEAR = {"classification": "logistic", "regression": "ridge"}

Params = Mapping[str, Any]


class Candidate(NamedTuple):
    """One family of models.

    Attributes:
        name: as on the leaderboard.
        title: for people.
        make: ``(params, seed, jobs) -> estimator``, unfitted.
        dense: whether it needs scaled numbers, one-hot categories and no missing values.
        imputes: whether missing numbers must be filled in; implied by ``dense``.
        auto: whether ``auto`` tries it.
        weights: whether it knows ``class_weight``.
        most_rows: rows beyond which ``auto`` leaves it out as too slow.
    """

    name: str
    title: str
    make: Callable[[Params, int, int], Any]
    dense: bool = False
    imputes: bool = False
    auto: bool = True
    weights: bool = False
    most_rows: int = 2_000_000


def threads(rows: int) -> int:
    """How many threads an estimator may use to learn from so many rows.

    One for few rows: threads that wait for each other on a busy machine cost more than they bring.
    ``OMP_NUM_THREADS`` is an upper limit.
    """
    return 1 if rows < THREADED_ROWS else every_thread()


def every_thread() -> int:
    """How many threads this process may have; ``OMP_NUM_THREADS`` is an upper limit."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdigit() and int(limit) > 0 else available


def _lightgbm(kind: str) -> Callable[[Params, int, int], Any]:
    def make(params: Params, seed: int, jobs: int) -> Any:
        # Heavy and needed by this candidate alone.
        import lightgbm

        fixed = {
            "n_estimators": 200,
            "learning_rate": 0.08,
            "subsample_freq": 1,
            "random_state": seed,
            "n_jobs": jobs,
            "verbose": -1,
            "deterministic": True,
            "force_row_wise": True,
        }
        return getattr(lightgbm, kind)(**{**fixed, **params})

    return make


def _seeded(kind: Callable[..., Any], **fixed: Any) -> Callable[[Params, int, int], Any]:
    def make(params: Params, seed: int, jobs: int) -> Any:
        extra = {"n_jobs": jobs} if kind in _PARALLEL else {}
        return kind(**{**fixed, "random_state": seed, **extra, **params})

    return make


def _plain(kind: Callable[..., Any], **fixed: Any) -> Callable[[Params, int, int], Any]:
    def make(params: Params, seed: int, jobs: int) -> Any:
        return kind(**{**fixed, **params})

    return make


_PARALLEL = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_FOREST: dict[str, Any] = {"n_estimators": 200, "max_features": 0.5, "min_samples_leaf": 2}
_BOOST: dict[str, Any] = {"early_stopping": False, "max_iter": 200, "learning_rate": 0.08}
_MLP: dict[str, Any] = {
    "hidden_layer_sizes": (64, 32),
    "early_stopping": True,
    "max_iter": 100,
    "alpha": 1e-3,
}

#: The candidates of each task, in the order in which they are tried.
CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    "classification": (
        Candidate(DUMMY, "most frequent class", _plain(DummyClassifier, strategy="prior"), dense=True),
        Candidate(
            "logistic",
            "logistic regression",
            _seeded(LogisticRegression, max_iter=1000),
            dense=True,
            weights=True,
        ),
        Candidate("lightgbm", "LightGBM boosted trees", _lightgbm("LGBMClassifier"), weights=True),
        Candidate(
            "hist_boosting",
            "histogram boosted trees",
            _seeded(HistGradientBoostingClassifier, **_BOOST),
            weights=True,
        ),
        Candidate(
            "forest",
            "random forest",
            _seeded(RandomForestClassifier, **{**_FOREST, "max_features": "sqrt"}),
            imputes=True,
            weights=True,
            most_rows=200_000,
        ),
        Candidate(
            "extra_trees",
            "extra trees",
            _seeded(ExtraTreesClassifier, **{**_FOREST, "max_features": "sqrt"}),
            imputes=True,
            weights=True,
            most_rows=200_000,
        ),
        Candidate("naive_bayes", "Gaussian naive Bayes", _plain(GaussianNB), dense=True, auto=False),
        Candidate("neighbours", "nearest neighbours", _plain(KNeighborsClassifier), dense=True, auto=False),
        Candidate("mlp", "small neural network", _seeded(MLPClassifier, **_MLP), dense=True, auto=False),
        Candidate(
            "sgd",
            "linear model that learns on",
            _seeded(SGDClassifier, loss="log_loss"),
            dense=True,
            auto=False,
            weights=True,
        ),
    ),
    "regression": (
        Candidate(DUMMY, "mean", _plain(DummyRegressor, strategy="mean"), dense=True),
        Candidate("ridge", "ridge regression", _seeded(Ridge), dense=True),
        Candidate("lightgbm", "LightGBM boosted trees", _lightgbm("LGBMRegressor")),
        Candidate(
            "hist_boosting", "histogram boosted trees", _seeded(HistGradientBoostingRegressor, **_BOOST)
        ),
        Candidate(
            "forest",
            "random forest",
            _seeded(RandomForestRegressor, **_FOREST),
            imputes=True,
            most_rows=100_000,
        ),
        Candidate(
            "extra_trees",
            "extra trees",
            _seeded(ExtraTreesRegressor, **_FOREST),
            imputes=True,
            most_rows=100_000,
        ),
        Candidate("neighbours", "nearest neighbours", _plain(KNeighborsRegressor), dense=True, auto=False),
        Candidate("mlp", "small neural network", _seeded(MLPRegressor, **_MLP), dense=True, auto=False),
        Candidate("sgd", "linear model that learns on", _seeded(SGDRegressor), dense=True, auto=False),
    ),
    "clustering": (
        Candidate("kmeans", "k-means", _seeded(KMeans, n_init=10), dense=True),
        Candidate("minibatch_kmeans", "mini-batch k-means", _seeded(MiniBatchKMeans, n_init=10), dense=True),
        Candidate(
            "gaussian_mixture", "Gaussian mixture", _seeded(GaussianMixture, reg_covar=1e-4), dense=True
        ),
    ),
}


def candidate(task: Task, name: str) -> Candidate:
    """The candidate of this name.

    Raises:
        SettingInvalid: the task has none of this name; the message lists those it has.
    """
    for known in CANDIDATES.get(task, ()):
        if known.name == name:
            return known
    listed = ", ".join(known.name for known in CANDIDATES.get(task, ()))
    raise SettingInvalid(f"No {task} model is called {name!r}; choose auto or one of {listed}.")


def prepare(signature: Signature, *, dense: bool, imputes: bool = False) -> ColumnTransformer:
    """The preparation step: canonical frame in, float64 matrix out.

    Args:
        signature: names, kinds and known values of the columns.
        dense: scaled numbers and one-hot categories without missing values, for linear models, distances
            and networks; otherwise numbers as they are and categories as ordinals, for trees.
        imputes: fill missing numbers with the median also for trees.
    """
    numbers = [field for field in signature.inputs if field.kind in ("number", "boolean")]
    dates = [field.name for field in signature.inputs if field.kind == "date"]
    texts = [field.name for field in signature.inputs if field.kind == "category" and field.array == STRINGS]
    codes = [field.name for field in signature.inputs if field.kind == "category" and field.array != STRINGS]
    steps: list[tuple[str, Any, list[str]]] = []
    gaps = [field.name for field in numbers if field.missing]
    whole = [field.name for field in numbers if not field.missing]
    if dense:
        if whole:
            steps.append(("numbers", StandardScaler(), whole))
        if gaps:
            steps.append(("gaps", Pipeline([("impute", _median()), ("scale", StandardScaler())]), gaps))
        if dates:
            parts = [("parts", DateParts()), ("impute", _median()), ("scale", StandardScaler())]
            steps.append(("dates", Pipeline(parts), dates))
        # ``infrequent`` values are not grouped: the compiled form would have to carry the grouping.
        encoder: Any = partial(OneHotEncoder, handle_unknown="ignore", sparse_output=False)
    else:
        if whole:
            steps.append(("numbers", "passthrough", whole))
        if gaps:
            steps.append(("gaps", _median() if imputes else "passthrough", gaps))
        if dates:
            step = Pipeline([("parts", DateParts()), ("impute", _median())]) if imputes else DateParts()
            steps.append(("dates", step, dates))
        unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
        encoder = partial(OrdinalEncoder, **unknown, encoded_missing_value=-1)
    if texts:
        steps.append(("categories", encoder(), texts))
    if codes:
        steps.append(("codes", encoder(), codes))
    return ColumnTransformer(steps, verbose_feature_names_out=False, sparse_threshold=0.0)


def _median() -> SimpleImputer:
    return SimpleImputer(strategy="median", keep_empty_features=True)


def build(signature: Signature, name: str, params: Params, *, seed: int = 0, jobs: int = 1) -> Pipeline:
    """An unfitted pipeline of two steps, ``prepare`` and ``model``.

    Raises:
        SettingInvalid: no such candidate.
    """
    known = candidate(signature.task, name)
    preparation = prepare(signature, dense=known.dense, imputes=known.imputes)
    return Pipeline([("prepare", preparation), ("model", known.make(params, seed, jobs))])


def tidy(pipeline: Pipeline) -> Pipeline:
    """Set a fitted pipeline to answer with one thread: rows come one at a time, and threads cost more."""
    model = pipeline.named_steps["model"]
    if "n_jobs" in model.get_params(deep=False):
        model.set_params(n_jobs=1)
    return pipeline


def chosen(task: Task, models: str | list[str], rows: int) -> list[Candidate]:
    """The candidates to compare: all that fit the size for ``auto``, else those named and the baselines.

    Raises:
        SettingInvalid: a name that the task does not have, or none at all.
    """
    everything = CANDIDATES.get(task, ())
    if models == "auto":
        return [known for known in everything if known.auto and rows <= known.most_rows]
    wanted = [models] if isinstance(models, str) else list(models)
    if not wanted:
        raise SettingInvalid("No model was named; say auto or give names.")
    named = [candidate(task, name) for name in dict.fromkeys(wanted)]
    baselines = [
        known for known in everything if known.name in (DUMMY, LINEAR.get(task)) and known not in named
    ]
    return baselines + named


def suggest(trial: Any, name: str, *, rows: int, weighted: bool) -> dict[str, Any]:
    """Parameters of a candidate drawn from an Optuna trial; empty where there is nothing to tune.

    Args:
        trial: an ``optuna.Trial``.
        name: of the candidate.
        rows: of the training part; bounds leaf sizes.
        weighted: whether to compare balanced class weights too.
    """
    params: dict[str, Any] = {}
    leaf = int(np.clip(rows // 20, 2, 100))
    if name == "lightgbm":
        params = {
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 8, 96, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 2, leaf, log=True),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
            "subsample": trial.suggest_float("subsample", 0.6, 1.0),
            "reg_lambda": trial.suggest_float("reg_lambda", 1e-3, 20.0, log=True),
            "reg_alpha": trial.suggest_float("reg_alpha", 1e-3, 5.0, log=True),
        }
    elif name == "hist_boosting":
        params = {
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
            "max_iter": trial.suggest_int("max_iter", 60, 400, log=True),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 8, 96, log=True),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2, leaf, log=True),
            "l2_regularization": trial.suggest_float("l2_regularization", 1e-3, 20.0, log=True),
        }
    elif name in ("forest", "extra_trees"):
        params = {
            "max_features": trial.suggest_float("max_features", 0.2, 1.0),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, min(leaf, 20), log=True),
        }
    elif name == "logistic":
        params = {"C": trial.suggest_float("C", 1e-3, 1e2, log=True)}
    elif name == "ridge":
        params = {"alpha": trial.suggest_float("alpha", 1e-3, 1e3, log=True)}
    elif name == "neighbours":
        params = {
            "n_neighbors": trial.suggest_int("n_neighbors", 1, max(2, min(50, rows // 3)), log=True),
            "weights": trial.suggest_categorical("weights", ["uniform", "distance"]),
        }
    elif name == "mlp":
        params = {
            "alpha": trial.suggest_float("alpha", 1e-5, 1e-1, log=True),
            "learning_rate_init": trial.suggest_float("learning_rate_init", 1e-4, 1e-2, log=True),
        }
    if weighted:
        params["class_weight"] = trial.suggest_categorical("class_weight", [None, "balanced"])
    return params
