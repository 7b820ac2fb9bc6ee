"""The native answer in pieces: an event or a JSON line for each.

::

    data: {"prediction": "the next part"}

    event: end
    data: {"model", "version", "request_id", "rows"}

As JSON lines, the same objects without ``data:``, and no last one. What goes wrong after the first piece is
the last of them: ``event: error`` with ``{"error": {...}}``, or a line with that object.
"""

from servable.artifact.signature import Signature
from servable.errors import ServableError
from servable.protocols.answer_forms import EVENTS, Form, end_event, event_of, headers_of, line_of
from servable.protocols.base import NO_HEAD, Codec, Encoded, Head
from servable.protocols.native import NativeAnswer, error_body
from servable.tensors import Body, Request, Response


class NativePieces:
    """Reads a body as another codec does, and is answered in pieces. Immutable and safe to share.

    Args:
        reader: of the body.
        signature: what the model gives.
        form: events or lines.
    """

    def __init__(self, reader: Codec, signature: Signature, form: Form) -> None:
        self._reader = reader
        self._answer = NativeAnswer(signature)
        self._form = form
        self.media_type = form.media_type

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """As the reader."""
        return self._reader.decode(body, request_id, head)

    def encode(self, response: Response) -> bytes | Encoded:
        """A whole answer at once."""
        writer = NativeWriter(self._answer, self._form, response.id, response.model, response.version)
        return writer.piece(response) + writer.end()

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As the native format."""
        return error_body(error, request_id)

    def writer(self, request: Request, model: str, version: int) -> "NativeWriter":
        """See ``base.PieceCodec``."""
        return NativeWriter(self._answer, self._form, request.id, model, version)


class NativeWriter:
    """Implements ``base.Writer``.

    Args:
        answer: makes rows of arrays.
        form: events or lines.
        request_id: of the request.
        model: that answers.
        version: of it.
    """

    def __init__(self, answer: NativeAnswer, form: Form, request_id: str, model: str, version: int) -> None:
        self._answer = answer
        self._events = form.name == EVENTS
        self._of = (model, version, request_id)
        self._rows = 0
        self.media_type = form.media_type
        self.headers = headers_of(model, version)

    def piece(self, response: Response) -> bytes:
        """An event or a line for each row; raises as ``NativeAnswer.rows``."""
        write = event_of if self._events else line_of
        self._rows = max(self._rows, response.rows)
        return b"".join([write(row) for row in self._answer.rows(response.arrays)])

    def end(self) -> bytes:
        """The last of the events; lines just end."""
        return end_event(*self._of, self._rows) if self._events else b""

    def fail(self, error: ServableError) -> bytes:
        """The error in the place of the end."""
        body = error_body(error, self._of[2])
        return b"event: error\ndata: " + body + b"\n\n" if self._events else body + b"\n"
