"""CSV, JSON lines and Parquet as forms of the output: columns to bytes that are simply put one after another.

What is written while rows are scored is a growing file; every piece adds its bytes. For CSV and JSON
lines that file is the output. For Parquet it is an Arrow stream, which becomes Parquet at the end,
because a Parquet file cannot be continued after a kill.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from servable.errors import SettingInvalid

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes that cannot stand in a JSON text as they are.
_ESCAPED = bytes(range(32)) + b'"\\'


class Form(Protocol):
    """One form of the output. Immutable; ``encode`` may be called from any thread."""

    #: Its name, which a journal keeps.
    name: str
    #: Whether a row's several numbers must be columns of their own.
    flat: bool

    def head(self, schema: "pa.Schema") -> bytes:
        """What stands before the first row."""
        ...

    def encode(self, table: "pa.Table") -> bytes:
        """The bytes of some rows; every call gets the schema of ``head``."""
        ...

    def finish(self, grown: Path, target: Path, advance: Callable[[float], None]) -> Path:
        """Make the output of the grown file.

        Args:
            grown: the file.
            target: where to make it, if it is not the grown file itself.
            advance: told of the rows that were gone through.

        Returns:
            The output, not yet synced.

        Raises:
            OSError: the disk did not take it.
        """
        ...


def form_for(path: Path) -> Form:
    """The form that a file's ending asks for.

    Raises:
        SettingInvalid: no form has this ending.
    """
    suffix = path.suffix.lower()
    for form, suffixes in _FORMS.items():
        if suffix in suffixes:
            return form()
    known = ", ".join(ending for suffixes in _FORMS.values() for ending in suffixes)
    raise SettingInvalid(f"{path} has an ending that says no form of output; give one of {known}.")


class CsvForm:
    """Comma-separated, quoted where needed, a missing value as an empty field."""

    name = "csv"
    flat = True

    def head(self, schema: "pa.Schema") -> bytes:
        """The line of column names.

        Raises:
            SettingInvalid: a column of lists or records, which CSV cannot hold.
        """
        import pyarrow as pa

        for field in schema:
            if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
                raise SettingInvalid(
                    f"Column {field.name!r} is of type {field.type}, which CSV cannot hold; "
                    "write Parquet or JSON lines, or leave it out with --keep."
                )
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(schema.names)
        return line.getvalue().encode()

    def encode(self, table: "pa.Table") -> bytes:
        """See ``Form``."""
        import pyarrow.compute as pc

        if not table.num_rows:
            return b""
        # A line of one empty field would be no line to many readers.
        empty = '""' if table.num_columns == 1 else ""
        parts: list[Any] = []
        for place in range(table.num_columns):
            parts += [","] if place else []
            parts.append(pc.fill_null(csv_texts(table.column(place)), empty))
        return joined(pc.binary_join_element_wise(*parts, "\n", ""))

    def finish(self, grown: Path, target: Path, advance: Callable[[float], None]) -> Path:
        """The grown file is the output."""
        return grown


class LinesForm:
    """One JSON object a line; missing values, NaN and infinity as null."""

    name = "jsonl"
    flat = False

    def head(self, schema: "pa.Schema") -> bytes:
        """Nothing."""
        return b""

    def encode(self, table: "pa.Table") -> bytes:
        """See ``Form``."""
        import pyarrow.compute as pc

        if not table.num_rows:
            return b""
        parts: list[Any] = []
        for place, name in enumerate(table.column_names):
            key = msgspec.json.encode(name).decode()
            parts += [f"{', ' if place else '{'}{key}: ", json_texts(table.column(place))]
        lines = pc.binary_join_element_wise(*parts, "}\n", "")
        return joined(lines)

    def finish(self, grown: Path, target: Path, advance: Callable[[float], None]) -> Path:
        """The grown file is the output."""
        return grown


class ParquetForm:
    """Parquet with zstd, a row group for every piece."""

    name = "parquet"
    flat = False

    def head(self, schema: "pa.Schema") -> bytes:
        """The schema as the head of an Arrow stream."""
        return bytes(schema.serialize())

    def encode(self, table: "pa.Table") -> bytes:
        """Batches of an Arrow stream."""
        return b"".join(bytes(batch.serialize()) for batch in table.combine_chunks().to_batches())

    def finish(self, grown: Path, target: Path, advance: Callable[[float], None]) -> Path:
        """Read the stream and write Parquet, a batch at a time."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        with grown.open("rb") as file:
            stream = pa.ipc.open_stream(file)
            with (
                target.open("wb") as sink,
                parquet.ParquetWriter(sink, stream.schema, compression="zstd") as out,
            ):
                for batch in stream:
                    out.write_batch(batch, row_group_size=max(1, batch.num_rows))
                    advance(batch.num_rows)
        return target


def joined(lines: Any) -> bytes:
    """The bytes of a column of texts one after another."""
    import pyarrow as pa

    whole = lines.combine_chunks() if isinstance(lines, pa.ChunkedArray) else lines
    parts = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    return b"".join(map(_bytes_of, parts))


def _bytes_of(texts: Any) -> bytes:
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return b""
    places = np.frombuffer(offsets, np.int32)
    return bytes(data[int(places[texts.offset]) : int(places[texts.offset + len(texts)])])


def _hold(texts: Any, special: bytes) -> bool:
    """Whether one of some bytes is anywhere in a column; much quicker than looking value by value."""
    content = joined(texts)
    return len(content.translate(None, special)) != len(content)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def csv_texts(column: Any) -> Any:
    """A column as fields of CSV, null where a value is missing or no number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column).cast(pa.string())
    column = column.cast(pa.string())
    if not (_is_text(kind) and _hold(column, b'",\r\n')):
        return column
    odd = pc.match_substring_regex(column, r'[",\r\n]')
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(column, '"', '""'), '"', "")
    return pc.if_else(odd, quoted, column)


def json_texts(column: Any) -> Any:
    """A column as the JSON of its values, with no work for each row where its type is a plain one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return pc.fill_null(column.cast(pa.string()), "null")
    if pa.types.is_floating(kind):
        finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
        return pc.fill_null(finite.cast(pa.string()), "null")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = getattr(kind, "tz", None)
        plain = pc.cast(column, pa.timestamp(kind.unit, "UTC")) if zone else column
        said = pc.replace_substring(pc.replace_substring(plain.cast(pa.string()), " ", "T"), "+0000", "Z")
        return _quoted(said)
    if _is_text(kind):
        return _quoted(_escaped(column.cast(pa.string())))
    if pa.types.is_dictionary(kind):
        return json_texts(column.cast(kind.value_type))
    encode = msgspec.json.Encoder(enc_hook=str).encode
    return pa.array([encode(value).decode() for value in column.to_pylist()], pa.string())


def _quoted(texts: Any) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(pc.binary_join_element_wise('"', texts, '"', ""), "null")


def _escaped(texts: Any) -> Any:
    """Texts as they stand between the quotation marks of JSON."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not _hold(texts, _ESCAPED):
        return texts
    coded = pc.dictionary_encode(texts)
    whole = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    said = [msgspec.json.encode(text).decode()[1:-1] for text in whole.dictionary.to_pylist()]
    return pa.array(said, texts.type).take(whole.indices)


_FORMS: dict[Callable[[], Form], tuple[str, ...]] = {
    CsvForm: (".csv",),
    LinesForm: (".jsonl", ".ndjson"),
    ParquetForm: (".parquet", ".pq"),
}
