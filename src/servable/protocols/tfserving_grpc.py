"""TensorFlow Serving over gRPC: requests and answers of ``Predict``.

``signature_name`` chooses what is answered, as over REST: ``serving_default`` the prediction,
``predict_proba`` a classifier's probabilities; ``output_filter`` names single outputs. Answers hold their
values in the fields of their types, as those of TensorFlow Serving do, because clients read them there.
"""

from typing import Any, NamedTuple

import numpy as np

from servable.artifact.signature import Signature
from servable.errors import RequestInvalid, RequestMalformed, RequestTooLarge, ServableError
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.datatypes import BF16, BYTES, PLAIN, datatype_of, from_raw, size_of
from servable.protocols.face import Face
from servable.protocols.native_schema import Problems, shown
from servable.protocols.tfserving import CHANCES, DEFAULT, PREDICT_NAMES
from servable.protocols.tfserving_messages import PACKAGE, messages
from servable.tensors import PROBABILITIES, Body, Request, Response

#: What stands behind the numbers of TensorFlow's dtypes: a datatype, and the field of its values.
_KINDS = {
    1: ("FP32", "float_val"),
    2: ("FP64", "double_val"),
    3: ("INT32", "int_val"),
    4: ("UINT8", "int_val"),
    5: ("INT16", "int_val"),
    6: ("INT8", "int_val"),
    7: (BYTES, "string_val"),
    9: ("INT64", "int64_val"),
    10: ("BOOL", "bool_val"),
    14: (BF16, "half_val"),
    17: ("UINT16", "int_val"),
    19: ("FP16", "half_val"),
    22: ("UINT32", "uint32_val"),
    23: ("UINT64", "uint64_val"),
}
_NUMBERS = {datatype: number for number, (datatype, _) in _KINDS.items()}
#: Bytes of one element of which memory knows nothing better.
_POINTER = 8


class _Wish(NamedTuple):
    """What a caller asks of the answer.

    Attributes:
        signature: whose outputs are meant.
        outputs: names of those that are wanted; empty for all of the signature.
    """

    signature: str = DEFAULT
    outputs: tuple[str, ...] = ()


class PredictGrpcCodec:
    """``Predict`` for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: most rows, and most bytes of a tensor that is sent shorter than it is.
    """

    media_type = "application/grpc"

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._face = Face(signature, limits)
        self._most_bytes = limits.max_bytes
        self._names = PREDICT_NAMES | ({CHANCES} if signature.probabilities else frozenset())
        outputs = [tensor.name for tensor in self._face.outputs]
        chances = [name for name in outputs if signature.classes and name == PROBABILITIES]
        self._outputs = frozenset(outputs)
        self._of = {DEFAULT: tuple(name for name in outputs if name not in chances), CHANCES: tuple(chances)}

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """One ``PredictRequest``.

        Raises:
            RequestMalformed: no such message, or its tensors are not what they claim to be.
            RequestInvalid: the values do not fit the signature, or it has no output that is asked for.
            RequestTooLarge: more rows than allowed, or a tensor of more bytes.
        """
        asked = parsed("PredictRequest", body)
        wish = self._wish(asked)
        tensors = {name: self._array(name, tensor) for name, tensor in asked.inputs.items()}
        arrays, rows = self._face.request(tensors)
        return Request(arrays, rows, request_id, False, wish)

    def _wish(self, asked: Any) -> _Wish:
        problems = Problems()
        name = asked.model_spec.signature_name
        if name not in self._names:
            listed = " or ".join(f'"{each}"' for each in (DEFAULT, CHANCES) if each in self._names)
            problems.note("model_spec.signature_name", listed, shown(name))
        for index, output in enumerate(asked.output_filter):
            if output not in self._outputs:
                listed = ", ".join(sorted(self._outputs))
                problems.note(f"output_filter[{index}]", f"one of {listed}", shown(output))
        if problems:
            raise RequestInvalid(problems)
        return _Wish(CHANCES if name == CHANCES else DEFAULT, tuple(dict.fromkeys(asked.output_filter)))

    def _array(self, name: str, tensor: Any) -> Any:
        """A tensor that was sent; its last value stands for those behind it that were not."""
        known = _KINDS.get(tensor.dtype)
        if known is None:
            raise RequestMalformed(
                f"The input {name} is of no dtype that is read here; send one of numbers or texts."
            )
        datatype, place = known
        shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
        count = size_of(shape, name)
        if tensor.tensor_content and datatype != BYTES:
            return from_raw(datatype, shape, tensor.tensor_content, name)
        values = getattr(tensor, place)
        if len(values) > count:
            raise RequestMalformed(
                f"The input {name} holds {len(values)} values in {place}; its shape has {count}."
            )
        if count * _size_of(datatype) > self._most_bytes:
            raise RequestTooLarge(
                f"The input {name} unfolds to more than the {self._most_bytes} bytes that are allowed; "
                "send fewer rows at once."
            )
        given = _given(name, datatype, values)
        if len(given) < count:
            nothing: Any = b"" if datatype == BYTES else 0
            filled: Any = np.full(count, given[-1] if len(given) else nothing, given.dtype)
            filled[: len(given)] = given
            given = filled
        return given.reshape(shape)

    def encode(self, response: Response) -> bytes:
        """One ``PredictResponse``."""
        wish: _Wish = response.wish or _Wish()
        answers = self._face.answers(response)
        answer = messages()[f"{PACKAGE}.PredictResponse"]()
        answer.model_spec.name = response.model
        answer.model_spec.version.value = response.version
        answer.model_spec.signature_name = wish.signature
        for name in wish.outputs or self._of[wish.signature]:
            _fill(answer.outputs[name], answers[name])
        data: bytes = answer.SerializeToString()
        return data

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """The message alone: over gRPC errors travel in trailers."""
        return error.message.encode()


def model_of(body: Body, name: str = "PredictRequest") -> dict[str, str]:
    """The parts ``name``, ``version`` and ``label`` of the model that a message asks.

    Args:
        body: the message.
        name: of its kind, which has a ``model_spec``.

    Raises:
        RequestMalformed: no such message.
    """
    return parts_of(parsed(name, body).model_spec)


def parts_of(spec: Any) -> dict[str, str]:
    """The same of a ``ModelSpec``; version 0 is the one that is served, as OpenVINO's clients mean it."""
    version = spec.version.value if spec.HasField("version") else 0
    return {"name": spec.name, "version": str(version) if version else "", "label": spec.version_label}


def parsed(name: str, body: Body) -> Any:
    """A message of a kind from its bytes.

    Raises:
        RequestMalformed: no such message.
    """
    # Whatever the library raises here is about the bytes.
    try:
        return messages()[f"{PACKAGE}.{name}"].FromString(bytes(body))
    except Exception as error:  # Protobuf has an error class for each of its implementations.
        raise RequestMalformed(
            f"The message is no {name}; check which service definition was used."
        ) from error


def _size_of(datatype: str) -> int:
    return PLAIN[datatype].itemsize if datatype in PLAIN else _POINTER


def _given(name: str, datatype: str, values: Any) -> Any:
    """The values of a field as a flat array."""
    if datatype == BYTES:
        texts = np.empty(len(values), object)
        texts[:] = list(values)
        return texts
    wire = np.dtype("<u2") if datatype in (BF16, "FP16") else PLAIN[datatype]
    try:
        array: Any = np.array(list(values), wire)
    except OverflowError:
        raise RequestMalformed(f"The input {name} holds numbers beyond its dtype.") from None
    if datatype == BF16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.view(PLAIN[datatype])


def _fill(tensor: Any, array: Any) -> None:
    """Write an answer into a ``TensorProto``."""
    datatype = datatype_of(array.dtype)
    tensor.dtype = number = _NUMBERS[datatype]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    values = array.view(np.uint16).ravel().tolist() if datatype == "FP16" else array.ravel().tolist()
    if datatype == BYTES:
        values = [each if isinstance(each, bytes) else str(each).encode() for each in values]
    getattr(tensor, _KINDS[number][1]).extend(values)
