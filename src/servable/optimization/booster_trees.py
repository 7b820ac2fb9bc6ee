"""The trees of XGBoost and CatBoost as ``Ensemble`` records, from the JSON that the libraries write.

XGBoost sends ``x < t`` to the left in float32, which is ``x <= t'`` for the float32 just below t. CatBoost
sets a bit where ``x > b``, so ``x <= b`` is its other side.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.optimization.ensemble import Ensemble, Leaf, Split, Tree, constant_tree
from servable.optimization.graph import Unconvertible
from servable.optimization.trees import check_size

#: Objectives of XGBoost whose base score is a probability, and those whose base score is a positive number.
LOGISTIC = frozenset({"binary:logistic", "binary:logitraw", "reg:logistic"})
LOGARITHMIC = frozenset({"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"})
#: No category has this number, so a set that holds it alone is empty.
_NO_CATEGORY = -1.0


def xgboost(model: Mapping[str, Any], rounds: int) -> Ensemble:
    """A booster of trees; expects inputs rounded to float32, and sums in float32 as the library does.

    Args:
        model: the decoded JSON of the whole model.
        rounds: how many of its rounds count; 0 for all.

    Raises:
        Unconvertible: it boosts no trees, or is too large.
    """
    learner = model["learner"]
    boosted = learner["gradient_booster"]
    if boosted["name"] not in ("gbtree", "dart"):
        raise Unconvertible(f"XGBoost with the booster {boosted['name']}, which has no trees")
    weights = boosted.get("weight_drop")
    held = boosted["gbtree"]["model"] if "gbtree" in boosted else boosted["model"]
    ends = held.get("iteration_indptr")
    count = len(held["trees"]) if not rounds or not ends else int(ends[rounds])
    check_size(len(tree["left_children"]) for tree in held["trees"][:count])
    base = _margins(learner)
    targets = max([len(base), *(int(target) + 1 for target in held["tree_info"])])
    trees = [constant_tree(np.broadcast_to(base, (targets,)).astype(np.float64))]
    for place, tree in enumerate(held["trees"][:count]):
        factor = np.float32(weights[place]) if weights else np.float32(1)
        trees.append(_xgboost_tree(tree, int(held["tree_info"][place]), factor))
    return Ensemble(trees, targets)


def _margins(learner: Mapping[str, Any]) -> NDArray[np.float32]:
    """The values that the sums begin with."""
    said = str(learner["learner_model_param"]["base_score"]).strip("[]")
    base = np.asarray([part for part in said.split(",") if part], dtype=np.float32)
    name = learner["objective"]["name"]
    if name in LOGISTIC:
        odds = (np.float32(1) / base - np.float32(1)).astype(np.float64)
        return np.asarray([-math.log(value) for value in odds.tolist()], dtype=np.float32)
    if name in LOGARITHMIC:
        return np.log(base.astype(np.float64)).astype(np.float32)
    return base


def _xgboost_tree(tree: Mapping[str, Any], target: int, factor: np.float32) -> Tree:
    """One tree of XGBoost; a category in a node's set goes to the right."""
    conditions = np.asarray(tree["split_conditions"], dtype=np.float32)
    below = np.nextafter(conditions, np.float32(-np.inf)).astype(np.float64).tolist()
    categories = {
        int(node): tuple(float(c) for c in tree["categories"][int(start) : int(start) + int(size)])
        for node, start, size in zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        )
    }
    nodes: Tree = []
    for node, (left, right) in enumerate(zip(tree["left_children"], tree["right_children"], strict=True)):
        feature, missing_left = int(tree["split_indices"][node]), bool(tree["default_left"][node])
        if left < 0:
            nodes.append(Leaf((target,), (float(conditions[node] * factor),)))
        elif node in categories:
            members = categories[node] or (_NO_CATEGORY,)
            nodes.append(Split(feature, 0.0, int(right), int(left), not missing_left, members))
        else:
            nodes.append(Split(feature, below[node], int(left), int(right), missing_left))
    return nodes


def catboost(model: Mapping[str, Any], codes: Mapping[int, Mapping[int, float]]) -> Ensemble:
    """A CatBoost model; expects numbers rounded to float32.

    Args:
        model: the decoded JSON of the whole model.
        codes: for each categorical column that is compiled, the code of each hash of a category.

    Raises:
        Unconvertible: it uses statistics of categories, texts or embeddings; or is too large.
    """
    scale, bias = model["scale_and_bias"]
    biases = np.atleast_1d(np.asarray(bias, dtype=np.float64))
    features = _Features(model["features_info"], codes)
    if "oblivious_trees" in model:
        held = model["oblivious_trees"]
        check_size(2 * len(tree["leaf_values"]) for tree in held)
        width = len(biases)
        trees = [_oblivious(tree, features, float(scale), width) for tree in held]
    else:
        trees = [_grown(tree, features, float(scale)) for tree in model["trees"]]
        check_size(len(tree) for tree in trees)
    return Ensemble([*trees, constant_tree(biases)], len(biases))


class _Features:
    """Which column a split is by, and how."""

    def __init__(self, info: Mapping[str, Any], codes: Mapping[int, Mapping[int, float]]) -> None:
        self._codes = codes
        self._floats = {int(entry["feature_index"]): entry for entry in info.get("float_features") or ()}
        self._categories = {
            int(entry["feature_index"]): int(entry["flat_feature_index"])
            for entry in info.get("categorical_features") or ()
        }

    def split(self, said: Mapping[str, Any], off: int, on: int) -> Split:
        """The node that sends rows to ``on`` where the split's bit is set.

        Raises:
            Unconvertible: a split of a kind that is not compiled.
        """
        kind = said["split_type"]
        if kind == "FloatFeature":
            entry = self._floats[int(said["float_feature_index"])]
            missing_off = entry.get("nan_value_treatment") != "AsTrue"
            return Split(int(entry["flat_feature_index"]), float(said["border"]), off, on, missing_off)
        if kind == "OneHotFeature":
            column = self._categories[int(said["cat_feature_index"])]
            code = self._codes.get(column, {}).get(int(said["value"]) & 0xFFFFFFFF)
            if code is None:
                raise Unconvertible(
                    "CatBoost keeps a category as a hash whose text is not known; add --sample with rows "
                    "that hold every category"
                )
            return Split(column, 0.0, on, off, missing_yes=False, members=(code,))
        if kind == "OnlineCtr":
            raise Unconvertible(
                "CatBoost turns categories into statistics of the target, looked up by hashes of combined "
                "categories, for which ONNX has no operator; train with one_hot_max_size above the number "
                "of categories to avoid them"
            )
        raise Unconvertible(f"CatBoost with splits of the kind {kind}")


def _oblivious(tree: Mapping[str, Any], features: _Features, scale: float, width: int) -> Tree:
    """A tree with the same split at each level: bit k of a leaf's number is the answer of split k."""
    splits = list(tree.get("splits") or ())
    depth = len(splits)
    values = np.asarray(tree["leaf_values"], dtype=np.float64).reshape(1 << depth, width) * scale
    targets = tuple(range(width))
    # As a heap: the children of node n are 2n+1 (bit clear) and 2n+2 (bit set), the last split on top.
    nodes: Tree = []
    for level in range(depth):
        for place in range(1 << level):
            node = (1 << level) - 1 + place
            nodes.append(features.split(splits[depth - 1 - level], 2 * node + 1, 2 * node + 2))
    return [*nodes, *(Leaf(targets, tuple(row.tolist())) for row in values)]


def _grown(root: Mapping[str, Any], features: _Features, scale: float) -> Tree:
    """A tree with splits of its own in every node."""
    nodes: list[Any] = []
    waiting: list[tuple[Mapping[str, Any], int, bool]] = [(root, -1, False)]
    ends: dict[int, list[int]] = {}
    while waiting:
        node, parent, is_on = waiting.pop()
        place = len(nodes)
        nodes.append(node)
        if parent >= 0:
            ends[parent][int(is_on)] = place
        if "split" in node:
            ends[place] = [0, 0]
            waiting += [(node["right"], place, True), (node["left"], place, False)]
    return [_node(node, ends.get(place), features, scale) for place, node in enumerate(nodes)]


def _node(node: Mapping[str, Any], ends: list[int] | None, features: _Features, scale: float) -> Split | Leaf:
    if ends is not None:
        return features.split(node["split"], *ends)
    weights = np.atleast_1d(np.asarray(node["value"], dtype=np.float64)) * scale
    return Leaf(tuple(range(len(weights))), tuple(weights.tolist()))


def one_hot_columns(model: Mapping[str, Any]) -> Iterator[int]:
    """The columns of a CatBoost model that it takes as categories."""
    for entry in model["features_info"].get("categorical_features") or ():
        yield int(entry["flat_feature_index"])
