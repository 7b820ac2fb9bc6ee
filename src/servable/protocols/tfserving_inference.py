"""TensorFlow Serving over gRPC: ``Classify``, ``Regress`` and ``MultiInference``, asked with ``tf.Example``.

They answer what ``:classify`` and ``:regress`` do over REST. ``MultiInference`` asks one model several times
about the same examples, which it answers once; an answer stands for each task, in their order.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from servable.artifact.signature import Signature
from servable.errors import RequestInvalid, RequestMalformed, ServableError
from servable.protocols.answers import label_key
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.native_schema import Problems, shown
from servable.protocols.tfserving import (
    CLASSIFY_NAMES,
    DEFAULT,
    NO_CLASSIFIER,
    NO_NUMBER,
    REGRESS_NAMES,
    regresses,
)
from servable.protocols.tfserving_examples import Examples
from servable.protocols.tfserving_grpc import parsed, parts_of
from servable.protocols.tfserving_messages import PACKAGE, messages
from servable.tensors import PREDICTION, PROBABILITIES, Body, Request, Response

#: What the messages of ``MultiInference`` call the two ways to ask.
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


class _Way(NamedTuple):
    """One way to ask a model.

    Attributes:
        names: of the signatures that mean it.
        refusal: what is said where the model does not do it; empty where it does.
        fill: writes the answers to all rows into a result.
    """

    names: frozenset[str]
    refusal: str
    fill: Callable[[Any, Response], None]


def _ways(signature: Signature) -> dict[str, _Way]:
    """Both ways to ask a model, by what they are called."""
    labels = tuple(label_key(label) for label in signature.classes)

    def classes(result: Any, response: Response) -> None:
        chances = response.arrays.get(PROBABILITIES)
        if chances is None:
            for index in response.arrays[PREDICTION].tolist():
                result.classifications.add().classes.add(label=labels[index], score=1.0)
            return
        for row in chances.tolist():
            told = result.classifications.add().classes
            for label, score in zip(labels, row, strict=True):
                told.add(label=label, score=score)

    def numbers(result: Any, response: Response) -> None:
        for value in next(iter(response.arrays.values())).reshape(response.rows).tolist():
            result.regressions.add(value=value)

    return {
        CLASSIFY: _Way(CLASSIFY_NAMES, "" if labels else NO_CLASSIFIER, classes),
        REGRESS: _Way(REGRESS_NAMES, "" if regresses(signature) else NO_NUMBER, numbers),
    }


class _Codec:
    """What the three have in common. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: most rows, and most bytes of a context once it stands in every row.
    """

    media_type = "application/grpc"

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._examples = Examples(signature, limits)
        self._ways = _ways(signature)

    def _check(self, called: str, name: str, place: str, problems: Problems) -> None:
        """Note a signature of another name.

        Raises:
            RequestMalformed: the model does not answer in this way.
        """
        way = self._ways[called]
        if way.refusal:
            raise RequestMalformed(way.refusal)
        if name not in way.names:
            problems.note(f"{place}model_spec.signature_name", f'"{DEFAULT}"', shown(name))

    def _fill(self, called: str, result: Any, response: Response) -> None:
        self._ways[called].fill(result, response)

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """The message alone: over gRPC errors travel in trailers."""
        return error.message.encode()


class _SingleCodec(_Codec):
    """One way to ask, whose message is named after it."""

    way: str
    kind: str

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """One message.

        Raises:
            RequestMalformed: no such message, or the model does not answer in this way.
            RequestInvalid: features that do not fit the signature; every problem is named.
            RequestTooLarge: more examples than allowed, or a context too large for as many.
        """
        asked = parsed(f"{self.kind}Request", body)
        problems = Problems()
        name = asked.model_spec.signature_name
        self._check(self.way, name, "", problems)
        if problems:
            raise RequestInvalid(problems)
        arrays, rows = self._examples.read(asked.input)
        return Request(arrays, rows, request_id, wish=name)

    def encode(self, response: Response) -> bytes:
        """One answer.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        answer = messages()[f"{PACKAGE}.{self.kind}Response"]()
        _name(answer.model_spec, response, response.wish)
        answer.result.SetInParent()
        self._fill(self.way, answer.result, response)
        data: bytes = answer.SerializeToString()
        return data


class ClassifyGrpcCodec(_SingleCodec):
    """``Classify``: label and score for each class, in the order of the signature.

    A classifier without probabilities gives its label alone, with the score 1.
    """

    way, kind = CLASSIFY, "Classification"


class RegressGrpcCodec(_SingleCodec):
    """``Regress``: one number for each example."""

    way, kind = REGRESS, "Regression"


class MultiInferenceGrpcCodec(_Codec):
    """``MultiInference``: an answer for each task, all from one run of the model."""

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """One ``MultiInferenceRequest``.

        Raises:
            RequestMalformed: no such message, or the model does not answer in a way that is asked for.
            RequestInvalid: tasks of several models, twice the same task, or features that do not fit.
            RequestTooLarge: more examples than allowed, or a context too large for as many.
        """
        asked = parsed("MultiInferenceRequest", body)
        problems = Problems()
        wish: list[tuple[str, str]] = []
        model = parts_of(asked.tasks[0].model_spec) if asked.tasks else {}
        if not asked.tasks:
            problems.note("tasks", "at least one task", "none")
        for index, task in enumerate(asked.tasks):
            if problems.full:
                break
            place, name = f"tasks[{index}].", task.model_spec.signature_name
            if parts_of(task.model_spec) != model:
                problems.note(f"{place}model_spec", "the model and version of the first task", "another one")
            if name in {known for _, known in wish}:
                problems.note(
                    f"{place}model_spec.signature_name", "each signature once", "one for the second time"
                )
            if task.method_name in self._ways:
                self._check(task.method_name, name, place, problems)
            else:
                problems.note(f"{place}method_name", f'"{CLASSIFY}" or "{REGRESS}"', shown(task.method_name))
            wish.append((task.method_name, name))
        if problems:
            raise RequestInvalid(problems)
        arrays, rows = self._examples.read(asked.input)
        return Request(arrays, rows, request_id, wish=tuple(wish))

    def encode(self, response: Response) -> bytes:
        """One ``MultiInferenceResponse``.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        answer = messages()[f"{PACKAGE}.MultiInferenceResponse"]()
        for called, name in response.wish:
            told = answer.results.add()
            _name(told.model_spec, response, name)
            result = told.classification_result if called == CLASSIFY else told.regression_result
            result.SetInParent()
            self._fill(called, result, response)
        data: bytes = answer.SerializeToString()
        return data


def task_model_of(body: Body) -> dict[str, str]:
    """The parts ``name``, ``version`` and ``label`` of the model that a ``MultiInferenceRequest`` asks.

    Raises:
        RequestMalformed: no such message.
    """
    tasks = parsed("MultiInferenceRequest", body).tasks
    return parts_of(tasks[0].model_spec) if tasks else {"name": "", "version": "", "label": ""}


def _name(spec: Any, response: Response, signature: str) -> None:
    """Write which model answered, and as what it was asked."""
    spec.name = response.model
    spec.version.value = response.version
    spec.signature_name = signature or DEFAULT
