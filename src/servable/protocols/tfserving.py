"""The REST bodies of TensorFlow Serving, which KServe's first protocol and Vertex AI share.

::

    {"instances": [row, ...]}           ->  {"predictions": [...]}
    {"inputs": tensor | {name: tensor}} ->  {"outputs": tensor | {name: tensor}}
    {"examples": [{...}], "context"?}   ->  {"results": [[[label, score], ...], ...]} or [number, ...]

``signature_name`` chooses what is answered: ``serving_default`` the prediction (a classifier's label),
``predict_proba`` a classifier's probabilities. Each is one named output and so stands bare; a model with
several outputs of its own answers with objects. What else stands in a body is the caller's own and is not
looked at, as these servers do.
"""

from typing import Any, NamedTuple

import msgspec

from servable.artifact.signature import Signature
from servable.errors import RequestInvalid, RequestMalformed, RequestTooLarge, ServableError
from servable.protocols.answers import answer_values, label_key
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.json_values import undisturbed
from servable.protocols.native import most_cells
from servable.protocols.native_compiled import list_type
from servable.protocols.native_depth import more_commas_than
from servable.protocols.native_large import LARGE_BYTES
from servable.protocols.native_schema import Problems, shown
from servable.protocols.tfserving_large import LargeBodies
from servable.protocols.tfserving_values import Values, as_base64, combined, plain_bytes
from servable.tensors import PREDICTION, PROBABILITIES, Body, Request, Response

#: The signature that is meant when none is named, and the one that answers with probabilities.
DEFAULT, CHANCES = "serving_default", "predict_proba"
#: What saved models call the same thing, by what is asked for.
PREDICT_NAMES = frozenset({"", DEFAULT, "predict"})
CLASSIFY_NAMES = frozenset({"", DEFAULT, "classification", "classify"})
REGRESS_NAMES = frozenset({"", DEFAULT, "regression", "regress"})
#: What is said when a model does not answer in the form that was asked for.
NO_CLASSIFIER = "This model is no classifier; ask it to predict."
NO_NUMBER = "This model gives no single number; ask it to predict or to classify."
#: Commas beyond those of a full request that are still looked at, so that small mistakes get their own words.
_SPARE_COMMAS = 1_000
_MEDIA_TYPE = "application/json"
_encode = msgspec.json.Encoder().encode


class _Wish(NamedTuple):
    """The form of an answer.

    Attributes:
        columns: whether tensors by name are wanted, and not a list of rows.
        chances: whether probabilities are wanted, and not labels.
    """

    columns: bool = False
    chances: bool = False


_ROWS, _COLUMNS, _CHANCES = _Wish(), _Wish(columns=True), _Wish(chances=True)


class _Reader:
    """What the codecs of this format have in common."""

    media_type = _MEDIA_TYPE
    wanted: str

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self.signature = signature
        self._max_rows = limits.max_rows
        self._values = Values(signature, limits, self.wanted)
        cells = most_cells(signature)
        self._most_commas = None if cells is None else limits.max_rows * cells + _SPARE_COMMAS

    def _plain(self, body: Body) -> bytes:
        """The body as bytes, unless it holds more values than can be right."""
        plain = plain_bytes(body)
        most = self._most_commas
        if most is not None and len(plain) >= LARGE_BYTES and more_commas_than(plain, most):
            raise RequestTooLarge(
                f"The body holds more values than the {self._max_rows} rows that are allowed; "
                "send them in several requests."
            )
        return plain

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """An error in this format's shape; see ``error_body``."""
        return error_body(error, request_id)


class PredictCodec(_Reader):
    """``:predict`` for one signature. Immutable and safe to share."""

    wanted = 'send {"instances": [row, ...]} or {"inputs": {name: [value, ...]}}'

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature, limits)
        self._labels = signature.classes
        rows = self._values.rows
        self._rows = rows
        self._decode_typed = None if rows.types is None else _typed_decoder(rows.types[1])
        self._large = LargeBodies(signature)
        self._names = PREDICT_NAMES | ({CHANCES} if signature.probabilities else frozenset())

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not JSON, nested too deeply, or not an object.
            RequestInvalid: the values do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        plain = self._plain(body)
        large = self._large.rows(plain)
        if large is not None:
            (arrays, count, _), columns = large
            self._rows.check_count(count)
            return Request(arrays, count, request_id, wish=_COLUMNS if columns else _ROWS)
        return self._decode_quickly(plain, request_id) or self._decode_slowly(plain, request_id)

    def _decode_quickly(self, body: bytes, request_id: str) -> Request | None:
        """Rows in the good case; None when anything at all is unusual."""
        if self._decode_typed is None:
            return None
        try:
            content = undisturbed(self._decode_typed, body)
            rows, name = content.instances, content.signature_name
            if not rows or content.inputs is not msgspec.UNSET or name not in self._names:
                return None
            self._rows.check_count(len(rows))
            arrays = self._rows.pack(rows)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            return None
        return Request(arrays, len(rows), request_id, wish=_CHANCES if name == CHANCES else _ROWS)

    def _decode_slowly(self, body: bytes, request_id: str) -> Request:
        read = [self._read(content) for content in self._values.objects(body)]
        (_, count, wish), *_ = read
        return Request(combined([arrays for arrays, _, _ in read]), count, request_id, wish=wish)

    def _read(self, content: dict[str, Any]) -> tuple[dict[str, Any], int, _Wish]:
        problems = Problems()
        chances = _signature_name(content, self._names, problems) == CHANCES
        if "instances" in content and "inputs" in content:
            problems.note("instances", 'either "instances" (rows) or "inputs" (tensors by name)', "both")
        elif "instances" in content:
            arrays, count = self._values.read_rows(content["instances"], "instances", problems)
            return arrays, count, _Wish(False, chances)
        elif "inputs" in content:
            arrays, count = self._values.read_columns(content["inputs"], "inputs", problems)
            return arrays, count, _Wish(True, chances)
        else:
            hints = [problems.hint(key, ("instances", "inputs")) for key in list(content)[:3]]
            hint = next(filter(None, hints), "")
            problems.note("instances", f'"instances" (rows) or "inputs" (tensors by name){hint}', "neither")
        raise RequestInvalid(problems)

    def encode(self, response: Response) -> bytes:
        """A Response to bytes, in the form that was asked in; NaN and infinity become null.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        wish: _Wish = response.wish or _ROWS
        arrays = response.arrays
        if self._labels:
            wanted = PROBABILITIES if wish.chances else PREDICTION
            arrays = {wanted: arrays[wanted]}
        columns = {name: self._values_of(name, array) for name, array in arrays.items()}
        bare = next(iter(columns.values())) if len(columns) == 1 else None
        if wish.columns:
            return _encode({"outputs": columns if bare is None else bare})
        if bare is None:
            bare = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return _encode({"predictions": bare})

    def _values_of(self, name: str, array: Any) -> list[Any]:
        values = answer_values({name: array}, self._labels)
        return [as_base64(value) for value in values] if name.endswith("_bytes") else values


class _ExamplesCodec(_Reader):
    """``:classify`` and ``:regress``: examples by feature, over a context that all of them share."""

    wanted = 'send {"examples": [{column: value}, ...]}'
    names: frozenset[str]
    fits: bool
    refusal: str

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not JSON, nested too deeply, not an object, or the model does not do this.
            RequestInvalid: the values do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        read = [self._read(content) for content in self._values.objects(self._plain(body))]
        if not self.fits:
            raise RequestMalformed(self.refusal)
        (_, count), *_ = read
        return Request(combined([arrays for arrays, _ in read]), count, request_id)

    def _read(self, content: dict[str, Any]) -> tuple[dict[str, Any], int]:
        problems = Problems()
        _signature_name(content, self.names, problems)
        context, examples = content.get("context", {}), content.get("examples")
        if not isinstance(context, dict):
            problems.note("context", "an object by column name", shown(context))
        elif context and isinstance(examples, list):
            examples = [{**context, **each} if isinstance(each, dict) else each for each in examples]
        return self._values.read_rows(examples, "examples", problems)


class ClassifyCodec(_ExamplesCodec):
    """``:classify`` for one signature: ``[label, score]`` for each class, in the order of the signature.

    A classifier without probabilities gives its label alone, with the score 1.
    """

    names = CLASSIFY_NAMES
    refusal = NO_CLASSIFIER

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature, limits)
        self._labels = tuple(label_key(label) for label in signature.classes)
        self.fits = bool(self._labels)

    def encode(self, response: Response) -> bytes:
        """A Response to bytes; NaN and infinity become null.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        labels, chances = self._labels, response.arrays.get(PROBABILITIES)
        if chances is None:
            answers = response.arrays[PREDICTION].tolist()
            return _encode({"results": [[(labels[index], 1.0)] for index in answers]})
        return _encode({"results": [list(zip(labels, row, strict=True)) for row in chances.tolist()]})


class RegressCodec(_ExamplesCodec):
    """``:regress`` for one signature: one number for each example."""

    names = REGRESS_NAMES
    refusal = NO_NUMBER

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature, limits)
        self.fits = regresses(signature)

    def encode(self, response: Response) -> bytes:
        """A Response to bytes; NaN and infinity become null."""
        return _encode({"results": next(iter(response.arrays.values())).reshape(response.rows).tolist()})


def regresses(signature: Signature) -> bool:
    """Whether a model answers with a single number, as ``:regress`` does."""
    answer = signature.answer
    single = all(size == 1 for size in answer.shape) and len(signature.outputs) == 1
    number = answer.dtype not in ("str", "bool", "datetime")
    return signature.task in ("regression", "transform") and single and number


def error_body(error: ServableError, _request_id: str) -> bytes:
    """``{"error": message}``, which is all that these formats have."""
    return _encode({"error": error.message})


def _signature_name(content: dict[str, Any], known: frozenset[str], problems: Problems) -> str:
    name = content.get("signature_name")
    if name is None:
        return ""
    if not isinstance(name, str) or name not in known:
        listed = " or ".join(f'"{each}"' for each in (DEFAULT, CHANCES) if each in known)
        problems.note("signature_name", listed, shown(name))
        return ""
    return name


def _typed_decoder(row: Any) -> Any:
    """The compiled decoder of a body whose rows are of this type; keys besides these are skipped."""
    body = msgspec.defstruct(
        "Body",
        [
            ("instances", list_type(row)),
            ("inputs", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET),
            ("signature_name", str, ""),
        ],
        kw_only=True,
        gc=False,
    )
    return msgspec.json.Decoder(body).decode
