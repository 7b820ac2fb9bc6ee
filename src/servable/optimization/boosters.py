"""Boosters of LightGBM, XGBoost and CatBoost as graph nodes, each with the arithmetic of its own library."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from servable.optimization import booster_trees, trees
from servable.optimization.columns import Matrix
from servable.optimization.ensemble import Ensemble, Split, add_ensemble
from servable.optimization.graph import Graph, Unconvertible
from servable.optimization.targets import Answer, Target, largest, softmax, typed, values

#: LightGBM's regression objectives and the operator that ends them.
_LIGHTGBM_VALUES: dict[str, str] = {
    "regression": "",
    "regression_l1": "",
    "huber": "",
    "fair": "",
    "quantile": "",
    "mape": "",
    "lambdarank": "",
    "rank_xendcg": "",
    "poisson": "Exp",
    "gamma": "Exp",
    "tweedie": "Exp",
    "cross_entropy": "Sigmoid",
}
#: The same of XGBoost, besides those of a logarithm.
_XGBOOST_VALUES: dict[str, str] = {
    "reg:squarederror": "",
    "reg:linear": "",
    "reg:squaredlogerror": "",
    "reg:absoluteerror": "",
    "reg:pseudohubererror": "",
    "reg:quantileerror": "",
    "reg:expectileerror": "",
    "reg:logistic": "Sigmoid",
    "binary:logitraw": "",
    "rank:pairwise": "",
    "rank:ndcg": "",
    "rank:map": "",
    **dict.fromkeys(booster_trees.LOGARITHMIC, "Exp"),
}
#: The same of CatBoost.
_CATBOOST_EXPONENTS = frozenset({"Poisson", "Tweedie", "LogLinQuantile"})


def library_of(model: Any) -> str:
    """The library that a model's class is of."""
    return type(model).__module__.partition(".")[0]


def booster_trees_of(model: Any) -> Ensemble | None:
    """The trees of a booster that is no scikit-learn estimator; None for everything else."""
    library, kind = library_of(model), type(model).__name__
    if (library, kind) == ("lightgbm", "Booster"):
        dump = model.dump_model()
        return trees.lightgbm(dump, binary=str(dump.get("objective", "")).startswith("binary"))
    if (library, kind) == ("xgboost", "Booster"):
        return booster_trees.xgboost(xgboost_json(model), 0)
    if (library, kind) == ("catboost", "CatBoost"):
        held = catboost_json(model, {})
        # Which texts the hashes stand for does not matter for the thresholds.
        return booster_trees.catboost(
            held, {place: _AnyCode() for place in booster_trees.one_hot_columns(held)}
        )
    return None


class _AnyCode(dict[int, float]):
    """A code for every hash."""

    def get(self, key: int, default: Any = None) -> Any:
        """Zero."""
        return 0.0


def lightgbm(target: Target, dump: dict[str, Any], matrix: Matrix, *, coded: bool = False) -> Answer:
    """What LightGBM answers.

    Args:
        target: where to.
        dump: the booster's ``dump_model``.
        matrix: its features.
        coded: whether categories that pandas kept are codes in the matrix already.

    Raises:
        Unconvertible: an objective of the user's, or pandas categories that are not coded.
    """
    if any(dump.get("pandas_categorical") or ()) and not coded:
        raise Unconvertible("LightGBM fitted on pandas categories of its own")
    objective = str(dump.get("objective", "")).split()
    name = objective[0] if objective else ""
    settings = dict(part.split(":", 1) for part in objective[1:] if ":" in part)
    factor = float(settings.get("sigmoid", "1")) if name in ("binary", "multiclassova") else 1.0
    graph = target.graph
    if name in ("binary", "multiclass", "multiclassova"):
        ensemble = trees.lightgbm(dump, binary=name == "binary", factor=factor)
        sums = add_ensemble(graph, ensemble, _lightgbm_input(target, dump, matrix), single=target.single)
        operator = "Sigmoid" if name == "multiclassova" else "Softmax"
        probabilities = graph.node(operator, [sums])
        return Answer(largest(target, probabilities), True, probabilities, target.element)
    if "sqrt" in objective or name not in _LIGHTGBM_VALUES:
        raise Unconvertible(f"LightGBM with the objective {' '.join(objective) or 'of the user'!r}")
    ensemble = trees.lightgbm(dump, binary=False)
    sums = add_ensemble(graph, ensemble, _lightgbm_input(target, dump, matrix), single=target.single)
    link = _LIGHTGBM_VALUES[name]
    return values(target, graph.node(link, [sums]) if link else sums)


def _lightgbm_input(target: Target, dump: dict[str, Any], matrix: Matrix) -> str:
    """The matrix as LightGBM reads it: categories cut to whole numbers, zeros missing where asked."""
    graph = target.graph
    zeros, categories = trees.lightgbm_special_columns(dump)
    plain = matrix.plain(graph)
    tensor = plain.tensor
    uncut = [place for place in categories if place not in plain.codes]
    if uncut:
        towards_zero = graph.node(
            "Mul", [graph.node("Sign", [tensor]), graph.node("Floor", [graph.node("Abs", [tensor])])]
        )
        tensor = graph.node("Where", [graph.constant(_mask(uncut, plain.width)), towards_zero, tensor])
    if zeros:
        near = graph.constant(np.asarray(trees.NEAR_ZERO))
        is_zero = graph.node("LessOrEqual", [graph.node("Abs", [tensor]), near])
        absent = graph.node("And", [is_zero, graph.constant(_mask(zeros, plain.width))])
        tensor = graph.node("Where", [absent, graph.constant(np.asarray(np.nan)), tensor])
    return typed(target, Matrix(tensor, plain.width))


def _mask(places: Sequence[int], width: int) -> NDArray[np.bool_]:
    mask = np.zeros(width, dtype=bool)
    mask[list(places)] = True
    return mask


def xgboost_json(booster: Any) -> dict[str, Any]:
    """The whole of an XGBoost model."""
    decoded: dict[str, Any] = msgspec.json.decode(bytes(booster.save_raw("json")))
    return decoded


def xgboost(target: Target, model: Mapping[str, Any], matrix: Matrix, rounds: int) -> Answer:
    """What XGBoost answers, in float32 as it computes itself.

    Args:
        target: where to; must be ``single``.
        model: see ``xgboost_json``.
        matrix: its features.
        rounds: how many rounds count; 0 for all.

    Raises:
        Unconvertible: no trees, or an objective that is not known.
    """
    graph = target.graph
    ensemble = booster_trees.xgboost(model, rounds)
    plain = matrix.plain(graph)
    tensor = typed(target, plain)
    uncut = sorted(_categorical(ensemble) - plain.codes)
    if uncut:
        # Below zero nothing is a category, so that cutting downwards makes none.
        cut = graph.node("Floor", [tensor])
        tensor = graph.node("Where", [graph.constant(_mask(uncut, plain.width)), cut, tensor])
    sums = add_ensemble(graph, ensemble, tensor, single=True)
    objective = model["learner"]["objective"]["name"]
    if objective == "binary:logistic":
        second = _in_double(graph, "Sigmoid", sums)
        first = graph.node("Sub", [graph.constant(np.asarray(1, dtype=np.float32)), second])
        probabilities = graph.node("Concat", [first, second], axis=1)
        return Answer(largest(target, probabilities), True, probabilities, target.element)
    if objective == "multi:softprob":
        probabilities = _in_double(graph, "Softmax", sums, axis=1)
        return Answer(largest(target, probabilities), True, probabilities, target.element)
    if objective == "multi:softmax":
        return Answer(largest(target, sums), is_index=True)
    if objective == "binary:hinge":
        above = graph.node("Greater", [sums, graph.constant(np.asarray(0, dtype=np.float32))])
        shape = graph.constant(np.asarray([-1], dtype=np.int64))
        flat = graph.node("Reshape", [above, shape])
        return Answer(graph.node("Cast", [flat], to=TensorProto.INT64), is_index=True)
    if objective not in _XGBOOST_VALUES:
        raise Unconvertible(f"XGBoost with the objective {objective!r}")
    link = _XGBOOST_VALUES[objective]
    return values(target, _in_double(graph, link, sums) if link else sums)


def _categorical(ensemble: Ensemble) -> set[int]:
    """The columns with splits by sets of categories."""
    every = (node for tree in ensemble.trees for node in tree)
    return {node.feature for node in every if isinstance(node, Split) and node.members}


def _in_double(graph: Graph, operator: str, tensor: str, **attributes: Any) -> str:
    """A function of a float32 tensor rounded once, as the libraries' own is to within its last digit."""
    wide = graph.node("Cast", [tensor], to=TensorProto.DOUBLE)
    return graph.node("Cast", [graph.node(operator, [wide], **attributes)], to=TensorProto.FLOAT)


def catboost_json(model: Any, categories: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    """The whole of a CatBoost model, with the hashes of some categories.

    Args:
        model: a ``catboost.CatBoost``.
        categories: texts by column.
    """
    import catboost  # This module is there for the other libraries too.
    import pandas as pd

    pool = None
    if categories:
        count = max(len(texts) for texts in categories.values())
        columns = {
            place: [categories[place][row % len(categories[place])] for row in range(count)]
            if place in categories
            else [0.0] * count
            for place in range(len(model.feature_names_))
        }
        frame = pd.DataFrame(columns).set_axis(list(model.feature_names_), axis=1)
        pool = catboost.Pool(frame, cat_features=sorted(categories))
    with tempfile.TemporaryDirectory(prefix="servable-") as made:
        path = Path(made) / "model.json"
        model.save_model(str(path), format="json", pool=pool)
        decoded: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return decoded


def catboost(
    target: Target,
    model: Mapping[str, Any],
    matrix: Matrix,
    codes: Mapping[int, Mapping[int, float]],
    loss: str,
) -> Answer:
    """What CatBoost answers: numbers compared in float32, sums in double.

    Args:
        target: where to; not ``single``.
        model: see ``catboost_json``.
        matrix: its features, categories as codes.
        codes: see ``booster_trees.catboost``.
        loss: the name of the loss that it was trained with.

    Raises:
        Unconvertible: see ``booster_trees.catboost``.
    """
    graph = target.graph
    ensemble = booster_trees.catboost(model, codes)
    sums = add_ensemble(graph, ensemble, typed(target, matrix, rounded=True), single=target.single)
    if loss in ("Logloss", "CrossEntropy"):
        zeros = graph.node("Sub", [sums, sums])
        return softmax(target, graph.node("Concat", [zeros, sums], axis=1))
    if loss == "MultiClass":
        return softmax(target, sums)
    if loss == "MultiClassOneVsAll":
        return Answer(largest(target, sums), True, graph.node("Sigmoid", [sums]), target.element)
    return values(target, graph.node("Exp", [sums]) if loss in _CATBOOST_EXPONENTS else sums)
