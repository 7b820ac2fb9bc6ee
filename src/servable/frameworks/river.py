"""Models of River, which learn row by row: classifiers and regressors, with all that prepares their rows.

A model is kept as the pickle that River itself recommends. One that holds nothing but River's own classes
is opened without trust, see ``river_files``; anything else is code of its author.
"""

import copy
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import river
from msgspec.structs import replace
from numpy.typing import NDArray
from river import base

from servable.artifact.files import write_file
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, DataError, ModelFailed
from servable.frameworks import river_files, river_signature
from servable.frameworks.base import EXECUTES, NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.river_batches import batches_of
from servable.frameworks.river_rows import rows_of
from servable.frameworks.river_signature import LABELS, MISSING
from servable.frameworks.scoring import label_field
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, row_count

_FILE = "model.pkl"


class RiverPredictor:
    """A River model behind packed arrays; one call at a time.

    Every row is asked by itself, or many at once where that gives the same answers; see ``river_batches``.
    """

    concurrent = False

    def __init__(self, model: Any, signature: Signature, options: Any) -> None:
        self._model = model
        self._signature = signature
        self._missing = options[MISSING]
        self._labels = list(options.get(LABELS, ()))
        self._place = {label: place for place, label in enumerate(self._labels)}
        last = model._last_step if hasattr(model, "_last_step") else model
        # River's own rule is then the largest share, and asking once gives both.
        self._largest_wins = type(last).predict_one is base.Classifier.predict_one
        self._batches = batches_of(model, signature, self._labels, largest_wins=self._largest_wins)

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows as the model's ``predict_one`` and ``predict_proba_one`` do.

        Raises:
            ModelFailed: the model raised, or gave a label that is none of its classes.
        """
        found = self._batches.answers(arrays, self._one_by_one)
        return self._one_by_one(arrays) if found is None else found

    def _one_by_one(self, arrays: Arrays) -> dict[str, Any]:
        rows = rows_of(arrays, self._signature, self._missing)
        try:
            if self._signature.task == "regression":
                return {PREDICTION: np.array([self._model.predict_one(row) for row in rows], np.float64)}
            return self._classified(rows)
        except ModelFailed:
            raise
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
            raise ModelFailed(
                f"The River model failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        self._model = None

    def _classified(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        if not self._signature.probabilities:
            return {PREDICTION: self._places([self._model.predict_one(row) for row in rows])}
        shares = [self._model.predict_proba_one(row) for row in rows]
        if self._largest_wins:
            given = [max(share, key=share.get) if share else None for share in shares]
        else:
            given = [self._model.predict_one(row) for row in rows]
        probabilities = np.array([[share.get(label, 0.0) for label in self._labels] for share in shares])
        return {PREDICTION: self._places(given), PROBABILITIES: probabilities.astype(np.float64)}

    def _places(self, given: list[Any]) -> NDArray[np.int64]:
        """Labels as places among the classes."""
        try:
            return np.array([self._place[label] for label in given], np.int64)
        except KeyError as strange:
            raise ModelFailed(
                f"The River model gave {str(strange)[:40]}, which is none of the {len(self._labels)} classes "
                "that it was added with."
            ) from strange


class RiverAdapter:
    """Classifiers and regressors of River."""

    name = "river"
    suffixes = (".pkl", ".pickle")

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model from a pickle; see the seam.

        Raises:
            ArtifactUnreadable: empty, truncated, damaged, or no River model.
            ArtifactUntrusted: it holds more than River's own classes and ``trust`` is false; none of that was
                executed.
            ArtifactUnsupported: it is no classifier and no regressor, or nobody says what it takes.
            SettingInvalid: the labels contradict the model, or are needed.
            DataError: the model does not answer the sample.
            DependencyMissing: a module that it needs is not installed.
        """
        model = river_files.open_file(path, trust=trust)
        if not isinstance(model, base.Base):
            raise ArtifactUnreadable(
                f"{path.name} holds a {type(model).__name__}, not a River model; pickle the model alone."
            )
        return self.take(model, sample=sample, hints=hints)

    def take(self, model: Any, *, sample: Any | None, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model that is in memory; raises what ``read`` does about its kind and its rows."""
        signature, options = river_signature.derive(model, sample, hints)
        return trained_of(model, signature, options)

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Write ``model.pkl``; see the seam. Its option ``executes`` says when it holds more than River."""
        data = river_files.dumps(trained.model)
        write_file(folder / _FILE, data)
        options = {key: value for key, value in trained.options.items() if key != EXECUTES}
        if not river_files.vouched_for(data):
            options[EXECUTES] = True
        return Variant(name=TRAINED, format=self.name, path=_FILE, options=options)

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory; see the seam.

        Raises:
            ArtifactUntrusted: it would execute code and ``trust`` is false.
            ArtifactUnreadable: damaged.
        """
        model = river_files.open_file(folder / variant.path, trust=trust)
        return trained_of(model, signature, variant.options)

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        return RiverPredictor(trained.model, trained.signature, trained.options)

    def with_labels(self, trained: Trained, labels: Sequence[Any]) -> Trained:
        """The model with classes that it never saw behind those that it knows; see the seam.

        One that tells two classes apart stays as it is.
        """
        signature = trained.signature
        new = [label for label in labels if label not in signature.classes]
        if signature.task != "classification" or not new or river_signature.is_binary(trained.model):
            return trained
        own, classes = list(trained.options[LABELS]), signature.classes
        numbered = own == list(range(len(own))) and tuple(own) != classes
        own += range(len(own), len(own) + len(new)) if numbered else new
        output = replace(label_field((*classes, *new)), name=signature.answer.name)
        output = replace(output, description=signature.answer.description, capture=signature.answer.capture)
        return trained._replace(
            signature=replace(signature, outputs=(output, *signature.outputs[1:])),
            options={**trained.options, LABELS: own},
        )

    def learn_on(self, trained: Trained, arrays: Arrays, truth: NDArray[Any]) -> Trained:
        """A copy of the model after ``learn_one`` of every row, in their order; see the seam.

        Raises:
            DataError: it cannot learn from a row.
        """
        model = copy.deepcopy(trained.model)
        learn(model, rows_of(arrays, trained.signature, trained.options[MISSING]), answers(trained, truth))
        return trained._replace(model=model)


def trained_of(model: Any, signature: Signature, options: Any) -> Trained:
    """A model in the form that the adapter takes."""
    libraries = {
        "river": str(river.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return Trained(model, signature, options, libraries)


def answers(trained: Trained, truth: NDArray[Any]) -> list[Any]:
    """Right answers as the model itself names them.

    Args:
        trained: the model.
        truth: int64 places among the classes, or float64 values ``[rows]``.
    """
    if trained.signature.task == "regression":
        return [float(value) for value in truth]
    labels = list(trained.options[LABELS])
    return [labels[place] for place in truth.tolist()]


def learn(model: Any, rows: Sequence[dict[str, Any]], given: Sequence[Any]) -> None:
    """Let a model learn from rows, in their order; it is changed.

    Raises:
        DataError: it cannot learn from one of them, which is named.
    """
    for place, (row, answer) in enumerate(zip(rows, given, strict=True)):
        try:
            model.learn_one(row, answer)
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
            raise DataError(
                f"The River model cannot learn from row {place + 1} of {len(rows)} "
                f"({type(foreign).__name__}: {str(foreign)[:200]})."
            ) from foreign


def answered_first(trained: Trained, rows: Sequence[dict[str, Any]], given: Sequence[Any]) -> NDArray[Any]:
    """What a model answers to each row just before it learns from it; it is changed.

    Args:
        trained: the model.
        rows: in their order.
        given: right answers as the model itself names them.

    Returns:
        int64 places among the classes, or float64 values ``[rows]``; the first class, or 0, where it knows no
        answer yet.

    Raises:
        DataError: it cannot learn from a row.
    """
    model, labels = trained.model, list(trained.options.get(LABELS, ()))
    place = {label: number for number, label in enumerate(labels)}
    found = np.zeros(len(rows), np.int64 if labels else np.float64)
    for number, (row, answer) in enumerate(zip(rows, given, strict=True)):
        said = model.predict_one(row)
        found[number] = place.get(said, 0) if labels else (said or 0.0)
        learn(model, [row], [answer])
    return found


ADAPTER = RiverAdapter()
