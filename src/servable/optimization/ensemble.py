"""Tree ensembles of every library in one form, and that form as one ONNX node.

A tree is a flat list of nodes. The ONNX node ``TreeEnsemble`` compares in the type of its input, so with
double inputs no threshold is rounded. In single precision a threshold t becomes the largest float32 not
above t: for a float32 x, ``x <= t`` then has the same answer.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from servable.optimization.graph import ML, Graph

_LESS_OR_EQUAL = 0
_MEMBER = 6
_AVERAGE, _SUM = 0, 1


class Split(NamedTuple):
    """An inner node: which way a row goes.

    Attributes:
        feature: the column.
        threshold: ``x <= threshold`` goes to ``yes``; not used when ``members`` are given.
        yes: index of a node in the same tree.
        no: index of a node in the same tree.
        missing_yes: whether NaN goes to ``yes``.
        members: for a categorical split, the values that go to ``yes``.
    """

    feature: int
    threshold: float
    yes: int
    no: int
    missing_yes: bool
    members: tuple[float, ...] = ()


class Leaf(NamedTuple):
    """An end: what is added to which targets."""

    targets: tuple[int, ...]
    weights: tuple[float, ...]


#: Nodes by index; the root is node 0.
Tree = list[Split | Leaf]


class Ensemble(NamedTuple):
    """Trees whose leaves are added up.

    Attributes:
        trees: in the order of addition.
        targets: how many sums there are.
        average: whether the sums are divided by the number of trees.
    """

    trees: list[Tree]
    targets: int
    average: bool = False


def not_above(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each threshold; NaN stays."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
    down = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype(np.float64) > thresholds, down, rounded).astype(np.float32)


def constant_tree(weights: NDArray[np.float64]) -> Tree:
    """A tree that adds the same to every row: a base value."""
    return [Leaf(tuple(range(len(weights))), tuple(float(weight) for weight in weights))]


class _Columns:
    """The node's attributes while they are gathered."""

    def __init__(self) -> None:
        self.features: list[int] = []
        self.thresholds: list[float] = []
        self.modes: list[int] = []
        self.yes: list[int] = []
        self.no: list[int] = []
        self.yes_leaf: list[int] = []
        self.no_leaf: list[int] = []
        self.missing: list[int] = []
        self.members: list[float] = []
        self.targets: list[int] = []
        self.weights: list[float] = []
        self.roots: list[int] = []

    def add(self, tree: Tree, targets: int) -> None:
        """Append a tree; a leaf with several targets needs ``targets`` trees of one each (see ``apart``)."""
        self.roots.append(len(self.features))
        if isinstance(tree[0], Leaf):
            self._split(Split(0, 0.0, 0, 0, missing_yes=True), [self._leaf(tree[0])] * 2, [1, 1])
            return
        order = [index for index, node in enumerate(tree) if isinstance(node, Split)]
        place = {index: self.roots[-1] + count for count, index in enumerate(order)}
        for index in order:
            node = tree[index]
            assert isinstance(node, Split)  # noqa: S101 - by the construction of ``order``
            ends, leaves = [], []
            for child in (node.yes, node.no):
                below = tree[child]
                leaves.append(int(isinstance(below, Leaf)))
                ends.append(self._leaf(below) if isinstance(below, Leaf) else place[child])
            self._split(node, ends, leaves)

    def _leaf(self, leaf: Leaf) -> int:
        self.targets.append(leaf.targets[0])
        self.weights.append(leaf.weights[0])
        return len(self.targets) - 1

    def _split(self, node: Split, ends: list[int], leaves: list[int]) -> None:
        self.features.append(node.feature)
        self.modes.append(_MEMBER if node.members else _LESS_OR_EQUAL)
        self.thresholds.append(0.0 if node.members else node.threshold)
        if node.members:
            self.members += [*node.members, float("nan")]
        self.yes.append(ends[0])
        self.no.append(ends[1])
        self.yes_leaf.append(leaves[0])
        self.no_leaf.append(leaves[1])
        self.missing.append(int(node.missing_yes))


def apart(tree: Tree) -> list[Tree]:
    """A tree whose leaves have several targets as trees of one target each.

    Every leaf of a tree must name the same targets, as those of this module do.
    """
    first = next(node for node in tree if isinstance(node, Leaf))
    if len(first.targets) == 1:
        return [tree]
    return [
        [Leaf((node.targets[k],), (node.weights[k],)) if isinstance(node, Leaf) else node for node in tree]
        for k in range(len(first.targets))
    ]


def add_ensemble(graph: Graph, ensemble: Ensemble, matrix: str, *, single: bool) -> str:
    """The sums of an ensemble.

    Args:
        graph: to add the node to.
        ensemble: what to compute.
        matrix: tensor ``[rows, features]``: float when ``single``, else double.
        single: compute in float32 instead of float64.

    Returns:
        Tensor ``[rows, targets]`` of the same type.
    """
    columns = _Columns()
    for tree in ensemble.trees:
        for part in apart(tree):
            columns.add(part, ensemble.targets)
    scale = 1.0 / len(ensemble.trees) if ensemble.average else 1.0
    element: Any = np.float32 if single else np.float64
    thresholds = np.asarray(columns.thresholds, dtype=np.float64)
    attributes: dict[str, Any] = {
        "nodes_splits": numpy_helper.from_array(not_above(thresholds) if single else thresholds, "splits"),
        "nodes_modes": numpy_helper.from_array(np.asarray(columns.modes, dtype=np.uint8), "modes"),
        "leaf_weights": numpy_helper.from_array(np.asarray(columns.weights, dtype=element), "weights"),
    }
    if columns.members:
        members = np.asarray(columns.members, dtype=element)
        attributes["membership_values"] = numpy_helper.from_array(members, "members")
    sums = graph.node(
        "TreeEnsemble",
        [matrix],
        domain=ML,
        n_targets=ensemble.targets,
        aggregate_function=_SUM,
        post_transform=0,
        tree_roots=columns.roots,
        nodes_featureids=columns.features,
        nodes_truenodeids=columns.yes,
        nodes_falsenodeids=columns.no,
        nodes_trueleafs=columns.yes_leaf,
        nodes_falseleafs=columns.no_leaf,
        nodes_missing_value_tracks_true=columns.missing,
        leaf_targetids=columns.targets,
        **attributes,
    )
    if scale == 1.0:
        return sums
    return graph.node("Div", [sums, graph.constant(np.asarray([len(ensemble.trees)], dtype=element))])
