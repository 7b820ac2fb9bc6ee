"""Whether a LightGBM model file is whole: sections where they say they are, and trees that end.

The library follows the numbers of a file wherever they lead, out of its arrays too, so they are looked at
first.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from servable.errors import ArtifactUnreadable, converted

_END = "end of trees"
#: Lines before the trees without which there is no model.
_NEEDED = ("version", "num_class", "num_tree_per_iteration", "max_feature_idx", "feature_names", "tree_sizes")
_CATEGORICAL = 1


class _Broken(Exception):
    """Says what is wrong."""


def check(path: Path) -> None:
    """Look through a model file.

    Raises:
        ArtifactUnreadable: empty, truncated, damaged or no LightGBM model; the sentence says where.
    """
    with converted({OSError: ArtifactUnreadable}, f"{path.name} cannot be read: {{}}."):
        data = path.read_bytes()
    if not data:
        raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); save or copy the model again.")
    try:
        _whole(data.decode("utf-8"))
    except (_Broken, ValueError, IndexError, OverflowError) as error:
        reason = error if isinstance(error, _Broken) else "a number in it is none"
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no LightGBM model ({reason}); save or copy it again."
        ) from error


def _whole(text: str) -> None:
    head, _, _ = text.partition("\nTree=")
    lines = head.splitlines()
    if not lines or lines[0].strip() != "tree":
        raise _Broken("it does not begin with the word tree")
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    absent = [name for name in _NEEDED if name not in said]
    if absent:
        raise _Broken(f"it has no line {absent[0]}")
    # The sizes count bytes, and names of features before the trees may take several each.
    body = text.encode()[len(head.encode()) + 1 :] if "\nTree=" in text else b""
    features = int(said["max_feature_idx"]) + 1
    sizes = [int(size) for size in said["tree_sizes"].split()]
    if features < 1 or len(said["feature_names"].split()) != features:
        raise _Broken("its names of features are not as many as its features")
    start = 0
    for number, size in enumerate(sizes):
        tree = body[start : start + size].decode()
        if size <= 0 or not tree.startswith(f"Tree={number}\n"):
            raise _Broken(f"tree {number} is not where it should be")
        _check_tree(tree, features, number)
        start += size
    if not (body[start:].startswith(_END.encode()) if sizes else _END in lines):
        raise _Broken("it ends before its trees do")


def _check_tree(text: str, features: int, number: int) -> None:
    """Every child once and after its parent, features that there are, lists as long as they must be."""
    said = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    leaves = int(said.get("num_leaves", 0))
    if leaves < 1 or len(said.get("leaf_value", "").split()) != leaves:
        raise _Broken(f"tree {number} has not the leaves that it names")
    if leaves == 1:
        return
    left, right, feature, decision = (
        _integers(said, name, leaves - 1, number)
        for name in ("left_child", "right_child", "split_feature", "decision_type")
    )
    thresholds = np.asarray(said.get("threshold", "").split(), dtype=np.float64)
    if len(thresholds) != leaves - 1:
        raise _Broken(f"tree {number} has not a threshold for each split")
    if feature.min() < 0 or feature.max() >= features:
        raise _Broken(f"tree {number} splits by a feature that there is not")
    children = np.concatenate([left, right])
    parents = np.concatenate([np.arange(leaves - 1)] * 2)
    inner = children >= 0
    every = np.sort(children)
    complete = np.array_equal(every, np.concatenate([np.arange(-leaves, 0), np.arange(1, leaves - 1)]))
    if not complete or (children[inner] <= parents[inner]).any():
        raise _Broken(f"the nodes of tree {number} do not make a tree")
    _check_categories(said, thresholds[decision & _CATEGORICAL != 0], number)


def _integers(said: dict[str, str], name: str, count: int, number: int) -> NDArray[np.int64]:
    values = np.asarray(said.get(name, "").split(), dtype=np.int64)
    if len(values) != count:
        raise _Broken(f"tree {number} has not a {name} for each split")
    return values


def _check_categories(said: dict[str, str], chosen: NDArray[np.float64], number: int) -> None:
    """The sets of categories that splits refer to are there."""
    count = int(said.get("num_cat", 0))
    if not len(chosen) and not count:
        return
    bounds = _integers(said, "cat_boundaries", count + 1, number)
    words = len(said.get("cat_threshold", "").split())
    sound = bounds[0] == 0 and bounds[-1] == words and (np.diff(bounds) > 0).all()
    if not sound or (chosen < 0).any() or (chosen >= count).any():
        raise _Broken(f"tree {number} refers to categories that are not there")
