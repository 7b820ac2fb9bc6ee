"""The Open Inference Protocol over gRPC: requests and answers of ``ModelInfer``.

A caller sends the same message again and again with other numbers in it. So a message is cut in two: the raw
tensors and the id, which differ, are found by walking over its fields and looked at where they lie; the
rest, names and shapes, is given to the library and remembered. The answer is put together the same way.
Where a model takes one array, what was found out about a head is remembered too, so that the next message
with the same one needs no more than a look at its numbers. Answers hold raw tensors always, because
clients read nothing else.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs

from servable.artifact.signature import Signature
from servable.errors import RequestMalformed, ServableError
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.datatypes import BYTES, DATATYPES, PLAIN, datatype_of, from_raw, size_of, to_raw
from servable.protocols.face import Face
from servable.protocols.native_array import WholeArray
from servable.protocols.oip_answers import best_of
from servable.protocols.oip_grpc_wire import (
    NAME,
    OUT_ID,
    RAW_IN,
    RAW_OUT,
    VERSION,
    cut,
    field,
    leading,
    malformed,
)
from servable.protocols.oip_messages import messages
from servable.protocols.oip_parameters import Chosen, chosen, no_shared_memory, terms_of
from servable.tensors import Body, Request, Response, Terms

#: Longer heads hold tensors and are not remembered.
_LONGEST_HEAD = 8192
_MOST_INPUTS = 10_000
#: Heads that a model remembers.
_MOST_HEADS = 256
#: Dtypes of which an array's own bytes are those of the protocol.
_AS_THEY_ARE = frozenset(dtype for dtype in PLAIN.values() if dtype.isnative)
#: The request parameter that asks for a mark on the last answer of a stream, and the mark.
_WANTS_FINAL = "triton_enable_empty_final_response"
_FINAL = b'"\x1b\n\x15triton_final_response\x12\x02\x08\x01'
_TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class Input(NamedTuple):
    """One input of a request, without raw bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    contents: Any


class Asked(NamedTuple):
    """What stands in a request besides its id and its raw tensors.

    Attributes:
        model: its name.
        version: which one; empty for the live one.
        inputs: in order.
        outputs: that are wanted, with their parameters; empty for all.
        parameters: of the request.
    """

    model: str
    version: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, Mapping[str, Any]], ...]
    parameters: Mapping[str, Any]


class Wish(NamedTuple):
    """What a caller asks of the answer.

    Attributes:
        id: that it gave.
        outputs: that it wants; empty for all.
        final: whether it wants the last answer of a stream to be marked.
    """

    id: bytes
    outputs: tuple[Chosen, ...] = ()
    final: bool = False


class _Known(NamedTuple):
    """What a head says of the only array of a request.

    Attributes:
        whole: looks at the values.
        dtype: of the array.
        shape: of the array.
        size: its bytes.
        front: what stands before them in a message that has no id and its tensor last.
        outputs: that are wanted.
        final: as in the wish.
        terms: of the request.
    """

    whole: WholeArray
    dtype: Any
    shape: tuple[int, ...]
    size: int
    front: bytes
    outputs: tuple[Chosen, ...]
    final: bool
    terms: Terms | None


class OipGrpcCodec:
    """Immutable but for what it remembers, and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: more rows are refused.
    """

    media_type = "application/grpc"

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._face = Face(signature, limits)
        self._outputs = {tensor.name: tensor for tensor in self._face.outputs}
        self._whole = WholeArray.of(signature)
        #: Heads of requests for one array that were found good.
        self._known: dict[bytes, _Known] = {}
        #: The one that came last.
        self._last: _Known | None = None

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """One ``ModelInferRequest``.

        Raises:
            RequestMalformed: no such message, or its tensors are not what they claim to be.
            RequestInvalid: the values do not fit the signature.
            RequestTooLarge: more rows than allowed.
        """
        known = self._last
        if known is not None and type(body) is bytes and body.startswith(known.front):
            size = len(known.front)
            if len(body) == size + known.size:
                return self._again(known, body[size:], b"", request_id)
        rest, own_id, raws = cut(body)
        known = self._known.get(rest)
        if known is not None and len(raws) == 1 and len(raws[0]) == known.size:
            self._last = known
            return self._again(known, raws[0], own_id, request_id)
        asked = _asked(rest) if len(rest) <= _LONGEST_HEAD else _asked.__wrapped__(rest)
        arrays, rows = self._face.request(_tensors(asked, raws))
        outputs = tuple(
            chosen(name, parameters, self._outputs, binary=True, place=f"outputs[{index}]")
            for index, (name, parameters) in enumerate(asked.outputs)
        )
        wish = Wish(own_id, outputs, asked.parameters.get(_WANTS_FINAL) is True)
        terms = terms_of(asked.parameters)
        if len(rest) <= _LONGEST_HEAD:
            self._remember(rest, asked, raws, arrays, wish, terms)
        return Request(arrays, rows, request_id, False, wish, terms)

    @staticmethod
    def _again(known: _Known, raw: Body, own_id: bytes, request_id: str) -> Request:
        """A request of which only the numbers and the id are new."""
        array: Any = np.frombuffer(raw, known.dtype).reshape(known.shape)
        # Models read numbers where they belong; in a message they lie anywhere.
        array = known.whole.checked(array if array.flags.aligned else array.copy(), False)
        wish = Wish(own_id, known.outputs, known.final)
        return Request({known.whole.name: array}, known.shape[0], request_id, False, wish, known.terms)

    def _remember(
        self,
        rest: bytes,
        asked: Asked,
        raws: list[Body],
        arrays: dict[str, Any],
        wish: Wish,
        terms: Terms | None,
    ) -> None:
        """What a head says of the only array, when its bytes went to the model as they were."""
        whole = self._whole
        if whole is None or len(raws) != 1 or len(self._known) >= _MOST_HEADS:
            return
        given = asked.inputs[0]
        array = arrays.get(whole.name)
        as_it_was = PLAIN.get(given.datatype) == whole.wire_dtype
        if as_it_was and array is not None and array.shape == given.shape:
            size = len(raws[0])
            front = rest + field(RAW_IN, bytes(size))[: -size or None]
            self._known[rest] = _Known(
                whole, whole.wire_dtype, given.shape, size, front, wish.outputs, wish.final, terms
            )

    def encode(self, response: Response) -> bytes:
        """One ``ModelInferResponse`` with raw tensors."""
        wish: Wish = response.wish or Wish(b"")
        answers = self._face.answers(response)
        if wish.outputs:
            answers = {
                each.name: best_of(answers[each.name], each.classes, self._outputs[each.name].labels)
                if each.classes
                else answers[each.name]
                for each in wish.outputs
            }
        described = tuple([(name, array.dtype, array.shape) for name, array in answers.items()])
        parts = [_described(response.model, response.version, described)]
        if wish.id:
            parts.append(field(OUT_ID, wish.id))
        if wish.final:
            parts.append(_FINAL)
        for array in answers.values():
            raw = array.tobytes() if array.dtype in _AS_THEY_ARE else to_raw(array)
            parts.append(field(RAW_OUT, raw))
        return b"".join(parts)

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """The message alone: over gRPC errors travel in trailers."""
        return error.message.encode()

    def writer(self, request: Request, model: str, version: int) -> "MessageWriter":
        """One message for each piece; see ``base.PieceCodec``."""
        return MessageWriter(self, request, model, version)


class MessageWriter:
    """Implements ``base.Writer``: a ``ModelInferResponse`` for each piece.

    Where the caller asked for it, an empty one with the mark of the last follows.

    Args:
        codec: writes the pieces.
        request: as it was decoded.
        model: that answers.
        version: of it.
    """

    media_type: str = "application/grpc"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, codec: OipGrpcCodec, request: Request, model: str, version: int) -> None:
        self._codec = codec
        self._wish: Wish = request.wish
        self._of = (model, version)

    def piece(self, response: Response) -> bytes:
        """One message; raises as ``OipGrpcCodec.encode``."""
        return self._codec.encode(structs.replace(response, wish=self._wish._replace(final=False)))

    def end(self) -> bytes:
        """The empty message, or nothing."""
        if not self._wish.final:
            return b""
        own_id = field(OUT_ID, self._wish.id) if self._wish.id else b""
        return _described(*self._of, ()) + own_id + _FINAL

    def fail(self, error: ServableError) -> bytes:
        """Errors are messages of the stream around it.

        Raises:
            ServableError: always.
        """
        raise error


def _tensors(asked: Asked, raws: list[Body]) -> dict[str, Any]:
    """The inputs by name.

    Raises:
        RequestMalformed: they are not what they claim to be.
    """
    if raws and len(raws) != len(asked.inputs):
        raise RequestMalformed(
            f"The request has {len(asked.inputs)} inputs and raw contents for {len(raws)} of them; "
            "send all inputs raw or none."
        )
    tensors: dict[str, Any] = {}
    for index, (name, datatype, shape, contents) in enumerate(asked.inputs):
        if raws:
            array = from_raw(datatype, shape, raws[index], name)
            tensors[name] = array if array.flags.aligned else array.copy()
        else:
            tensors[name] = _typed(name, datatype, shape, contents)
    if len(tensors) != len(asked.inputs):
        raise RequestMalformed("Two inputs of the request have the same name.")
    return tensors


def model_of(body: Body) -> tuple[str, str]:
    """The model that a request names and which version of it, each perhaps empty.

    Raises:
        RequestMalformed: no such message.
    """
    rest, _, _ = cut(body)
    asked = _asked(rest) if len(rest) <= _LONGEST_HEAD else _asked.__wrapped__(rest)
    return asked.model, asked.version


@lru_cache(maxsize=1024)
def _asked(rest: bytes) -> Asked:
    """What stands in a request besides its id and its raw tensors.

    Raises:
        RequestMalformed: no such message, or it names two models.
    """
    # Whatever the library raises here is about the bytes.
    try:
        message = messages()["inference.ModelInferRequest"].FromString(rest)
    except Exception as error:  # Protobuf has an error class for each of its implementations.
        raise malformed() from error
    front = leading(rest)
    if front and front != leading(field(NAME, message.model_name.encode()) + (
        field(VERSION, message.model_version.encode()) if message.model_version else b""
    )):  # fmt: skip
        raise RequestMalformed("The request names its model more than once.")
    if len(message.inputs) > _MOST_INPUTS:
        raise RequestMalformed(f"The request has more than {_MOST_INPUTS} inputs.")
    return Asked(
        message.model_name,
        message.model_version,
        tuple(_input(each) for each in message.inputs),
        tuple((each.name, _parameters(each)) for each in message.outputs),
        _parameters(message),
    )


def _input(message: Any) -> Input:
    if "shared_memory_region" in message.parameters:
        raise no_shared_memory(f"The input {message.name}")
    contents = message.contents if message.HasField("contents") else None
    return Input(message.name, message.datatype, tuple(message.shape), contents)


def _parameters(message: Any) -> dict[str, Any]:
    """Parameters by name; one that holds nothing counts as false."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "bool_param")
        for name, value in message.parameters.items()
    }


def _typed(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Any:
    """A tensor whose elements stand in fields of their own."""
    place = _TYPED.get(datatype)
    if place is None:
        if datatype in DATATYPES:
            raise RequestMalformed(f"The input {name} of datatype {datatype} can only be sent raw.")
        raise RequestMalformed(f"The input {name} has no known datatype; use one of {', '.join(DATATYPES)}.")
    values = getattr(contents, place) if contents is not None else ()
    count = size_of(shape, name)
    if len(values) != count:
        raise RequestMalformed(
            f"The input {name} holds {len(values)} elements in {place}; its shape needs {count}."
        )
    if datatype == BYTES:
        array = np.empty(count, object)
        array[:] = list(values)
        return array.reshape(shape)
    try:
        return np.array(values, PLAIN[datatype]).reshape(shape)
    except OverflowError:
        raise RequestMalformed(f"The input {name} holds numbers beyond its datatype {datatype}.") from None


@lru_cache(maxsize=4096)
def _described(model: str, version: int, outputs: tuple[tuple[str, Any, tuple[int, ...]], ...]) -> bytes:
    """An answer without its tensors."""
    message = messages()["inference.ModelInferResponse"](model_name=model, model_version=str(version))
    for name, dtype, shape in outputs:
        message.outputs.add(name=name, datatype=datatype_of(dtype), shape=shape)
    data: bytes = message.SerializeToString()
    return data
