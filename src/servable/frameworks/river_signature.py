"""What a River model takes and gives, found out by asking it about sample rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from river import base

from servable.artifact.signature import Field, Signature, is_table
from servable.errors import ArtifactUnsupported, DataError, SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.river_rows import Missing, one_row, rows_of, without
from servable.frameworks.scoring import label_field
from servable.tensors import Arrays, take

if TYPE_CHECKING:
    import pandas as pd

#: Options of a trained variant: the labels as the model itself names them, in the order of the signature's
#: classes, and how a missing value is said to it.
LABELS, MISSING = "labels", "missing"
#: Rows of a sample that a classifier is asked about to find its labels.
_ASKED_ROWS = 500
_BINARY = (False, True)


class Derived(NamedTuple):
    """The signature of a model, and what the adapter must know to run it."""

    signature: Signature
    options: dict[str, Any]


def derive(model: Any, sample: "pd.DataFrame | None", hints: Hints) -> Derived:
    """The signature of a model.

    Args:
        model: of River.
        sample: rows that it accepts; gives names, types, ranges, missing values and the example.
        hints: inputs where there is no sample, and the labels of a classifier.

    Raises:
        ArtifactUnsupported: it neither classifies nor gives a number, or nobody says what it takes.
        SettingInvalid: the labels contradict the model, or are needed.
        DataError: the model does not answer the sample's first row.
    """
    classifies = isinstance(model, base.Classifier)
    if not classifies and not isinstance(model, base.Regressor):
        raise ArtifactUnsupported(
            f"{type(model).__name__} of River is neither a classifier nor a regressor, so it is not served."
        )
    fields = _inputs(sample, hints)
    output = Field(name="prediction", kind="number", dtype="float64")
    signature = Signature(
        task="regression",
        inputs=tuple(replace(field, missing=True) for field in fields),
        outputs=(output,),
        example={field.name: field.example for field in fields},
    )
    arrays = _packed(sample, signature)
    missing, optional = _missing(model, take(arrays, slice(0, 1)), signature)
    signature = replace(
        signature, inputs=tuple(replace(field, missing=field.name in optional) for field in fields)
    )
    if not classifies:
        return Derived(signature, {MISSING: missing})
    rows = rows_of(take(arrays, slice(0, _ASKED_ROWS)), signature, missing)
    own = known_labels(model, rows)
    classes, labels = _named(own, hints.labels)
    answer = label_field(classes)
    signature = replace(
        signature, task="classification", outputs=(answer,), probabilities=gives_probabilities(model, rows[0])
    )
    return Derived(signature, {MISSING: missing, LABELS: list(labels)})


def is_binary(model: Any) -> bool:
    """Whether a classifier tells two classes apart only, which it calls False and True."""
    return not model._multiclass


def own_labels(model: Any, classes: Sequence[Any]) -> tuple[Any, ...]:
    """What a classifier that is to be trained calls these classes.

    Raises:
        SettingInvalid: there are more than it can tell apart.
    """
    if not is_binary(model):
        return tuple(classes)
    if len(classes) != len(_BINARY):
        raise SettingInvalid(f"{type(model).__name__} tells two classes apart, and there are {len(classes)}.")
    return _BINARY


def gives_probabilities(model: Any, row: dict[str, Any]) -> bool:
    """Whether a classifier gives a share for each class, or labels alone."""
    try:
        return isinstance(model.predict_proba_one(row), dict)
    except Exception:  # noqa: BLE001 - whatever it raises, it gives none
        return False


def known_labels(model: Any, rows: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """The labels that a classifier is known to give, sorted; those that it gives to the rows among them."""
    if is_binary(model):
        return _BINARY
    found: dict[Any, None] = {}
    for part in _last_steps(model):
        for name in ("classes", "class_counts", "classifiers"):
            held = getattr(part, name, None)
            if isinstance(held, set | frozenset | dict):
                found |= dict.fromkeys(held)
    shares = bool(rows) and gives_probabilities(model, rows[0])
    for row in rows:
        found |= dict.fromkeys(model.predict_proba_one(row) if shares else [model.predict_one(row)])
    plain = [_plain(label) for label in found if label is not None]
    return tuple(sorted(dict.fromkeys(plain), key=lambda label: (type(label).__name__, label)))


def _last_steps(model: Any) -> Iterator[Any]:
    """The model, its last step, and what that one wraps."""
    yield model
    steps = getattr(model, "steps", None)
    if isinstance(steps, dict) and steps:
        yield from _last_steps(list(steps.values())[-1])
    elif isinstance(model, base.Wrapper):
        yield from _last_steps(model._wrapped_model)


def _named(own: tuple[Any, ...], said: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The classes for callers, and what the model calls each of them.

    Raises:
        SettingInvalid: the labels that were given are not those of the model, or the model knows too few.
    """
    if not said:
        if len(own) < len(_BINARY):
            raise SettingInvalid(
                f"The model gives {len(own)} labels to the sample, so its classes are not known; "
                "name all of them by --labels, or add a --sample with rows of every class."
            )
        return own, own
    if set(own) <= set(said):
        return tuple(said), tuple(said)
    texts = {str(label): label for label in own}
    if set(texts) <= set(map(str, said)):
        return tuple(said), tuple(texts.get(str(label), label) for label in said)
    if len(said) == len(own) and own in (_BINARY, tuple(range(len(own)))):
        return tuple(said), own
    raise SettingInvalid(
        f"The labels {', '.join(map(str, said))} are not those of the model, which gives "
        f"{', '.join(map(str, own))}."
    )


def _inputs(sample: "pd.DataFrame | None", hints: Hints) -> tuple[Field, ...]:
    """The inputs as the sample has them, else as they were described.

    Raises:
        ArtifactUnsupported: nobody says them.
    """
    if sample is not None and len(sample):
        # Lazily, as a server that loads a model has neither pandas nor scikit-learn.
        from servable.frameworks.sklearn_signature import sampled

        return tuple(sampled(str(name), sample[name]) for name in sample.columns)
    if not hints.inputs or not is_table(hints.inputs):
        raise ArtifactUnsupported(
            "A River model does not say what it takes; add --sample with example rows, "
            "or describe its columns with --describe."
        )
    return tuple(
        replace(field, dtype=field.dtype or _DTYPES.get(field.kind, "float64")) for field in hints.inputs
    )


_DTYPES = {"category": "str", "text": "str", "boolean": "bool", "date": "datetime"}


def _packed(sample: "pd.DataFrame | None", signature: Signature) -> Arrays:
    """The sample, or the example that was described, as packed rows."""
    # Lazily, see above.
    import pandas as pd

    from servable.frameworks.frame import pack

    if sample is not None and len(sample):
        return pack(sample, signature)
    return pack(pd.DataFrame([signature.example]), signature)


def _missing(model: Any, row: Arrays, signature: Signature) -> tuple[Missing, frozenset[str]]:
    """How a missing value is best said to the model, and the columns in which it then answers without one.

    Raises:
        DataError: it does not answer the row as it is.
    """
    try:
        model.predict_one(one_row(row, signature, "none"))
    except Exception as foreign:
        raise DataError(
            f"The model does not answer the sample's first row ({type(foreign).__name__}: "
            f"{str(foreign)[:200]}); give rows with the columns that it was trained on."
        ) from foreign
    ways: tuple[Missing, ...] = ("none", "absent")
    found = {way: frozenset(_answered_without(model, row, signature, way)) for way in ways}
    best = max(ways, key=lambda way: len(found[way]))
    return best, found[best]


def _answered_without(model: Any, row: Arrays, signature: Signature, way: Missing) -> Iterator[str]:
    for field in signature.inputs:
        asked = one_row(without(row, signature, field.name), signature, way)
        try:
            answer = model.predict_one(asked)
        except Exception:  # noqa: BLE001, S112 - whatever it raises, it does not answer such a row
            continue
        if answer is not None and answer == answer:
            yield field.name


def _plain(label: Any) -> Any:
    """A label of numpy as Python's own."""
    return label.item() if isinstance(label, np.generic) else label
