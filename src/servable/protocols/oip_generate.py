"""Texts in, texts out: the generate extension of the Open Inference Protocol, whole or as an event.

::

    {"id", "text_input": text, "parameters": {...}}
    {"id", "model_name", "model_version", "text_output": text}

It is there for a model with a single input, of texts, and a single output of texts.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.signature import Signature
from servable.errors import RequestMalformed, ServableError
from servable.protocols.base import NO_HEAD, CodecLimits, Encoded, Head
from servable.protocols.datatypes import BYTES
from servable.protocols.face import Face
from servable.protocols.native_array import refuse
from servable.protocols.native_schema import shown
from servable.protocols.oip_answers import JSON, error_body
from servable.protocols.oip_envelope import read_slowly
from servable.protocols.oip_parameters import terms_of
from servable.tensors import Body, Request, Response

#: The content type of a stream of events.
EVENTS = "text/event-stream; charset=utf-8"
_encode = msgspec.json.Encoder().encode


class Wish(NamedTuple):
    """What a caller asks of the form of the answer.

    Attributes:
        id: of the caller's own; None for none.
        several: whether the texts came as a list.
    """

    id: str | None = None
    several: bool = False


class GenerateCodec:
    """The generate extension for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: what is refused.
    """

    media_type = JSON

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._face = face = Face(signature, limits)
        self._limits = limits
        texts = [tensor.name for tensor in face.outputs if tensor.datatype == BYTES]
        fits = len(face.inputs) == 1 and face.inputs[0].datatype == BYTES and len(texts) == 1
        self._input = face.inputs[0]
        self._output = texts[0] if fits else None

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not JSON, or the model does not turn one text into one text.
            RequestInvalid: the values do not fit; the problems are named.
            RequestTooLarge: more texts than allowed.
        """
        if self._output is None:
            raise RequestMalformed(
                "This model does not turn one text into one text; ask it with /infer in place of /generate."
            )
        content = read_slowly(bytes(body), self._limits.max_depth)
        own, texts = content.get("id"), content.get("text_input")
        parameters = content.get("parameters") or {}
        if own is not None and not isinstance(own, str):
            raise refuse("id", "a text", shown(own))
        if not isinstance(parameters, dict):
            raise refuse("parameters", "an object", shown(parameters))
        several = isinstance(texts, list)
        rows: list[Any] = content["text_input"] if several else [texts]
        for index, text in enumerate(rows):
            if not isinstance(text, str):
                raise refuse(f"text_input[{index}]" if several else "text_input", "a text", shown(text))
        # Each text is a row, and its other sizes are 1 as far as the model has any.
        array: Any = np.empty((len(rows), *(1 for _ in self._input.shape[1:])), object)
        array.reshape(-1)[:] = rows
        arrays, count = self._face.request({self._input.name: array})
        return Request(arrays, count, request_id, False, Wish(own, several), terms_of(parameters))

    def _answer(self, response: Response) -> bytes:
        wish: Wish = response.wish or Wish()
        answers = self._face.answers(response)
        array = answers.get(self._output or "")
        if array is None:
            raise ValueError("the model gave no text")
        texts = [_text(value) for value in array.reshape(-1).tolist()]
        content: dict[str, Any] = {} if wish.id is None else {"id": wish.id}
        content["model_name"] = response.model
        content["model_version"] = str(response.version)
        content["text_output"] = texts if wish.several or len(texts) != 1 else texts[0]
        return _encode(content)

    def encode(self, response: Response) -> bytes | Encoded:
        """A Response to bytes.

        Raises:
            IndexError: a class index that the signature does not have.
            ValueError: the model gave no text.
        """
        return self._answer(response)

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """See ``oip_answers.error_body``."""
        return error_body(error, request_id)


class StreamCodec(GenerateCodec):
    """The same as server-sent events: one for the whole answer of a model that gives it at once.

    Errors before the first event are answered as JSON with a status of their own.
    """

    media_type = EVENTS

    def encode(self, response: Response) -> bytes | Encoded:
        """A Response to one event; raises as ``GenerateCodec.encode``."""
        return event(self._answer(response))

    def writer(self, request: Request, model: str, version: int) -> "EventWriter":
        """One event for each piece; see ``base.PieceCodec``."""
        return EventWriter(self, request.id)


class EventWriter:
    """Implements ``base.Writer``: an event for each piece of the text, and an error as the last of them.

    Args:
        codec: writes the pieces.
        request_id: of the request.
    """

    media_type: str = EVENTS
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, codec: StreamCodec, request_id: str) -> None:
        self._codec = codec
        self._request_id = request_id

    def piece(self, response: Response) -> bytes:
        """One event; raises as ``StreamCodec.encode``."""
        return bytes(self._codec.encode(response))  # type: ignore[arg-type]  # It is no Encoded here.

    def end(self) -> bytes:
        """The stream just ends."""
        return b""

    def fail(self, error: ServableError) -> bytes:
        """An event with the error."""
        return event(self._codec.encode_error(error, self._request_id))


def event(content: bytes) -> bytes:
    """One JSON text as a server-sent event; a stream is these, one after the other."""
    return b"data: %b\n\n" % content


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
