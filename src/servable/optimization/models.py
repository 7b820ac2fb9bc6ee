"""The last step of a pipeline, the model itself, as graph nodes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from servable.optimization import trees
from servable.optimization.boosters import booster_trees_of, lightgbm
from servable.optimization.columns import Matrix
from servable.optimization.encoders import join
from servable.optimization.ensemble import Ensemble, add_ensemble
from servable.optimization.graph import ML, Graph, Unconvertible
from servable.optimization.steps import absorb_converted
from servable.optimization.targets import Answer, Target, largest, softmax, typed, values


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
    return booster_trees_of(model)


def _forest(target: Target, model: Any, matrix: Matrix) -> Answer:
    classifier = hasattr(model, "classes_")
    ensemble = trees.forest(model, classifier=classifier)
    sums = add_ensemble(target.graph, ensemble, typed(target, matrix, rounded=True), single=target.single)
    if not classifier:
        return values(target, sums)
    return Answer(largest(target, sums), True, sums, target.element)


def _gradient_boosting(target: Target, model: Any, matrix: Matrix) -> Answer:
    ensemble = trees.gradient_boosting(model)
    link = type(model._loss.link).__name__
    if link == "HalfLogitLink":
        raise Unconvertible("GradientBoosting with the exponential loss")
    sums = add_ensemble(target.graph, ensemble, typed(target, matrix, rounded=True), single=target.single)
    if not hasattr(model, "classes_"):
        return values(target, sums)
    return softmax(target, sums, last=len(model.classes_) == 2)


def _hist_gradient_boosting(target: Target, model: Any, matrix: Matrix) -> Answer:
    graph = target.graph
    if model._preprocessor is not None:
        matrix = _remapped(graph, model, matrix.plain(graph))
    ensemble = trees.hist_gradient_boosting(model)
    sums = add_ensemble(graph, ensemble, typed(target, matrix), single=target.single)
    if hasattr(model, "classes_"):
        return softmax(target, sums)
    link = type(model._loss.link).__name__
    if link == "LogLink":
        sums = graph.node("Exp", [sums])
    elif link != "IdentityLink":
        raise Unconvertible(f"histogram boosting with {link}")
    return values(target, sums)


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
    return lightgbm(target, model.booster_.dump_model(), matrix)


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
    return softmax(target, _linear(target, model, matrix))


def _linear_values(target: Target, model: Any, matrix: Matrix) -> Answer:
    if np.asarray(model.coef_).ndim == 2 and len(model.coef_) > 1:
        raise Unconvertible("the model predicts several targets at once")
    return values(target, _linear(target, model, matrix))


def _linear_labels(target: Target, model: Any, matrix: Matrix) -> Answer:
    return Answer(largest(target, _linear(target, model, matrix)), is_index=True)


def _layers(target: Target, model: Any, matrix: Matrix) -> str:
    """What a network of products gives before its last activation ``[rows, k]``; binary: 0 and the score.

    A scaler before it does not melt in: in single precision, and all the more in int8, weights that differ by
    the units of their columns would round each other away.
    """
    graph, hidden = target.graph, _ACTIVATIONS[model.activation]
    weights = [np.asarray(each, dtype=np.float64) for each in model.coefs_]
    biases = [np.asarray(each, dtype=np.float64) for each in model.intercepts_]
    if hasattr(model, "classes_") and weights[-1].shape[1] == 1:
        weights[-1] = np.hstack([np.zeros_like(weights[-1]), weights[-1]])
        biases[-1] = np.concatenate([[0.0], biases[-1]])
    tensor = matrix.plain(graph).tensor
    if target.single:
        # Sums of larger numbers have no float32; so far out, scaled as inputs of networks are, only their
        # direction counts.
        ends = (graph.constant(np.asarray(end)) for end in (-_FARTHEST, _FARTHEST))
        tensor = graph.node("Cast", [graph.node("Clip", [tensor, *ends])], to=TensorProto.FLOAT)
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if place and hidden:
            tensor = graph.node(hidden, [tensor])
        tensor = graph.node("Gemm", [tensor, target.constant(weight), target.constant(bias)])
    return tensor


def _network_classifier(target: Target, model: Any, matrix: Matrix) -> Answer:
    if model.out_activation_ == "logistic" and model.n_outputs_ > 1:
        raise Unconvertible("the model gives several labels at once")
    return softmax(target, _layers(target, model, matrix))


def _network_regressor(target: Target, model: Any, matrix: Matrix) -> Answer:
    if model.n_outputs_ > 1:
        raise Unconvertible("the model predicts several targets at once")
    last = _ACTIVATIONS.get(model.out_activation_)
    if last is None:
        raise Unconvertible(f"a network that ends with {model.out_activation_}")
    scores = _layers(target, model, matrix)
    return values(target, target.graph.node(last, [scores]) if last else scores)


def _k_means(target: Target, model: Any, matrix: Matrix) -> Answer:
    """The nearest centre: largest ``2 x c - c c``."""
    centres = np.asarray(model.cluster_centers_, dtype=np.float64)
    tensor = typed(target, matrix)
    offset = target.constant(-(centres**2).sum(axis=1))
    scores = target.graph.node("Gemm", [tensor, target.constant(2.0 * centres.T), offset])
    return Answer(largest(target, scores), is_index=True)


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
    return Answer(largest(target, probabilities), True, probabilities, target.element)


def _dummy_regressor(target: Target, model: Any, matrix: Matrix) -> Answer:
    return values(target, _repeated(target, matrix, np.ravel(model.constant_)[:1]))


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
        return values(target, graph.node("Cast", [outputs[0]], to=TensorProto.DOUBLE))
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
#: As far out an input of a network in single precision is taken for what it is.
_FARTHEST = 1e16
#: Activations of scikit-learn's networks as ONNX has them; nothing where values stay as they are.
_ACTIVATIONS = {"identity": "", "logistic": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "exp": "Exp"}
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
    "MLPClassifier": _network_classifier,
    "MLPRegressor": _network_regressor,
}
