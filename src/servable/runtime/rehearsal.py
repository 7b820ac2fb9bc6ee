"""A model answers its own example before it takes requests: the first check, and the first measurement."""

import statistics
import time
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import STRING_DTYPES, Field, Signature
from servable.errors import ArtifactUnreadable, ModelFailed, RequestInvalid
from servable.frameworks.base import Predictor
from servable.inputs.rows import Preparer
from servable.protocols.native import native_codec
from servable.protocols.native_schema import example_row
from servable.tensors import PREDICTION, PROBABILITIES, Arrays

_WARM_UP_RUNS = 5
#: No further run is begun after so many seconds: a slow model is warm by then, and callers may wait for it.
_LONG_ENOUGH_S = 0.25
#: Kinds of numpy's dtypes that are numbers, truth values and dates among them.
_NUMBERS = frozenset("biufMm")


def example_arrays(signature: Signature) -> dict[str, Any]:
    """The signature's example row as packed arrays, the files in it prepared.

    Raises:
        ArtifactUnreadable: the example does not fit the signature.
        DependencyMissing: the model takes files and what opens them is not installed.
    """
    body = msgspec.json.encode({"input": example_row(signature)})
    try:
        return Preparer(signature).prepared(native_codec(signature).decode(body, "example").arrays)
    except RequestInvalid as error:
        raise ArtifactUnreadable(f"The example of the signature does not fit it: {error.message}.") from error


def rehearse(
    predictor: Predictor, signature: Signature, model: str, *, example: Arrays | None = None
) -> float:
    """Answer the example several times; the median seconds of the runs after the first.

    Args:
        predictor: the model.
        signature: what it promises.
        model: its name.
        example: what ``example_arrays`` gave, where the caller has it already.

    Raises:
        ArtifactUnreadable: the example does not fit the signature.
        ModelFailed: the model raised, or its answer has not the form that the signature promises.
    """
    arrays = example_arrays(signature) if example is None else example
    begun = time.perf_counter()
    check_answer(predictor.predict(arrays), signature, model)
    taken = []
    for _ in range(_WARM_UP_RUNS):
        started = time.perf_counter()
        predictor.predict(arrays)
        ended = time.perf_counter()
        taken.append(ended - started)
        if ended - begun > _LONG_ENOUGH_S:
            break
    return statistics.median(taken)


def check_answer(answer: dict[str, Any], signature: Signature, model: str) -> None:
    """Whether the answer to one row has the form that the signature promises: names, kinds, shapes, classes.

    Raises:
        ModelFailed: it has not; the sentence says what differs.
    """
    wrong = _wrong(answer, signature)
    if wrong:
        raise ModelFailed(f"{model} answered its own example with {wrong}.")


def _wrong(answer: dict[str, Any], signature: Signature) -> str:
    """What differs from the promise; empty when nothing does."""
    if PREDICTION not in answer and signature.task == "transform":
        if not answer:
            return "nothing"
        absent = [field.name for field in signature.outputs if field.name not in answer]
        if absent:
            return f"{', '.join(answer)} and without {absent[0]}, which its signature names"
        return _first(_unlike(answer[field.name], field) for field in signature.outputs)
    prediction = answer.get(PREDICTION)
    if prediction is None or np.ndim(prediction) < 1 or len(prediction) != 1:
        return f"{_form(prediction)} for one row"
    if signature.task == "classification":
        return _no_class(np.asarray(prediction), answer.get(PROBABILITIES), signature)
    if signature.task == "regression":
        if prediction.dtype.kind not in _NUMBERS:
            return f"{prediction.dtype} instead of a number"
        if not np.isfinite(prediction).all():
            return "a value that is not finite"
    return _unlike(prediction, signature.answer)


def _no_class(prediction: NDArray[Any], chances: Any, signature: Signature) -> str:
    """Why an answer is none of a classifier; empty when it is one."""
    classes = len(signature.classes)
    if prediction.ndim != 1 or prediction.dtype.kind not in "iu" or not 0 <= int(prediction[0]) < classes:
        return f"a class that is none of its {classes} classes"
    if signature.probabilities:
        if chances is None or np.shape(chances) != (1, classes):
            return f"{_form(chances)} instead of {classes} probabilities"
        if not np.isfinite(chances).all():
            return "a probability that is not finite"
    return ""


def _unlike(array: Any, field: Field) -> str:
    """Why an array is no answer for a field of the signature; empty when it is one."""
    given = np.asarray(array)
    numbers = field.dtype not in STRING_DTYPES
    if numbers != (given.dtype.kind in _NUMBERS):
        return f"{field.name} of {given.dtype} instead of {field.dtype}"
    promised = field.shape
    if field.is_tensor and promised:
        fits = given.ndim == 1 + len(promised) and all(
            size in (-1, real) for size, real in zip(promised, given.shape[1:], strict=True)
        )
        if not fits:
            return f"{field.name} of shape {given.shape[1:]} instead of {promised}"
    return ""


def _first(faults: Iterable[str]) -> str:
    return next((fault for fault in faults if fault), "")


def _form(array: Any) -> str:
    return "nothing" if array is None else f"an array of shape {tuple(np.shape(array))}"
