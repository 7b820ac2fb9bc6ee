"""From a package to something that answers: load, warm up, check itself, choose where to run."""

import statistics
import time
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.manifest import Variant
from servable.artifact.package import Package
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ModelFailed, RequestInvalid
from servable.frameworks import lookup
from servable.frameworks.base import Predictor
from servable.protocols.native import NativeCodec
from servable.protocols.native_schema import example_row
from servable.runtime.executor import Executor, InlineExecutor, ThreadExecutor
from servable.tensors import PREDICTION, PROBABILITIES

#: A compiled model whose single row takes no longer than this runs in the event loop itself; a thread
#: hop costs some 30 µs and holds up nobody.
INLINE_SECONDS = 500e-6
_WARM_UP_RUNS = 5
#: Formats whose graphs are declarative, so that running one in the event loop cannot surprise.
_DECLARATIVE = frozenset({"onnx"})


class LoadedModel(NamedTuple):
    """A variant that has answered its own example and waits for requests.

    Attributes:
        package: what it was loaded from.
        signature: the package's.
        variant: the form that was loaded.
        executor: where it runs; close it to give everything back.
        placement: ``inline`` or ``thread``.
        reason: one sentence: why there.
        example_seconds: the median time of one row.
        load_seconds: reading, warming up and checking together.
    """

    package: Package
    signature: Signature
    variant: Variant
    executor: Executor
    placement: str
    reason: str
    example_seconds: float
    load_seconds: float


def load_model(package: Package, *, variant: str | None = None) -> LoadedModel:
    """Make a variant of a verified package ready to answer.

    Blocks for as long as the load takes; call it from a thread when an event loop waits.

    Args:
        package: as ``open_package`` gave it.
        variant: name of a variant; the one that the manifest chose when None.

    Raises:
        ArtifactUnreadable: no such variant, or its answers do not fit the signature.
        ArtifactUntrusted: the form executes code and nobody allowed it.
        DependencyMissing: its library is not installed.
        ModelFailed: it raised on its own example.
    """
    started = time.perf_counter()
    manifest, signature = package.manifest, package.signature
    try:
        chosen = manifest.variant(variant or manifest.serving)
    except KeyError as error:
        known = ", ".join(each.name for each in manifest.variants)
        raise ArtifactUnreadable(f"{manifest.model} has no variant {error}; it has {known}.") from error
    adapter = lookup.adapter(chosen.format)
    predictor = adapter.load(package.folder, chosen, signature, trust=manifest.trusted)
    try:
        seconds = _rehearse(predictor, signature, manifest.model)
    except BaseException:
        predictor.close()
        raise
    executor, placement, reason = _place(predictor, chosen, seconds, manifest.model)
    elapsed = time.perf_counter() - started
    return LoadedModel(package, signature, chosen, executor, placement, reason, seconds, elapsed)


def example_arrays(signature: Signature) -> dict[str, Any]:
    """The signature's example row as packed arrays.

    Raises:
        ArtifactUnreadable: the example does not fit the signature.
    """
    body = msgspec.json.encode({"input": example_row(signature)})
    try:
        return NativeCodec(signature).decode(body, "example").arrays
    except RequestInvalid as error:
        raise ArtifactUnreadable(f"The example of the signature does not fit it: {error.message}.") from error


def _rehearse(predictor: Predictor, signature: Signature, model: str) -> float:
    """Answer the example several times; the median seconds of the runs after the first."""
    arrays = example_arrays(signature)
    check_answer(predictor.predict(arrays), signature, model)
    taken = []
    for _ in range(_WARM_UP_RUNS):
        started = time.perf_counter()
        predictor.predict(arrays)
        taken.append(time.perf_counter() - started)
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


def _place(predictor: Predictor, variant: Variant, seconds: float, model: str) -> tuple[Executor, str, str]:
    micros = f"one row takes {seconds * 1e6:.0f} µs"
    if variant.format in _DECLARATIVE and seconds <= INLINE_SECONDS:
        return InlineExecutor(predictor), "inline", f"{micros} and the graph is declarative"
    why = "which would hold up the event loop" if seconds > INLINE_SECONDS else "and it runs Python code"
    return ThreadExecutor(predictor, model), "thread", f"{micros}, {why}"
