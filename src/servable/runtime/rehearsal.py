"""A model answers its own example before it takes requests: the first check, and the first measurement."""

import statistics
import time
from typing import Any

import msgspec
import numpy as np

from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ModelFailed, RequestInvalid
from servable.frameworks.base import Predictor
from servable.inputs.rows import Preparer
from servable.protocols.native import NativeCodec
from servable.protocols.native_schema import example_row
from servable.tensors import PREDICTION, PROBABILITIES, Arrays

_WARM_UP_RUNS = 5
#: No further run is begun after so many seconds: a slow model is warm by then, and callers may wait for it.
_LONG_ENOUGH_S = 0.25


def example_arrays(signature: Signature) -> dict[str, Any]:
    """The signature's example row as packed arrays, the files in it prepared.

    Raises:
        ArtifactUnreadable: the example does not fit the signature.
        DependencyMissing: the model takes files and what opens them is not installed.
    """
    body = msgspec.json.encode({"input": example_row(signature)})
    try:
        return Preparer(signature).prepared(NativeCodec(signature).decode(body, "example").arrays)
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
    """Whether the answer to one row has the form that the signature promises.

    Raises:
        ModelFailed: it has not; the sentence says what differs.
    """
    if signature.task == "transform" and PREDICTION not in answer:
        if not answer:
            raise ModelFailed(f"{model} answered its own example with nothing.")
        return
    prediction = answer.get(PREDICTION)
    if prediction is None or np.ndim(prediction) < 1 or len(prediction) != 1:
        raise ModelFailed(f"{model} answered its own example, one row, with {_form(prediction)}.")
    classes = len(signature.classes)
    if signature.task == "classification":
        if prediction.dtype.kind not in "iu" or not 0 <= int(prediction[0]) < classes:
            raise ModelFailed(
                f"{model} answered its own example with a class that is none of its {classes} classes."
            )
        chances = answer.get(PROBABILITIES)
        if signature.probabilities and (chances is None or np.shape(chances) != (1, classes)):
            raise ModelFailed(
                f"{model} answered its own example with {_form(chances)} instead of {classes} probabilities."
            )
    elif signature.task == "regression" and not np.isfinite(prediction).all():
        raise ModelFailed(f"{model} answered its own example with a value that is not finite.")


def _form(array: Any) -> str:
    return "nothing" if array is None else f"an array of shape {tuple(np.shape(array))}"
