"""The last step of a pipeline, the model itself, as graph nodes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from servable.optimization import trees
from servable.optimization.columns import Matrix
from servable.optimization.encoders import join
from servable.optimization.ensemble import Ensemble, add_ensemble
from servable.optimization.graph import ML, Graph, Unconvertible
from servable.optimization.steps import absorb_converted


class Target(NamedTuple):
    """Where a model is compiled to.

    Attributes:
        graph: to add nodes to.
        single: compute in float32 instead of float64.
    """

    graph: Graph
    single: bool

    @property
    def element(self) -> int:
        """The ONNX element type of what is computed."""
        return int(TensorProto.FLOAT if self.single else TensorProto.DOUBLE)

    @property
    def dtype(self) -> Any:
        """The same for numpy."""
        return np.float32 if self.single else np.float64

    def constant(self, array: NDArray[Any]) -> str:
        """A constant in the type of the computation."""
        return self.graph.constant(np.asarray(array, dtype=self.dtype))


class Answer(NamedTuple):
    """Tensors of a compiled model.

    Attributes:
        prediction: int64 or double ``[rows]``.
        is_index: whether ``prediction`` is a class or cluster.
        probabilities: ``[rows, classes]`` in ``element``; None where the model has none.
        element: ONNX type of ``probabilities``.
    """

    prediction: str
    is_index: bool
    probabilities: str | None = None
    element: int = TensorProto.DOUBLE


def compile_model(target: Target, model: Any, matrix: Matrix) -> Answer:
    """What a fitted model answers.

    Raises:
        Unconvertible: neither this module nor skl2onnx knows it.
    """
    kind = type(model).__name__
    if kind in _KNOWN:
        return _KNOWN[kind](target, model, matrix)
    if target.single:
        raise Unconvertible(f"{kind} is compiled in double precision only")
    return _elsewhere(target, model, matrix)


def ensemble_of(model: Any) -> Ensemble | None:
    """The trees of a model that is made of trees, None for others."""
    kind = type(model).__name__
    if kind in _FORESTS:
        return trees.forest(model, classifier=hasattr(model, "classes_"))
    if kind.startswith("GradientBoosting"):
        return trees.gradient_boosting(model)
    if kind.startswith("HistGradientBoosting"):
        return trees.hist_gradient_boosting(model)
    if kind.startswith("LGBM"):
        return trees.lightgbm(model.booster_.dump_model(), binary=getattr(model, "n_classes_", 0) == 2)
    return None


def _typed(target: Target, matrix: Matrix, *, rounded: bool = False) -> str:
    """The matrix in the type of the computation; ``rounded``: first to float32, as scikit-learn's trees."""
    tensor = matrix.plain(target.graph).tensor
    if target.single or rounded:
        tensor = target.graph.node("Cast", [tensor], to=TensorProto.FLOAT)
    if rounded and not target.single:
        tensor = target.graph.node("Cast", [tensor], to=TensorProto.DOUBLE)
    return tensor


def _values(target: Target, tensor: str) -> Answer:
    """A regression's answer from ``[rows, 1]``."""
    shape = target.graph.constant(np.asarray([-1], dtype=np.int64))
    flat = target.graph.node("Reshape", [tensor, shape])
    if target.single:
        flat = target.graph.node("Cast", [flat], to=TensorProto.DOUBLE)
    return Answer(flat, is_index=False)


def _largest(target: Target, scores: str, *, last: bool = False) -> str:
    """The place of the largest score of each row; of equals the first, or the last."""
    return target.graph.node("ArgMax", [scores], axis=1, keepdims=0, select_last_index=int(last))


def _softmax(target: Target, logits: str, *, last: bool = False) -> Answer:
    """A classifier's answer from logits; for two classes those are 0 and the logit of the second."""
    probabilities = target.graph.node("Softmax", [logits], axis=1)
    return Answer(_largest(target, logits, last=last), True, probabilities, target.element)


def _forest(target: Target, model: Any, matrix: Matrix) -> Answer:
    classifier = hasattr(model, "classes_")
    ensemble = trees.forest(model, classifier=classifier)
    sums = add_ensemble(target.graph, ensemble, _typed(target, matrix, rounded=True), single=target.single)
    if not classifier:
        return _values(target, sums)
    return Answer(_largest(target, sums), True, sums, target.element)


def _gradient_boosting(target: Target, model: Any, matrix: Matrix) -> Answer:
    ensemble = trees.gradient_boosting(model)
    link = type(model._loss.link).__name__
    if link == "HalfLogitLink":
        raise Unconvertible("GradientBoosting with the exponential loss")
    sums = add_ensemble(target.graph, ensemble, _typed(target, matrix, rounded=True), single=target.single)
    if not hasattr(model, "classes_"):
        return _values(target, sums)
    return _softmax(target, sums, last=len(model.classes_) == 2)


def _hist_gradient_boosting(target: Target, model: Any, matrix: Matrix) -> Answer:
    graph = target.graph
    if model._preprocessor is not None:
        matrix = _remapped(graph, model, matrix.plain(graph))
    ensemble = trees.hist_gradient_boosting(model)
    sums = add_ensemble(graph, ensemble, _typed(target, matrix), single=target.single)
    if hasattr(model, "classes_"):
        return _softmax(target, sums)
    link = type(model._loss.link).__name__
    if link == "LogLink":
        sums = graph.node("Exp", [sums])
    elif link != "IdentityLink":
        raise Unconvertible(f"histogram boosting with {link}")
    return _values(target, sums)


def _remapped(graph: Graph, model: Any, matrix: Matrix) -> Matrix:
    """The columns as the boosting sees them: encoded categories first, then the numbers."""
    encoder = model._preprocessor.named_transformers_["encoder"]
    categorical = np.flatnonzero(model.is_categorical_).tolist()
    parts: list[Matrix] = []
    for place, known in zip(categorical, encoder.categories_, strict=True):
        keys = [float(value) for value in known if value == value]
        if not keys:
            raise Unconvertible("a categorical column without a category")
        column = matrix.select(graph, [place])
        codes = graph.node(
            "LabelEncoder",
            [column.tensor],
            domain=ML,
            keys_tensor=numpy_helper.from_array(np.asarray(keys, dtype=np.float64), "keys"),
            values_tensor=numpy_helper.from_array(np.arange(len(keys), dtype=np.float64), "values"),
            default_tensor=numpy_helper.from_array(np.asarray([np.nan]), "other"),
        )
        parts.append(Matrix(codes, 1))
    numeric = np.flatnonzero(~model.is_categorical_).tolist()
    if numeric:
        parts.append(matrix.select(graph, numeric))
    return join(graph, parts)


def _lightgbm(target: Target, model: Any, matrix: Matrix) -> Answer:
    dump = model.booster_.dump_model()
    objective = str(dump.get("objective", "")).split()
    name = objective[0] if objective else ""
    settings = dict(part.split(":", 1) for part in objective[1:] if ":" in part)
    factor = float(settings.get("sigmoid", "1")) if name in ("binary", "multiclassova") else 1.0
    graph = target.graph
    if name == "binary" or name in ("multiclass", "multiclassova"):
        ensemble = trees.lightgbm(dump, binary=name == "binary", factor=factor)
        tensor = _lightgbm_input(target, dump, matrix)
        sums = add_ensemble(graph, ensemble, tensor, single=target.single)
        operator = "Sigmoid" if name == "multiclassova" else "Softmax"
        probabilities = graph.node(operator, [sums])
        return Answer(_largest(target, probabilities), True, probabilities, target.element)
    if "sqrt" in objective or name not in _LIGHTGBM_VALUES:
        raise Unconvertible(f"LightGBM with the objective {' '.join(objective) or 'of the user'!r}")
    ensemble = trees.lightgbm(dump, binary=False)
    sums = add_ensemble(graph, ensemble, _lightgbm_input(target, dump, matrix), single=target.single)
    link = _LIGHTGBM_VALUES[name]
    return _values(target, graph.node(link, [sums]) if link else sums)


def _lightgbm_input(target: Target, dump: dict[str, Any], matrix: Matrix) -> str:
    """The matrix as LightGBM reads it: categories cut to whole numbers, zeros missing where asked."""
    graph = target.graph
    if any(dump.get("pandas_categorical") or ()):
        raise Unconvertible("LightGBM fitted on pandas categories of its own")
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
    return _typed(target, Matrix(tensor, plain.width))


def _mask(places: list[int], width: int) -> NDArray[np.bool_]:
    mask = np.zeros(width, dtype=bool)
    mask[places] = True
    return mask


def _linear(target: Target, model: Any, matrix: Matrix) -> str:
    """Scores ``[rows, k]`` by one product, a scaler before it melted in; binary: 0 and the score."""
    coefficients = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    intercept = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (len(coefficients),))
    tensor = matrix.tensor
    if matrix.shift is not None and matrix.scale is not None:
        coefficients = coefficients / matrix.scale
        intercept = intercept - coefficients @ matrix.shift
    if hasattr(model, "classes_") and len(coefficients) == 1:
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercept = np.concatenate([[0.0], intercept])
    if target.single:
        tensor = target.graph.node("Cast", [tensor], to=TensorProto.FLOAT)
    weights = target.constant(np.ascontiguousarray(coefficients.T))
    return target.graph.node("Gemm", [tensor, weights, target.constant(intercept)])


def _logistic(target: Target, model: Any, matrix: Matrix) -> Answer:
    return _softmax(target, _linear(target, model, matrix))


def _linear_values(target: Target, model: Any, matrix: Matrix) -> Answer:
    if np.asarray(model.coef_).ndim == 2 and len(model.coef_) > 1:
        raise Unconvertible("the model predicts several targets at once")
    return _values(target, _linear(target, model, matrix))


def _linear_labels(target: Target, model: Any, matrix: Matrix) -> Answer:
    return Answer(_largest(target, _linear(target, model, matrix)), is_index=True)


def _k_means(target: Target, model: Any, matrix: Matrix) -> Answer:
    """The nearest centre: largest ``2 x c - c c``."""
    centres = np.asarray(model.cluster_centers_, dtype=np.float64)
    tensor = _typed(target, matrix)
    offset = target.constant(-(centres**2).sum(axis=1))
    scores = target.graph.node("Gemm", [tensor, target.constant(2.0 * centres.T), offset])
    return Answer(_largest(target, scores), is_index=True)


def _repeated(target: Target, matrix: Matrix, values: NDArray[Any]) -> str:
    """The same values ``[k]`` for every row: double ``[rows, k]``."""
    graph = target.graph
    rows = graph.node("Shape", [matrix.tensor], start=0, end=1)
    shape = graph.node("Concat", [rows, graph.constant(np.asarray([len(values)], dtype=np.int64))], axis=0)
    return graph.node("Expand", [target.constant(values[None, :]), shape])


def _dummy_classifier(target: Target, model: Any, matrix: Matrix) -> Answer:
    if model.strategy in ("prior", "most_frequent"):
        winner = int(np.argmax(model.class_prior_))
    elif model.strategy == "constant":
        winner = int(np.flatnonzero(model.classes_ == np.ravel(model.constant)[0])[0])
    else:
        raise Unconvertible(f"DummyClassifier answers by chance ({model.strategy})")
    sure = np.eye(len(model.classes_))[winner]
    values = np.asarray(model.class_prior_) if model.strategy == "prior" else sure
    probabilities = _repeated(target, matrix, values)
    return Answer(_largest(target, probabilities), True, probabilities, target.element)


def _dummy_regressor(target: Target, model: Any, matrix: Matrix) -> Answer:
    return _values(target, _repeated(target, matrix, np.ravel(model.constant_)[:1]))


def _elsewhere(target: Target, model: Any, matrix: Matrix) -> Answer:
    """Through skl2onnx, with labels turned into class indexes."""
    graph = target.graph
    classes = getattr(model, "classes_", None)
    options = {id(model): {"zipmap": False}} if classes is not None else None
    outputs = absorb_converted(graph, model, matrix.plain(graph), options)
    if classes is None:
        if hasattr(model, "labels_") or hasattr(model, "fit_predict"):
            shape = graph.constant(np.asarray([-1], dtype=np.int64))
            flat = graph.node("Reshape", [outputs[0], shape])
            return Answer(graph.node("Cast", [flat], to=TensorProto.INT64), is_index=True)
        return _values(target, graph.node("Cast", [outputs[0]], to=TensorProto.DOUBLE))
    labels = np.asarray(classes)
    if labels.dtype.kind in "iu" and (labels == np.arange(len(labels))).all():
        index = graph.node("Cast", [outputs[0]], to=TensorProto.INT64)
    elif labels.dtype.kind in "iu" or all(isinstance(label, str) for label in labels.tolist()):
        places = list(range(len(labels)))
        keys = "keys_int64s" if labels.dtype.kind in "iu" else "keys_strings"
        known = {keys: labels.tolist(), "values_int64s": places}
        index = graph.node("LabelEncoder", [outputs[0]], domain=ML, **known)
    else:
        raise Unconvertible(f"{type(model).__name__} with labels that are neither text nor whole numbers")
    if not hasattr(model, "predict_proba"):
        return Answer(index, is_index=True)
    return Answer(index, True, graph.node("Cast", [outputs[1]], to=TensorProto.DOUBLE))


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
_FORESTS = (
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
)
_LINEAR_VALUES = ("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV")
_LINEAR_LABELS = ("RidgeClassifier", "RidgeClassifierCV", "LinearSVC", "Perceptron")
_KNOWN: dict[str, Callable[[Target, Any, Matrix], Answer]] = {
    **dict.fromkeys(_FORESTS, _forest),
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), _gradient_boosting),
    **dict.fromkeys(
        ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _hist_gradient_boosting
    ),
    **dict.fromkeys(("LGBMClassifier", "LGBMRegressor"), _lightgbm),
    **dict.fromkeys(("LogisticRegression", "LogisticRegressionCV"), _logistic),
    **dict.fromkeys(_LINEAR_VALUES, _linear_values),
    **dict.fromkeys(_LINEAR_LABELS, _linear_labels),
    "DummyClassifier": _dummy_classifier,
    "DummyRegressor": _dummy_regressor,
    **dict.fromkeys(("KMeans", "MiniBatchKMeans"), _k_means),
}
