"""CatBoost's own model files (``.cbm``). They hold data and no code."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import catboost
import msgspec
import numpy as np
import pandas as pd

from servable.artifact.manifest import Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, converted
from servable.frameworks.base import NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.boosted import (
    LOSS,
    ORIGIN,
    SCORES,
    Answers,
    BoostedPredictor,
    Column,
    first_line,
    kept,
    signature_of,
)
from servable.tensors import NUMBERS, STRINGS, Arrays

_FILE = "model.cbm"
#: Losses of classifiers, and what their probabilities look like.
_CLASSES = {
    "Logloss": "positive",
    "CrossEntropy": "positive",
    "MultiClass": "rows",
    "MultiClassOneVsAll": "rows",
}
#: Losses whose values the library itself gives as exponents of the sums.
_EXPONENTS = frozenset({"Poisson", "Tweedie", "LogLinQuantile"})


class CatboostAdapter:
    """Models of CatBoost."""

    name = "catboost"
    suffixes = (".cbm",)

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model file; see the seam. It holds no code, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: empty, truncated, damaged or no CatBoost model.
            ArtifactUnsupported: it takes free text or embeddings, or predicts several targets.
            DataError: the sample does not fit the model.
            SettingInvalid: a hint contradicts the model.
        """
        model = _loaded(path)
        loss = _loss(model)
        answers = _answers(model, loss)
        signature = signature_of(list(_columns(model, sample)), answers, sample, hints)
        options = {SCORES: answers.scores, LOSS: loss, ORIGIN: str(path)}
        return Trained(model, signature, options, _libraries())

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the file into the package."""
        return kept(trained, folder, self.name, _FILE)

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
        model, signature = trained.model, trained.signature
        names = tuple(model.feature_names_)
        categorical = set(model.get_cat_feature_indices())
        scores, loss = trained.options[SCORES], str(trained.options[LOSS])

        def score(arrays: Arrays) -> Any:
            given = _given(arrays, signature, categorical, names)
            if scores == "values":
                form = "Exponent" if loss in _EXPONENTS else "RawFormulaVal"
                return model.predict(given, prediction_type=form, thread_count=1)
            found = model.predict(given, prediction_type="Probability", thread_count=1)
            return found[:, 1] if scores == "positive" else found

        return BoostedPredictor(score, scores)


def _libraries() -> dict[str, str]:
    return {"catboost": catboost.__version__, "numpy": np.__version__}


def _loaded(path: Path) -> Any:
    """The model in a file.

    Raises:
        ArtifactUnreadable: none of CatBoost's.
    """
    with converted({OSError: ArtifactUnreadable}, f"{path.name} cannot be read: {{}}."):
        if path.stat().st_size == 0:
            raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); save or copy the model again.")
    try:
        model = catboost.CatBoost()
        model.load_model(str(path), format="cbm")
    except catboost.CatBoostError as foreign:
        said = first_line(foreign).rpartition(": ")[2]
        raise ArtifactUnreadable(
            f"{path.name} is no CatBoost model that can be loaded ({said}); it may be damaged or truncated; "
            "save or copy it again."
        ) from foreign
    return model


def _given(arrays: Arrays, signature: Signature, categorical: set[int], names: Sequence[str]) -> Any:
    """The rows as the library takes them: a matrix of numbers, or a frame with categories as text.

    Args:
        arrays: the packed rows.
        signature: their columns.
        categorical: places of the categories.
        names: the model's own, which the library checks; those of the signature may be others.
    """
    if not categorical:
        # It compares in float32; larger values become infinite there as they do inside it.
        with np.errstate(over="ignore"):
            return arrays[NUMBERS].astype(np.float32)
    columns: dict[str, Any] = {}
    place = {NUMBERS: 0, STRINGS: 0}
    for index, field in enumerate(signature.inputs):
        column = arrays[field.array][:, place[field.array]]
        place[field.array] += 1
        if index not in categorical:
            with np.errstate(over="ignore"):
                columns[field.name] = column.astype(np.float32)
        elif field.array == STRINGS:
            columns[field.name] = pd.Series(column, dtype=object)
        else:
            texts = [str(int(value)) if value.is_integer() else str(value) for value in column.tolist()]
            columns[field.name] = pd.Series(texts, dtype=object)
    return catboost.Pool(
        pd.DataFrame(columns).set_axis(list(names), axis=1), cat_features=sorted(categorical)
    )


def _loss(model: Any) -> str:
    """The name of the loss that the model was trained with; empty when it does not say."""
    try:
        params = msgspec.json.decode(model.get_metadata()["params"].encode())
        return str(params["loss_function"]["type"])
    except (KeyError, TypeError, msgspec.DecodeError):
        return ""


def _columns(model: Any, sample: Any | None) -> Iterator[Column]:
    """The features.

    Raises:
        ArtifactUnsupported: free text or embeddings among them.
    """
    if model.get_text_feature_indices() or model.get_embedding_feature_indices():
        raise ArtifactUnsupported(
            "The model takes free text or embeddings through CatBoost's own processing, which is not served."
        )
    names = list(model.feature_names_)
    made_up = names == [str(place) for place in range(len(names))]
    categorical = set(model.get_cat_feature_indices())
    for place, name in enumerate(names):
        shown = "" if made_up else name
        if place not in categorical:
            yield Column(shown)
            continue
        column = None if sample is None else sample.iloc[:, place] if made_up else sample.get(name)
        whole = column is not None and pd.api.types.is_integer_dtype(column.dtype)
        values = tuple(sorted({int(value) for value in column})) if column is not None and whole else ()
        yield Column(shown, "whole" if whole else "text", values, missing=False)


def _answers(model: Any, loss: str) -> Answers:
    """What the scores mean, by the loss.

    Raises:
        ArtifactUnsupported: several values that are no classes, or classes at another limit than one half.
    """
    scores = _CLASSES.get(loss)
    if scores is not None:
        classes = tuple(value.item() if isinstance(value, np.generic) else value for value in model.classes_)
        if not classes:
            classes = (0, 1)
        return Answers(scores, classes)  # type: ignore[arg-type]  # One of the forms, by the table.
    bias = np.atleast_1d(np.asarray(model.get_scale_and_bias()[1]))
    if len(bias) > 1:
        raise ArtifactUnsupported(
            f"The model gives {len(bias)} values a row with the loss {loss}, which is not served."
        )
    return Answers("values")


ADAPTER = CatboostAdapter()
