"""CSV as RFC 4180 has it, in UTF-8 with or without a byte order mark.

With a first line of column names the columns may stand in any order, and those that the signature does
not name are passed over; without one they stand in the order of the signature. An empty field is a
missing value. pyarrow is imported by the first body.
"""

import io
from typing import Any

from servable.artifact.signature import Signature
from servable.errors import (
    FieldProblem,
    MediaTypeUnsupported,
    RequestInvalid,
    RequestTooLarge,
)
from servable.protocols.base import HEAVY_BYTES, NO_HEAD, CodecLimits, Head, Heavy
from servable.protocols.column_values import Texts
from servable.protocols.columns import ColumnReader, arrow_ready
from servable.protocols.csv_text import is_header, is_number, malformed, records
from servable.protocols.native import NativeAnswer
from servable.protocols.native_columns import arrow_or_unsupported
from servable.protocols.native_schema import MAX_PROBLEMS
from servable.tensors import Body, Request

#: More columns than the signature's and these are refused.
_SPARE_COLUMNS = 1_000
#: The fields of a tensor with a free size, at most.
_MOST_SPREAD = 100_000
_BLOCK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


class CsvCodec(NativeAnswer, Heavy):
    """``text/csv``. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: most rows.
    """

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature)
        self._max_rows = limits.max_rows
        self._reader = ColumnReader(signature, limits.max_rows, texts=Texts())
        self._names = tuple(field.name for field in signature.inputs)
        self._required = frozenset(field.name for field in signature.inputs if not field.missing)
        only = signature.inputs[0] if len(signature.inputs) == 1 else None
        self._spread = only if only is not None and only.is_tensor and len(only.shape) == 1 else None
        width = len(self._names) if self._spread is None else self._spread.shape[0]
        self._most_columns = (_MOST_SPREAD if width < 0 else width) + _SPARE_COLUMNS

    def heavy(self, body: Body, head: Head) -> bool:
        """A long body, or the first one of all."""
        return len(body) >= HEAVY_BYTES or not arrow_ready()

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not CSV or not UTF-8.
            RequestInvalid: the values do not fit; every problem is named as ``age[17]``, rows from 0.
            RequestTooLarge: more rows or columns than allowed.
            MediaTypeUnsupported: another charset, or pyarrow is not installed.
        """
        arrow_or_unsupported()
        said = _parameters(head)
        if said.get("charset", "").lower() not in _UTF_8:
            raise MediaTypeUnsupported("CSV is read in UTF-8; send it with charset=utf-8.")
        # Empty lines mean nothing, and a reader of records takes its time over each.
        text = bytes(body).removeprefix(_BOM).lstrip(b"\r\n")
        if text.count(b'"') % 2:
            # Quotes come in pairs, also those within a field; pyarrow would take what follows as one field.
            raise malformed("a quotation mark is never closed")
        first, lines = self._first_record(text)
        named = self._is_header(first) if "header" not in said else said["header"].lower() == "present"
        table = self._table(text, first, lines if named else 0)
        return Request(self._reader.read(table), table.num_rows, request_id, False)

    def _first_record(self, text: bytes) -> tuple[list[str], int]:
        """The fields of the first record, and the lines that it takes."""
        end = text.find(b"\n")
        if text.count(b",", 0, end if end >= 0 else len(text)) >= self._most_columns:
            raise RequestTooLarge(f"The first line has more than {self._most_columns} fields.")
        for line, record in records(io.TextIOWrapper(io.BytesIO(text), "utf-8", newline="")):
            return record, line
        raise RequestInvalid([FieldProblem("inputs", "a table of at least one row", "an empty body")])

    def _is_header(self, record: list[str]) -> bool:
        """Whether a first record is names and not values."""
        if self._spread is not None and self._spread.name not in record:
            return not all(is_number(cell or "nan") for cell in record)
        return is_header(record, self._names, self._required)

    def _table(self, text: bytes, first: list[str], skipped: int) -> Any:
        """All records behind the header as columns of text."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        names, wanted = self._columns(first, skipped > 0)
        bad: list[FieldProblem] = []

        def note(row: Any) -> str:
            if len(bad) < MAX_PROBLEMS:
                place = "inputs" if row.number is None else f"line {row.number}"
                bad.append(
                    FieldProblem(place, f"{row.expected_columns} fields", f"{row.actual_columns} of them")
                )
            return "skip"

        try:
            stream = arrow_csv.open_csv(
                pa.BufferReader(text),
                read_options=arrow_csv.ReadOptions(
                    use_threads=False,
                    block_size=max(_BLOCK, len(text)),
                    column_names=names,
                    skip_rows=skipped,
                ),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), include_columns=wanted
                ),
            )
            table = stream.read_all()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise malformed() from error
        if bad:
            raise RequestInvalid(bad)
        return table

    def _columns(self, first: list[str], named: bool) -> tuple[list[str], list[str]]:
        """What the columns of the body are called, and those of them that are read."""
        if self._spread is not None and not (named and self._spread.name in first):
            names = [f"{place}" for place in range(len(first))]
            return names, names
        if not named:
            if len(first) != len(self._names):
                listed = ", ".join(self._names[:8]) + (", ..." if len(self._names) > 8 else "")
                expected = f"{len(self._names)} fields ({listed}), or a first line of their names"
                raise RequestInvalid([FieldProblem("inputs[0]", expected, f"{len(first)} fields")])
            return list(self._names), list(self._names)
        for name in self._names:
            if first.count(name) > 1:
                raise RequestInvalid([FieldProblem(name, "one column of this name", "several")])
        known = set(self._names)
        # What is not read needs a name of its own all the same; it keeps its own where that may help.
        names = [
            name if name in known or first.count(name) == 1 else f"{name} ({place})"
            for place, name in enumerate(first)
        ]
        complete = known.issubset(names)
        return names, [name for name in names if name in known] if complete else names


def _parameters(head: Head) -> dict[str, str]:
    """What the content type says besides its name."""
    said = {}
    for part in head.get(b"content-type", b"").decode("latin-1").split(";")[1:]:
        name, _, value = part.partition("=")
        said[name.strip().lower()] = value.strip().strip('"')
    return said
