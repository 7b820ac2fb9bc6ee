"""XGBoost's own model files (``.ubj``, ``.json``, ``.model``), of boosters and of its scikit-learn classes.

They hold data and no code. Children and features of every tree are looked at before the library follows them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xgboost

from servable.artifact.manifest import Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, converted
from servable.frameworks.base import NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.boosted import (
    CODED,
    ORIGIN,
    ROUNDS,
    SCORES,
    Answers,
    BoostedPredictor,
    Coder,
    Column,
    coded_of,
    first_line,
    kept,
    signature_of,
)
from servable.tensors import Arrays

#: Option of the trained variant: whether it boosts linear models, which the library calls in another way.
_LINEAR = "linear"
_CLASSES = {
    "binary:logistic": "positive",
    "binary:hinge": "labels",
    "multi:softprob": "rows",
    "multi:softmax": "labels",
}


class XgboostAdapter:
    """Boosters of XGBoost."""

    name = "xgboost"
    suffixes = (".ubj", ".json", ".model")

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model file; see the seam. It holds no code, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: empty, truncated, damaged or no XGBoost model.
            ArtifactUnsupported: it predicts several targets at once.
            DataError: the sample does not fit the model.
            SettingInvalid: a hint contradicts the model.
        """
        booster = _loaded(path)
        learner = _checked(booster, path)
        columns = list(_columns(booster))
        answers = _answers(learner)
        signature = signature_of(columns, answers, sample, hints)
        options = {
            SCORES: answers.scores,
            CODED: coded_of(columns, signature),
            ROUNDS: _rounds(booster),
            _LINEAR: learner["gradient_booster"]["name"] == "gblinear",
            ORIGIN: str(path),
        }
        return Trained(booster, signature, options, _libraries())

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the file into the package."""
        ending = Path(str(trained.options[ORIGIN])).suffix.lower()
        return kept(trained, folder, self.name, f"model{ending}")

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory.

        Raises:
            ArtifactUnreadable: damaged.
        """
        return Trained(_loaded(folder / variant.path), signature, variant.options, _libraries())

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        coder = Coder(trained.signature, trained.options[CODED])
        booster = trained.model
        rounds = (0, int(trained.options[ROUNDS]))
        in_place = not trained.options.get(_LINEAR)

        def score(arrays: Arrays) -> Any:
            # What is too large for float32 becomes infinite, which the library refuses in words of its own.
            with np.errstate(over="ignore"):
                matrix = coder.matrix(arrays).astype(np.float32)
            if in_place:
                return booster.inplace_predict(matrix, iteration_range=rounds, validate_features=False)
            return booster.predict(xgboost.DMatrix(matrix, nthread=1), validate_features=False)

        return BoostedPredictor(score, trained.options[SCORES])


def _libraries() -> dict[str, str]:
    return {"xgboost": xgboost.__version__, "numpy": np.__version__}


def _loaded(path: Path) -> Any:
    """The booster in a file; the content says which of the forms it is in.

    Raises:
        ArtifactUnreadable: none of them.
    """
    with converted({OSError: ArtifactUnreadable}, f"{path.name} cannot be read: {{}}."):
        data = path.read_bytes()
    if not data:
        raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); save or copy the model again.")
    try:
        # Of few rows, threads make longer work; a server runs several models beside each other.
        return xgboost.Booster({"nthread": 1, "verbosity": 0}, model_file=bytearray(data))
    except (xgboost.core.XGBoostError, ValueError) as foreign:
        raise ArtifactUnreadable(
            f"{path.name} is no XGBoost model that can be loaded ({first_line(foreign)}); it may be damaged, "
            "truncated or of the old binary form; save it again as .ubj."
        ) from foreign


def _checked(booster: Any, path: Path) -> dict[str, Any]:
    """The learner's record, once its trees are trees.

    Raises:
        ArtifactUnreadable: a node refers to one that is not there or belongs to another.
        ArtifactUnsupported: several values in a leaf.
    """
    learner: dict[str, Any] = msgspec.json.decode(bytes(booster.save_raw("json")))["learner"]
    several = int(learner["learner_model_param"].get("num_target", "1")) > 1
    boosted = learner["gradient_booster"]
    held = boosted.get("gbtree", boosted).get("model", {})
    for tree in held.get("trees", ()):
        several |= int(tree["tree_param"].get("size_leaf_vector", "1")) > 1
        if not several and not _is_tree(tree, booster.num_features()):
            raise ArtifactUnreadable(f"{path.name} is damaged: the nodes of a tree in it do not make a tree.")
    if several:
        raise ArtifactUnsupported("The model predicts several targets at once, which is not served yet.")
    return learner


def _is_tree(tree: Mapping[str, Any], features: int) -> bool:
    """Whether every node has one parent at most, the root none, and splits by a feature that there is."""
    left, right = np.asarray(tree["left_children"]), np.asarray(tree["right_children"])
    inner = left >= 0
    children = np.concatenate([left[inner], right[inner]])
    by = np.asarray(tree["split_indices"])[inner]
    once = len(np.unique(children)) == len(children)
    there = bool(((children > 0) & (children < len(left))).all() and ((by >= 0) & (by < features)).all())
    return len(left) == len(right) and once and there


def _columns(booster: Any) -> Iterator[Column]:
    """The features, with the categories that the model keeps."""
    count = booster.num_features()
    names = booster.feature_names or [""] * count
    types = booster.feature_types or ["float"] * count
    categories: dict[int, tuple[Any, ...]] = {}
    if "c" in types:
        found = booster.get_categories(export_to_arrow=True).to_arrow()
        categories = {
            place: tuple(values.to_pylist())
            for place, (_, values) in enumerate(found or ())
            if values is not None
        }
    for place, (name, kind) in enumerate(zip(names, types, strict=True)):
        if categories.get(place):
            yield Column(name, "coded", categories[place])
        else:
            yield Column(name, "whole" if kind == "c" else "number")


def _answers(learner: Mapping[str, Any]) -> Answers:
    """What the scores mean, by the objective.

    Raises:
        ArtifactUnsupported: several values that are no classes.
    """
    objective = str(learner["objective"]["name"])
    classes = max(int(learner["learner_model_param"].get("num_class", "0")), 0)
    scores = _CLASSES.get(objective)
    if scores is not None:
        return Answers(scores, tuple(range(classes or 2)))  # type: ignore[arg-type]  # One of the forms, by the table.
    if classes > 1:
        raise ArtifactUnsupported(
            f"The model gives {classes} values a row with the objective {objective!r}, which is not served."
        )
    return Answers("values")


def _rounds(booster: Any) -> int:
    """How many rounds count, as for the class that saved it: scikit-learn classes stop at the best."""
    attributes = booster.attributes()
    if "scikit_learn" in attributes and "best_iteration" in attributes:
        return int(attributes["best_iteration"]) + 1
    return 0


ADAPTER = XgboostAdapter()
