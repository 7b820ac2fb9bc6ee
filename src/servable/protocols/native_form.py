"""Forms: ``multipart/form-data`` as browsers and curl send it.

The fields of a form are the columns of one row; an input that takes files is a field with a file. For a
model whose only input takes files, each file is a row. Or the form holds one file and nothing else; then
its own content type, or the end of its name, decides how the file is read, as if it were the whole body.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from servable.artifact.signature import Field, Signature
from servable.errors import FieldProblem, MediaTypeUnsupported, RequestInvalid, RequestMalformed
from servable.inputs.rows import raw_files
from servable.protocols.base import HEAVY_BYTES, NO_HEAD, Codec, Head, Heavy
from servable.protocols.csv_text import number, truth
from servable.protocols.file_types import file_type_of
from servable.protocols.files import lone_file
from servable.protocols.multipart import Part, parts_of
from servable.protocols.native import NativeAnswer
from servable.protocols.native_schema import joined
from servable.protocols.rows import RowReader
from servable.tensors import Body, Request

#: More parts than the columns and these are refused.
_SPARE_PARTS = 16
#: Most files of one form, each of them a row.
_MOST_FILES = 1_000
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
        self._file = lone_file(signature)
        self._most_files = max_rows

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
        most = _SPARE_PARTS + (min(_MOST_FILES, self._most_files) if self._file else len(self._fields))
        parts = parts_of(bytes(body), head.get(b"content-type", b""), most)
        if not parts:
            raise RequestInvalid([FieldProblem("input", "a form with the columns as fields", "no fields")])
        files = [part for part in parts if b"filename" in part.options]
        if files and self._file is not None and len(files) == len(parts) and self._all_files(files):
            self._rows.check_count(len(files))
            rows = raw_files([part.body for part in files])
            return Request({self._file.name: rows}, len(files), request_id, len(files) == 1)
        if files and len(parts) == 1 and not self._is_column(files[0]):
            return self._read_file(files[0], request_id)
        if files and not all(map(self._is_column, files)):
            raise RequestInvalid([FieldProblem("input", "either one file or fields without a file", "both")])
        row = self._row(parts)
        return Request(self._rows.read([row], "input", single=True), 1, request_id, True)

    def _all_files(self, parts: list[Part]) -> bool:
        """Whether each is a file for the only input, by its first bytes or by what it is said to be."""
        kind = "" if self._file is None else f"{self._file.kind}/"
        return all(file_type_of(part.body) or part.media_type.startswith(kind) for part in parts)

    def _is_column(self, part: Part) -> bool:
        """Whether it is a file for an input of its name."""
        field = self._fields.get(part.options.get(b"name", b"").decode("utf-8", "replace"))
        return field is not None and field.takes_files and len(self._fields) > 1

    def _read_file(self, part: Part, request_id: str) -> Request:
        media_type = part.media_type
        if media_type in _UNSAID:
            ending = part.options[b"filename"].decode("latin-1").rpartition(".")[2].lower()
            media_type = _ENDINGS.get(ending, media_type)
        if media_type.startswith("multipart/"):
            raise MediaTypeUnsupported("A form within a form is not read; send the inner one.")
        return self._codec_of(media_type).decode(part.body, request_id, part.head)

    def _row(self, parts: list[Part]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for part in parts:
            try:
                name = part.options[b"name"].decode("utf-8")
                file = b"filename" in part.options
                text = "" if file else part.body.decode("utf-8")
            except KeyError:
                raise RequestMalformed('A part of the form has no name; send name="COLUMN".') from None
            except UnicodeDecodeError:
                raise RequestMalformed("A field of the form is not UTF-8; send texts as UTF-8.") from None
            if name in row:
                place = joined("input", name)
                raise RequestInvalid([FieldProblem(place, "one field of this name", "several")])
            if file:
                row[name] = part.body
                continue
            field = self._fields.get(name)
            row[name] = text if field is None else field_value(field, text)
        return row


def field_value(field: Field, text: str) -> Any:
    """What a text in a form means for a column; the text itself where that is nothing that fits."""
    if text == "" and field.missing:
        return None
    if field.takes_files and not text.lstrip().startswith("["):
        return text.strip()
    if field.is_tensor:
        try:
            return msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return text
    if field.dtype == "bool":
        read: Any = truth(text)
        return text if read is None else read
    if field.dtype in ("str", "datetime"):
        return text
    read = number(text)
    return text if read is None else read
