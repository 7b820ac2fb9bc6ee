"""A random forest with differential privacy: splits that never look at a row, leaves that count with noise.

Splits are drawn from the public bounds alone (Jagannathan, Pillaipakkamnatt and Wright, "A practical
differentially private random decision tree classifier", 2009). Every row is given to one tree, so that the
trees together spend what one of them spends: their rows are apart, and budgets of rows apart do not add up
(Fletcher and Islam, "Differentially private random decision forests using smooth sensitivity", 2017). Within
a tree, a row is in one count of one leaf, which gets discrete Laplace noise. Everything after that computes
with the noisy counts and costs nothing: counts of nodes are sums of their leaves, and a leaf that says little
is drawn to its parent.

What comes out is a ``RandomForestClassifier``, compiled and served as any other.
"""

import importlib.metadata
import secrets
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

# The layout of a fitted tree is public only by way of what fitted trees hold.
from sklearn.tree._tree import NODE_DTYPE, Tree

from servable.errors import SettingInvalid
from servable.training.tasks.private.budget import Budget
from servable.training.tasks.private.noise import as_fraction, noisy_counts

#: Trees, at least and at most, and the rows for which there is one more.
_LEAST_TREES, _MOST_TREES, _ROWS_OF_TREE = 8, 24, 1_000
#: Levels of splits, at least and at most, and the rows of a tree for each of its leaves.
_LEAST_DEPTH, _MOST_DEPTH, _ROWS_OF_LEAF = 3, 9, 3
#: How many times its noise a parent weighs against a leaf.
_DRAWN = 2.0
#: Random trees say little each, and their mean would hardly leave the share of the classes; so each says so
#: many times the logarithm of what it says beyond that share. Chosen on public data.
_SHARPENED = 2.0


class Domain(NamedTuple):
    """What is publicly known of the prepared columns.

    Attributes:
        least: float64 ``[columns]``.
        most: float64 ``[columns]``.
        codes: bool ``[columns]``; whether they hold whole numbers that stand for values.
    """

    least: NDArray[np.float64]
    most: NDArray[np.float64]
    codes: NDArray[np.bool_]


class _Shape(NamedTuple):
    """A tree without counts: each node's column, threshold and children, -1 for leaves; parents first."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


def fit(
    seen: NDArray[Any], truth: NDArray[np.int64], classes: int, domain: Domain, budget: Budget, *, seed: int
) -> tuple[RandomForestClassifier, dict[str, Any]]:
    """A fitted forest, and what was spent on it.

    Args:
        seen: prepared rows ``[rows, columns]``.
        truth: class indexes ``[rows]``.
        classes: how many.
        domain: of the columns.
        budget: what may be spent; no delta is.
        seed: of the splits, which know nothing of the rows; never of the noise or of who gets which row.

    Raises:
        SettingInvalid: an epsilon too small to be kept.
    """
    epsilon = as_fraction(budget.epsilon)
    if not epsilon:
        raise SettingInvalid(f"A private forest needs an epsilon of at least 0.000001, not {budget.epsilon}.")
    columns = seen.shape[1]
    trees, depth = _size(len(seen))
    public = np.random.default_rng(seed)
    # Which tree a row goes to is drawn for each row by itself: whether another is there changes nothing.
    owner = np.random.default_rng(secrets.randbits(128)).integers(0, trees, len(seen))
    given = np.ascontiguousarray(seen, np.float32)
    members = []
    for place in range(trees):
        shape = _grown(domain, depth, public)
        mine = owner == place
        leaves = _tree(shape, np.ones((len(shape.feature), classes)), columns).apply(given[mine])
        counts = _counted(shape, leaves, truth[mine], classes)
        noisy = noisy_counts(counts, epsilon)
        members.append(_tree(shape, _chances(shape, noisy, float(epsilon)), columns))
    spent = {
        "epsilon": float(epsilon),
        "delta": 0.0,
        "asked_epsilon": budget.epsilon,
        "mechanism": "discrete Laplace noise on the class counts of random trees, each with rows of its own",
        "neighbours": "one row added or removed",
        "trees": trees,
        "depth": depth,
        "library": "servable",
        "library_version": importlib.metadata.version("servable"),
    }
    return _forest(members, classes, columns), spent


def _size(rows: int) -> tuple[int, int]:
    """Trees and levels for so many rows."""
    trees = int(np.clip(rows // _ROWS_OF_TREE, _LEAST_TREES, _MOST_TREES))
    levels = round(float(np.log2(max(rows / trees / _ROWS_OF_LEAF, 1.0))))
    return trees, int(np.clip(levels, _LEAST_DEPTH, _MOST_DEPTH))


def _grown(domain: Domain, depth: int, random: np.random.Generator) -> _Shape:
    """A tree that splits what is known of the columns by chance."""
    feature, threshold, left, right = [-1], [0.0], [-1], [-1]
    waiting = [(0, depth, domain.least, domain.most)]
    # Children are added behind while it goes on, so that parents come before them.
    for node, levels, least, most in waiting:
        possible = np.flatnonzero(np.where(domain.codes, most - least >= 1, most > least))
        if not levels or not len(possible):
            continue
        column = int(random.choice(possible))
        below, above = most.copy(), least.copy()
        if domain.codes[column]:
            below[column] = random.integers(int(least[column]), int(most[column]))
            above[column] = below[column] + 1
            cut = below[column] + 0.5
        else:
            cut = below[column] = above[column] = random.uniform(least[column], most[column])
        feature[node], threshold[node] = column, float(cut)
        left[node], right[node] = len(feature), len(feature) + 1
        for child, low, high in ((left[node], least, below), (right[node], above, most)):
            waiting.append((child, levels - 1, low, high))
        feature += [-1, -1]
        threshold += [0.0, 0.0]
        left += [-1, -1]
        right += [-1, -1]
    return _Shape(np.asarray(feature), np.asarray(threshold), np.asarray(left), np.asarray(right))


def _counted(
    shape: _Shape, leaves: NDArray[np.int64], truth: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Rows of each class in each leaf, int64 ``[leaves, classes]``, the leaves in the order of the nodes."""
    counts = np.zeros((len(shape.feature), classes), np.int64)
    np.add.at(counts, (leaves, truth), 1)
    return counts[shape.left < 0]


def _chances(shape: _Shape, noisy: NDArray[np.int64], epsilon: float) -> NDArray[np.float64]:
    """What each node answers, ``[nodes, classes]``, from the noisy counts of the leaves alone."""
    nodes, classes = len(shape.feature), noisy.shape[1]
    counts, under = np.zeros((nodes, classes)), np.ones(nodes)
    counts[shape.left < 0] = noisy
    inner = np.flatnonzero(shape.left >= 0)
    for node in inner[::-1]:
        counts[node] = counts[shape.left[node]] + counts[shape.right[node]]
        under[node] = under[shape.left[node]] + under[shape.right[node]]
    # Sums of more leaves have more noise; its deviation is that of so many discrete Laplace draws.
    drawn = _DRAWN * np.maximum(np.sqrt(2 * under) / epsilon, 1.0)
    counts = np.maximum(counts, 0.0)
    found = np.zeros((nodes, classes))
    found[0] = _mixed(counts[0], np.full(classes, 1 / classes), drawn[0])
    for node in inner:
        for child in (shape.left[node], shape.right[node]):
            found[child] = _mixed(counts[child], found[node], drawn[child])
    share = np.log(found[0])
    said = share + _SHARPENED * (np.log(found) - share)
    said = np.exp(said - said.max(axis=1, keepdims=True))
    return np.asarray(said / said.sum(axis=1, keepdims=True))


def _mixed(counts: NDArray[np.float64], parent: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    return np.asarray((counts + weight * parent) / (counts.sum() + weight))


def _tree(shape: _Shape, values: NDArray[np.float64], columns: int) -> Any:
    """A tree of scikit-learn with these answers; how many rows a node saw is in none of them."""
    nodes = np.zeros(len(shape.feature), NODE_DTYPE)
    leaf = shape.left < 0
    nodes["left_child"], nodes["right_child"] = shape.left, shape.right
    nodes["feature"] = np.where(leaf, -2, shape.feature)
    nodes["threshold"] = np.where(leaf, -2.0, shape.threshold)
    nodes["n_node_samples"] = nodes["weighted_n_node_samples"] = 1
    made = Tree(columns, np.asarray([values.shape[1]], np.intp), 1)
    made.__setstate__(
        {
            "max_depth": _MOST_DEPTH,
            "node_count": len(nodes),
            "nodes": nodes,
            "values": np.ascontiguousarray(values[:, None, :]),
        }
    )
    return made


def _forest(trees: list[Any], classes: int, columns: int) -> RandomForestClassifier:
    """Trees as the forest that scikit-learn would have fitted."""
    forest = RandomForestClassifier(n_estimators=len(trees), n_jobs=1)
    forest.estimators_ = [_named(DecisionTreeClassifier(), classes, columns) for _ in trees]
    for member, tree in zip(forest.estimators_, trees, strict=True):
        member.tree_ = tree
        member.max_features_ = columns
    forest.estimator_ = DecisionTreeClassifier()
    return _named(forest, classes, columns)


def _named(model: Any, classes: int, columns: int) -> Any:
    model.classes_, model.n_classes_ = np.arange(classes), classes
    model.n_outputs_, model.n_features_in_ = 1, columns
    return model
