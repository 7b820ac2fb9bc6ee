"""Fitted tree models of scikit-learn and LightGBM as ``Ensemble`` records, without rounding anything."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.optimization.ensemble import Ensemble, Leaf, Split, Tree, constant_tree
from servable.optimization.graph import Unconvertible

#: Beyond this a compiled forest would be larger than it is fast.
_MOST_NODES = 2_000_000
#: LightGBM reads values this near to zero as zero before it compares them.
NEAR_ZERO = float(np.float32(1e-35))


def forest(model: Any, *, classifier: bool) -> Ensemble:
    """A DecisionTree, RandomForest or ExtraTrees model; expects inputs rounded to float32.

    Raises:
        Unconvertible: several targets at once, or too large.
    """
    members = list(getattr(model, "estimators_", [model]))
    if model.n_outputs_ != 1:
        raise Unconvertible("the forest predicts several targets at once")
    check_size(member.tree_.node_count for member in members)
    targets = len(model.classes_) if classifier else 1
    trees = [_sklearn_tree(member.tree_, member.tree_.value[:, 0, :]) for member in members]
    return Ensemble(trees, targets, average=len(trees) > 1)


def gradient_boosting(model: Any) -> Ensemble:
    """A GradientBoosting model; expects inputs rounded to float32. Binary classifiers fill target 1 of 2.

    Raises:
        Unconvertible: it starts from an estimator of its own instead of a constant.
    """
    if not (
        isinstance(model.init_, str) or type(model.init_).__name__ in ("DummyClassifier", "DummyRegressor")
    ):
        raise Unconvertible("the boosting starts from an estimator of its own")
    start = np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_)))).reshape(-1)
    columns = model.estimators_.shape[1]
    check_size(member.tree_.node_count for member in model.estimators_.ravel())
    binary = columns == 1 and hasattr(model, "classes_")
    trees = list(_constants(start, binary=binary))
    for stage in model.estimators_:
        for k, member in enumerate(stage):
            value = member.tree_.value[:, 0, :] * model.learning_rate
            trees.append(_sklearn_tree(member.tree_, value, target=k + int(binary)))
    return Ensemble(trees, 2 if binary else columns)


def hist_gradient_boosting(model: Any) -> Ensemble:
    """A HistGradientBoosting model; expects its own preprocessing. Binary classifiers fill target 1 of 2."""
    columns = len(model._predictors[0])
    check_size(len(predictor.nodes) for stage in model._predictors for predictor in stage)
    binary = columns == 1 and hasattr(model, "classes_")
    trees = list(_constants(np.asarray(model._baseline_prediction).reshape(-1), binary=binary))
    for stage in model._predictors:
        for k, predictor in enumerate(stage):
            trees.append(_hist_tree(predictor, k + int(binary)))
    return Ensemble(trees, 2 if binary else columns)


def lightgbm(dump: dict[str, Any], *, binary: bool, factor: float = 1.0) -> Ensemble:
    """A LightGBM booster from its ``dump_model``. Binary classifiers fill target 1 of 2.

    Args:
        dump: the dump.
        binary: whether the sums are logits of the second of two classes.
        factor: multiplies every leaf (the ``sigmoid`` parameter of the objective).

    Raises:
        Unconvertible: leaves that hold linear models, or too large.
    """
    columns = int(dump["num_tree_per_iteration"])
    infos = dump["tree_info"]
    check_size(2 * int(info["num_leaves"]) for info in infos)
    trees = [
        _lightgbm_tree(info["tree_structure"], index % columns + int(binary), factor)
        for index, info in enumerate(infos)
    ]
    if not trees:
        trees = [constant_tree(np.zeros(2 if binary else columns))]
    # A booster of type rf divides by the number of rounds, so by trees only when there is one a round.
    average = bool(dump.get("average_output"))
    if average and columns > 1:
        raise Unconvertible("a LightGBM forest of several classes")
    return Ensemble(trees, 2 if binary else columns, average=average)


def lightgbm_special_columns(dump: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Columns in which zero counts as missing, and columns with categorical splits, both sorted."""
    zeros: set[int] = set()
    categories: set[int] = set()
    for info in dump["tree_info"]:
        for node in _lightgbm_splits(info["tree_structure"]):
            if node["decision_type"] == "==":
                categories.add(int(node["split_feature"]))
            elif node["missing_type"] == "Zero":
                zeros.add(int(node["split_feature"]))
    return sorted(zeros), sorted(categories)


def check_size(counts: Iterable[int]) -> None:
    """Make sure that trees with so many nodes each are not too large.

    Raises:
        Unconvertible: they are.
    """
    total = sum(counts)
    if total > _MOST_NODES:
        raise Unconvertible(
            f"the trees have {total:,} nodes, more than the {_MOST_NODES:,} that are compiled"
        )


def _constants(start: NDArray[np.float64], *, binary: bool) -> Iterator[Tree]:
    """One tree per class that adds the base value."""
    for k, value in enumerate(start.tolist()):
        yield [Leaf((k + int(binary),), (float(value),))]


def _sklearn_tree(tree: Any, values: NDArray[np.float64], target: int = 0) -> Tree:
    """One scikit-learn tree. A leaf that is sure of one class adds to that class alone."""
    left, right = tree.children_left.tolist(), tree.children_right.tolist()
    thresholds, features = tree.threshold.tolist(), tree.feature.tolist()
    missing = np.asarray(tree.missing_go_to_left).astype(bool).tolist()
    leaves = [node for node, child in enumerate(left) if child < 0]
    sure = values.shape[1] > 1 and bool((np.count_nonzero(values[leaves], axis=1) == 1).all())
    every = tuple(range(values.shape[1]))
    nodes: Tree = []
    for node, child in enumerate(left):
        if child >= 0:
            nodes.append(Split(features[node], thresholds[node], child, right[node], missing[node]))
        elif sure:
            winner = int(np.argmax(values[node]))
            nodes.append(Leaf((winner,), (float(values[node, winner]),)))
        elif len(every) > 1:
            nodes.append(Leaf(every, tuple(values[node].tolist())))
        else:
            nodes.append(Leaf((target,), (float(values[node, 0]),)))
    return nodes


def _hist_tree(predictor: Any, target: int) -> Tree:
    """One tree of a histogram boosting."""
    nodes: Tree = []
    for node in predictor.nodes:
        if node["is_leaf"]:
            nodes.append(Leaf((target,), (float(node["value"]),)))
            continue
        members: tuple[float, ...] = ()
        if node["is_categorical"]:
            bits = predictor.raw_left_cat_bitsets[node["bitset_idx"]]
            members = tuple(float(v) for v in range(256) if int(bits[v // 32]) >> (v % 32) & 1)
        nodes.append(
            Split(
                int(node["feature_idx"]),
                float(node["num_threshold"]),
                int(node["left"]),
                int(node["right"]),
                bool(node["missing_go_to_left"]),
                members,
            )
        )
    return nodes


def _lightgbm_splits(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every inner node below and including ``root``."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if "split_index" in node:
            yield node
            waiting += [node["left_child"], node["right_child"]]


def _lightgbm_tree(root: dict[str, Any], target: int, factor: float) -> Tree:
    """One LightGBM tree."""
    nodes: Tree = []
    waiting: list[tuple[dict[str, Any], int, bool]] = [(root, -1, False)]
    while waiting:
        node, parent, is_left = waiting.pop()
        place = len(nodes)
        if "split_index" in node:
            nodes.append(_lightgbm_split(node))
            waiting += [(node["right_child"], place, False), (node["left_child"], place, True)]
        else:
            if "leaf_coeff" in node or "leaf_features" in node:
                raise Unconvertible("LightGBM with linear models in its leaves")
            nodes.append(Leaf((target,), (float(node["leaf_value"]) * factor,)))
        above = nodes[parent] if parent >= 0 else None
        if isinstance(above, Split):
            nodes[parent] = above._replace(yes=place) if is_left else above._replace(no=place)
    return nodes


def _lightgbm_split(node: dict[str, Any]) -> Split:
    """One inner node, its children still to be named."""
    feature = int(node["split_feature"])
    if node["decision_type"] == "==":
        members = tuple(float(part) for part in str(node["threshold"]).split("||"))
        return Split(feature, 0.0, 0, 0, missing_yes=False, members=members)
    threshold = _around_zero(float(node["threshold"]))
    # Without a kind of missing value of its own, LightGBM reads NaN as zero.
    missing_yes = threshold >= 0.0 if node["missing_type"] == "None" else bool(node["default_left"])
    return Split(feature, threshold, 0, 0, missing_yes)


def _around_zero(threshold: float) -> float:
    """The threshold that answers for x as LightGBM's answers for x with values near zero read as zero."""
    if -NEAR_ZERO <= threshold < 0.0:
        return float(np.nextafter(-NEAR_ZERO, -np.inf))
    if 0.0 <= threshold < NEAR_ZERO:
        return NEAR_ZERO
    return threshold


def thresholds(ensemble: Ensemble) -> dict[int, Sequence[float]]:
    """Every distinct threshold by feature, sorted; for making rows that lie exactly on them."""
    found: dict[int, set[float]] = {}
    for tree in ensemble.trees:
        for node in tree:
            if isinstance(node, Split) and not node.members:
                found.setdefault(node.feature, set()).add(node.threshold)
    return {feature: sorted(values) for feature, values in sorted(found.items())}
