"""The forms of an answer on the native addresses, chosen by the header Accept.

Any form of a body goes with any form of an answer: a codec reads the body, and ``FormedCodec`` around it
notes in ``Request.wish`` which form was asked for, and writes it. Forms without a place for them name
the model and the version in headers.
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.signature import Signature
from servable.errors import DependencyMissing, NotAcceptable, ServableError
from servable.protocols.accept import preferred
from servable.protocols.base import NO_HEAD, Codec, CodecLimits, Encoded, Head, Heavy
from servable.protocols.columns import answer_columns, arrow_ready, need_arrow
from servable.protocols.native import NativeAnswer
from servable.tensors import PREDICTION, Body, Request, Response

JSON = "application/json"
LINES = "application/x-ndjson"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
NPY = "application/x-npy"
MSGPACK = "application/msgpack"
EVENTS = "text/event-stream"
#: Every form, the one for callers without a wish first.
FORMS: tuple[str, ...] = (JSON, LINES, CSV, ARROW, PARQUET, NPY, MSGPACK, EVENTS)
#: Other names of content types, and the ones that are used here.
ALIASES: dict[str, str] = {
    "text/json": JSON,
    "application/ndjson": LINES,
    "application/jsonl": LINES,
    "application/x-jsonlines": LINES,
    "application/jsonlines": LINES,
    "application/csv": CSV,
    "application/x-parquet": PARQUET,
    "application/parquet": PARQUET,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
}
#: The header Accept of callers that have no wish, as nearly all of them say it.
NO_WISH: frozenset[bytes | None] = frozenset(
    {None, b"", b"*/*", b"application/json", b"application/json, */*"}
)
_OFFERED = (*FORMS, *ALIASES)
_LINES_FIRST = (LINES, *(name for name in _OFFERED if name != LINES))
#: What names the forms that pyarrow writes, in a header Accept.
_COLUMNAR = (b"csv", b"arrow", b"parquet", b"*")
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class Form(NamedTuple):
    """A form that was asked for.

    Attributes:
        name: one of ``FORMS``.
        media_type: as the caller calls it.
    """

    name: str
    media_type: str


@lru_cache(maxsize=512)
def asked_form(accept: bytes | None, lines: bool = False) -> Form:
    """The form of an answer that a caller likes best.

    Args:
        accept: the header Accept; None when there is none.
        lines: whether the body is JSON lines, which are answered line by line where nothing else is said.

    Raises:
        NotAcceptable: it takes none of them.
    """
    header = "" if accept is None else accept.decode("latin-1")
    found = preferred(header, _LINES_FIRST if lines else _OFFERED)
    if found is None:
        raise NotAcceptable(f"The header Accept takes none of {', '.join(FORMS)}; name one of them.")
    return Form(ALIASES.get(found, found), found)


class FormedCodec(Heavy):
    """Reads as another codec does and answers in the form that was asked for. Immutable and safe to share.

    Args:
        reader: reads the body; its own answers are JSON.
        signature: what the model gives.
        lines: whether the body is JSON lines.
    """

    media_type = JSON

    def __init__(self, reader: Codec, signature: Signature, *, lines: bool = False) -> None:
        self._reader = reader
        self._lines = lines
        self._answer = NativeAnswer(signature)
        tensors = signature.task == "transform"
        self._one_array = not tensors or len(signature.outputs) == 1

    def heavy(self, body: Body, head: Head) -> bool:
        """As the reader says, or when the answer wants a library that nothing wanted yet."""
        if isinstance(self._reader, Heavy) and self._reader.heavy(body, head):
            return True
        return not arrow_ready() and any(name in head.get(b"accept", b"") for name in _COLUMNAR)

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request, with the form in ``wish``.

        Raises:
            NotAcceptable: the caller takes no form in which this model's answers can be given.
            InputError: as the reader raises it.
        """
        form = asked_form(head.get(b"accept"), self._lines)
        if form.name in (CSV, ARROW, PARQUET):
            try:
                need_arrow()
            except DependencyMissing as missing:
                raise NotAcceptable(missing.message) from missing
        if form.name == NPY and not self._one_array:
            raise NotAcceptable(
                "This model answers with several arrays and a .npy file holds one; accept another form, "
                f"such as {ARROW}."
            )
        request = self._reader.decode(body, request_id, head)
        return msgspec.structs.replace(request, wish=form)

    def encode(self, response: Response) -> Encoded:
        """A Response in the form of its wish.

        Raises:
            IndexError: a class index that the signature does not have.
            ValueError: values that the form cannot hold.
        """
        form = response.wish or Form(JSON, JSON)
        body = _WRITERS[form.name](self._answer, response)
        return Encoded(body, form.media_type, headers_of(response.model, response.version))

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As the native format."""
        return self._answer.encode_error(error, request_id)


class Formed(msgspec.Struct, frozen=True):
    """Makes the ``FormedCodec`` around a codec; see ``base.Maker``."""

    reader: Codec
    lines: bool = False

    def __call__(self, signature: Signature, _limits: CodecLimits) -> FormedCodec:
        """The codec for a signature."""
        return FormedCodec(self.reader, signature, lines=self.lines)


def headers_of(model: str, version: int) -> tuple[tuple[bytes, bytes], ...]:
    """Who answered, for forms that hold nothing but the answers."""
    return ((b"x-model-name", model.encode()), (b"x-model-version", b"%d" % version))


def line_of(row: dict[str, Any]) -> bytes:
    """One answer as a JSON line."""
    return _encode(row) + b"\n"


def event_of(row: dict[str, Any]) -> bytes:
    """One answer as a server-sent event."""
    return b"data: " + _encode(row) + b"\n\n"


def end_event(model: str, version: int, request_id: str, rows: int) -> bytes:
    """The last of the events: who answered, and how many rows."""
    content = {"model": model, "version": version, "request_id": request_id, "rows": rows}
    return b"event: end\ndata: " + _encode(content) + b"\n\n"


def _write_json(answer: NativeAnswer, response: Response) -> bytes:
    return answer.encode(response)


def _write_lines(answer: NativeAnswer, response: Response) -> bytes:
    return b"".join([line_of(row) for row in answer.rows(response.arrays)])


def _write_events(answer: NativeAnswer, response: Response) -> bytes:
    events = [event_of(row) for row in answer.rows(response.arrays)]
    end = end_event(response.model, response.version, response.id, response.rows)
    return b"".join([*events, end])


def _write_msgpack(answer: NativeAnswer, response: Response) -> bytes:
    return _pack(answer.content(response))


def _write_csv(answer: NativeAnswer, response: Response) -> bytes:
    """With a first line of names; a number that is not finite is an empty field."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    batch = answer_columns(answer.signature, response.arrays, flat=True)
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        columns[name] = column
    sink = pa.BufferOutputStream()
    csv.write_csv(pa.RecordBatch.from_pydict(columns), sink, csv.WriteOptions(quoting_style="needed"))
    return bytes(sink.getvalue())


def _write_arrow(answer: NativeAnswer, response: Response) -> bytes:
    import pyarrow as pa

    batch = answer_columns(answer.signature, response.arrays)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _write_parquet(answer: NativeAnswer, response: Response) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    batch = answer_columns(answer.signature, response.arrays)
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_batches([batch]), sink)
    return bytes(sink.getvalue())


def _write_npy(answer: NativeAnswer, response: Response) -> bytes:
    """The predictions as one array: labels for a classifier."""
    arrays = response.arrays
    array = arrays[PREDICTION] if PREDICTION in arrays else next(iter(arrays.values()))
    labels = answer.signature.classes
    if PREDICTION in arrays and labels:
        array = _label_array(labels)[array]
    if array.dtype.kind == "O":
        array = np.array(array.tolist(), np.str_)
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _label_array(labels: Sequence[Any]) -> Any:
    """The labels in their own type; as texts where their types differ."""
    kinds = {type(label) for label in labels}
    if len(kinds) > 1:
        return np.array([str(label) for label in labels], np.str_)
    if kinds == {int} and not all(abs(label) < math.ldexp(1, 63) for label in labels):
        return np.array([float(label) for label in labels])
    return np.array(labels)


_WRITERS: dict[str, Callable[[NativeAnswer, Response], bytes]] = {
    JSON: _write_json,
    LINES: _write_lines,
    CSV: _write_csv,
    ARROW: _write_arrow,
    PARQUET: _write_parquet,
    NPY: _write_npy,
    MSGPACK: _write_msgpack,
    EVENTS: _write_events,
}
