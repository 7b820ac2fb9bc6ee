"""Forms: ``multipart/form-data`` as browsers and curl send it.

The fields of a form are the columns of one row. Or the form holds one file and nothing else; then its own
content type, or the end of its name, decides how the file is read, as if it were the whole body.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from servable.artifact.signature import Field, Signature
from servable.errors import (
    FieldProblem,
    MediaTypeUnsupported,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
)
from servable.protocols.base import HEAVY_BYTES, NO_HEAD, Codec, Head, Heavy
from servable.protocols.native import NativeAnswer
from servable.protocols.native_schema import joined
from servable.protocols.rows import RowReader
from servable.tensors import Body, Request

#: More parts than the columns and these are refused.
_SPARE_PARTS = 16
#: Most headers of one part, and most bytes of them.
_MOST_HEADERS, _MOST_HEADER_BYTES = 8, 4096
#: As RFC 2046 limits it.
_LONGEST_BOUNDARY = 70
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{1,70}")
#: What the end of a file's name says when its content type says nothing.
_ENDINGS = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    "arrows": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "npy": "application/x-npy",
    "msgpack": "application/msgpack",
}
_UNSAID = frozenset({"", "application/octet-stream", "text/plain"})
_TRUTHS = dict.fromkeys(("true", "1", "on", "yes"), True) | dict.fromkeys(("false", "0", "off", "no"), False)


class Part:
    """One part of a form while it is read."""

    __slots__ = ("content", "headers")

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.content = bytearray()

    @property
    def options(self) -> dict[bytes, bytes]:
        """``name`` and ``filename`` of the part."""
        return parse_options_header(self.headers.get(b"content-disposition", b""))[1]

    @property
    def media_type(self) -> str:
        """Its own content type in small letters, empty when it has none."""
        return self.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


class FormCodec(NativeAnswer, Heavy):
    """``multipart/form-data``. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        max_rows: for the one row, as every reader of rows has it.
        codec_of: the codec of a file's content type; raises ``MediaTypeUnsupported``.
    """

    def __init__(self, signature: Signature, max_rows: int, codec_of: Callable[[str], Codec]) -> None:
        super().__init__(signature)
        self._rows = RowReader(signature, max_rows)
        self._fields = {field.name: field for field in signature.inputs}
        self._codec_of = codec_of

    def heavy(self, body: Body, head: Head) -> bool:
        """A long one, or one that may hold a file of columns."""
        return len(body) >= HEAVY_BYTES or b"filename" in bytes(body)

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not a form, cut short, or with headers that are not those of a form.
            RequestInvalid: the values do not fit, or a column comes twice.
            RequestTooLarge: more parts than allowed.
            MediaTypeUnsupported: a file that is not read.
        """
        parts = _Reading(len(self._fields) + _SPARE_PARTS).parts(body, head)
        files = [part for part in parts if b"filename" in part.options]
        if files and len(parts) == 1:
            return self._read_file(files[0], request_id)
        if files:
            raise RequestInvalid([FieldProblem("input", "either one file or fields without a file", "both")])
        row = self._row(parts)
        return Request(self._rows.read([row], "input", single=True), 1, request_id, True)

    def _read_file(self, part: Part, request_id: str) -> Request:
        media_type = part.media_type
        if media_type in _UNSAID:
            ending = part.options[b"filename"].decode("latin-1").rpartition(".")[2].lower()
            media_type = _ENDINGS.get(ending, media_type)
        if media_type.startswith("multipart/"):
            raise MediaTypeUnsupported("A form within a form is not read; send the inner one.")
        return self._codec_of(media_type).decode(bytes(part.content), request_id, part.headers)

    def _row(self, parts: list[Part]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for part in parts:
            try:
                name = part.options[b"name"].decode("utf-8")
                text = part.content.decode("utf-8")
            except KeyError:
                raise RequestMalformed('A part of the form has no name; send name="COLUMN".') from None
            except UnicodeDecodeError:
                raise RequestMalformed("A field of the form is not UTF-8; send texts as UTF-8.") from None
            if name in row:
                place = joined("input", name)
                raise RequestInvalid([FieldProblem(place, "one field of this name", "several")])
            field = self._fields.get(name)
            row[name] = text if field is None else field_value(field, text)
        return row


def field_value(field: Field, text: str) -> Any:
    """What a text in a form means for a column; the text itself where that is nothing that fits."""
    if text == "" and field.missing:
        return None
    if field.is_tensor:
        try:
            return msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return text
    if field.dtype == "bool":
        return _TRUTHS.get(text.strip().lower(), text)
    if field.dtype in ("str", "datetime"):
        return text
    try:
        return text if "_" in text or not text.isascii() else float(text)
    except ValueError:
        return text


class _Reading:
    """Collects the parts that the parser finds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[Part] = []
        self._name = bytearray()
        self._value = bytearray()
        self._ended = False

    def parts(self, body: Body, head: Head) -> list[Part]:
        """All parts of a form."""
        parser = MultipartParser(
            _boundary(head),
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_header_field": self._field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_end": self._end,
            },
            max_header_count=_MOST_HEADERS,
            max_header_size=_MOST_HEADER_BYTES,
        )
        try:
            parser.write(bytes(body))
            parser.finalize()
        except FormParserError as error:
            raise RequestMalformed("The body is not the form that its Content-Type promises.") from error
        if not self._ended:
            raise RequestMalformed("The form is cut short; send it with its last boundary.")
        if not self._parts:
            raise RequestInvalid([FieldProblem("input", "a form with the columns as fields", "no fields")])
        return self._parts

    def _begin(self) -> None:
        if len(self._parts) >= self._most:
            raise RequestTooLarge(f"The form has more than the {self._most} parts that are allowed.")
        self._parts.append(Part())

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].content += data[start:end]

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._parts[-1].headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self._ended = True


def _boundary(head: Head) -> bytes:
    found = parse_options_header(head.get(b"content-type", b""))[1].get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(found) or found.endswith(b" "):
        raise RequestMalformed(
            f"The Content-Type of a form needs a boundary of 1 to {_LONGEST_BOUNDARY} plain characters."
        )
    return found
