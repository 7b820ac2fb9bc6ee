"""CSV, JSON lines and Parquet as sources of rows."""

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from servable.artifact.signature import Field, Signature
from servable.errors import DataError
from servable.protocols.column_values import Texts
from servable.protocols.native_schema import Misfit, reader, shown
from servable.tensors import STRINGS
from servable.training import dialect
from servable.workflows.scoring import text_stream
from servable.workflows.scoring.source import (
    HEAD_BYTES,
    LEAST_BYTES,
    MOST_BYTES,
    BadRow,
    Piece,
    Source,
    reading,
)

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_MAGIC = b"PAR1"
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
LINES_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
#: Bytes of a column that are read at once.
_PARQUET_BUFFER = 1 << 20
#: Stands in for a delimiter where there is one column only.
_NO_DELIMITER = "\x1f"


def open_source(path: Path, signature: Signature) -> Source:
    """The source for a file, by its ending: Parquet, JSON lines, or CSV for all else.

    Raises:
        FileMissing: there is no such file.
        DataError: it is not what its ending says.
        StorageFailed: it cannot be read.
    """
    with reading(path), path.open("rb") as file:
        magic = file.read(4)
    if path.suffix.lower() in PARQUET_SUFFIXES or magic == PARQUET_MAGIC:
        return ParquetSource(path)
    inner = Path(path.stem) if path.suffix.lower() in text_stream.COMPRESSIONS else path
    if inner.suffix.lower() in LINES_SUFFIXES:
        return LinesSource(path, signature)
    return CsvSource(path, signature)


class CsvSource:
    """A CSV file; every column is a text, so that nothing is guessed and everything can be written again."""

    fixed = True

    def __init__(self, path: Path, signature: Signature) -> None:
        import pyarrow as pa

        self.path = path
        self.size = float(path.stat().st_size)
        self._form, head = text_stream.form_of(path)
        text = head.decode("utf-8", "ignore")
        self._delimiter = dialect.delimiter(text)
        names, self._begin = dialect.header(path, text, self._delimiter)
        if len(names) == 1:
            self._delimiter = _NO_DELIMITER
        self.schema = pa.schema([(name, pa.string()) for name in names])
        self.row_bytes = _row_bytes(head[self._begin :])
        dates = {
            field.name: form
            for field in signature.inputs
            if field.dtype == "datetime" and field.name in names
            for form in [dialect.date_form(self._sample(head), field.name)]
            if form
        }
        self.texts: Texts | None = Texts(self._delimiter == ";", dates)

    def _sample(self, head: bytes) -> "pa.Table":
        """The rows of the head, as far as they are whole."""
        rows = head[self._begin :]
        cut = text_stream.row_end(rows, quoted=True) if len(head) >= HEAD_BYTES else len(rows)
        return self._parse(rows[:cut], lambda _row: "skip")

    def pieces(self, start: int | None, step: int) -> Generator[Piece, None, None]:
        """See ``Source``."""
        begin = self._begin if start is None else start
        return text_stream.pieces(self.path, self._form, begin, _bytes_of(step, self.row_bytes), quoted=True)

    def table(self, piece: Piece) -> "pa.Table":
        """See ``Source``."""
        uneven: list[Any] = []

        def remember(row: Any) -> str:
            uneven.append(row)
            return "skip"

        try:
            table = self._parse(piece.content, remember)
        except _arrow_invalid() as error:
            raise _unreadable(piece.content, error) from error
        if uneven:
            row = uneven[0]
            raise BadRow(
                row.number - 1,
                f"has {row.actual_columns} fields for {row.expected_columns} names; "
                f"a field that holds {self._delimiter!r} must be quoted.",
            )
        return table

    def _parse(self, content: bytes, uneven: Any) -> "pa.Table":
        import pyarrow as pa
        import pyarrow.csv as arrow_csv

        if not content:
            return self.schema.empty_table()
        names = self.schema.names
        return arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, column_names=names, block_size=len(content) + 1
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                invalid_row_handler=uneven,
                ignore_empty_lines=len(names) > 1,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=self.schema, strings_can_be_null=False, check_utf8=True
            ),
        )


class LinesSource:
    """JSON lines; columns of the signature are read as it says, all others as the first rows show them."""

    fixed = False
    texts: Texts | None = None

    def __init__(self, path: Path, signature: Signature) -> None:
        import pyarrow as pa

        self.path = path
        self.size = float(path.stat().st_size)
        self._form, head = text_stream.form_of(path)
        if head.lstrip()[:1] == b"[":
            raise DataError(f"{path} is one JSON list; give JSON lines, one object a line.")
        self._readers = {field.name: (field, reader(field)) for field in signature.inputs}
        known = {field.name: kind for field in signature.inputs if (kind := _json_type(field)) is not None}
        self._known = pa.schema(list(known.items()))
        self.row_bytes = _row_bytes(head)
        cut = text_stream.row_end(head, quoted=False) if len(head) >= HEAD_BYTES else len(head)
        try:
            found = self.table(Piece(0, cut, head[:cut] or head, 0.0)).schema
        except BadRow as bad:
            raise DataError(bad.sentence(path)) from bad
        # Arrow puts those first that it was told of; people expect the order of the file.
        order = [name for name in _first_keys(head) if name in found.names]
        order += [name for name in found.names if name not in order]
        self.schema = pa.schema(
            [
                (name, pa.string() if pa.types.is_null(kind) else kind)
                for name in order
                for kind in [found.field(name).type]
            ]
        )

    def pieces(self, start: int | None, step: int) -> Generator[Piece, None, None]:
        """See ``Source``."""
        size = _bytes_of(step, self.row_bytes)
        return text_stream.pieces(self.path, self._form, start or 0, size, quoted=False)

    def table(self, piece: Piece) -> "pa.Table":
        """See ``Source``."""
        import pyarrow as pa
        import pyarrow.json as arrow_json

        try:
            return arrow_json.read_json(
                pa.BufferReader(piece.content),
                read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(piece.content) + 1),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._known, unexpected_field_behavior="infer"
                ),
            )
        except pa.ArrowInvalid as error:
            return self._read_slowly(piece.content, error)

    def _read_slowly(self, content: bytes, error: Exception) -> "pa.Table":
        """Every line on its own: names the row that is wrong, and reads what Arrow does not mix."""
        import pyarrow as pa

        decode = msgspec.json.Decoder(dict[str, Any]).decode
        rows = []
        for number, line in enumerate(line for line in content.splitlines() if line.strip()):
            try:
                row = decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as wrong:
                raise BadRow(number, "is no JSON object.") from wrong
            for name, (field, read) in self._readers.items():
                if row.get(name) is not None:
                    row[name] = _json_value(number, name, field, read, row[name])
            rows.append(row)
        try:
            return pa.Table.from_pylist(rows) if rows else self._known.empty_table()
        except (pa.ArrowException, OverflowError) as wrong:
            raise BadRow(0, f"or one after it cannot be read: {str(error).splitlines()[0]}.") from wrong


class ParquetSource:
    """A Parquet file, read in batches of equally many rows."""

    fixed = True
    texts: Texts | None = None
    row_bytes = 0.0

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as parquet

        self.path = path
        with reading(path), parquet.ParquetFile(path) as file:
            self.schema = file.schema_arrow.remove_metadata()
            groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        self.size = float(sum(groups))
        self._groups = groups
        dialect.check_names(path, self.schema.names)
        if not self.size:
            raise DataError(f"{path} has columns and no rows.")

    def pieces(self, start: int | None, step: int) -> Generator[Piece, None, None]:
        """See ``Source``."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        place = start or 0
        group, before = 0, 0
        while group < len(self._groups) and before + self._groups[group] <= place:
            before += self._groups[group]
            group += 1
        skip = place - before
        # Left to itself, Arrow reads the whole file ahead of what is asked for.
        options = {"pre_buffer": False, "buffer_size": _PARQUET_BUFFER}
        with reading(self.path), parquet.ParquetFile(self.path, **options) as file:
            held = self.schema.empty_table()
            batches = file.iter_batches(
                batch_size=step, row_groups=range(group, len(self._groups)), use_threads=False
            )
            for batch in batches:
                passed, skip = min(skip, batch.num_rows), max(0, skip - batch.num_rows)
                held = pa.concat_tables([held, pa.Table.from_batches([batch.slice(passed)], self.schema)])
                while held.num_rows >= step:
                    yield Piece(place, place + step, held.slice(0, step), float(place + step))
                    held, place = held.slice(step), place + step
        if held.num_rows:
            yield Piece(place, place + held.num_rows, held, float(place + held.num_rows))

    def table(self, piece: Piece) -> "pa.Table":
        """See ``Source``."""
        table: pa.Table = piece.content
        return table


def _arrow_invalid() -> Any:
    import pyarrow as pa

    return pa.ArrowInvalid


def _unreadable(content: bytes, error: Exception) -> BadRow:
    try:
        content.decode()
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start)
        return BadRow(line, "or one near it is not UTF-8, as the file begins; convert it to UTF-8.")
    return BadRow(0, f"or one after it cannot be read: {str(error).splitlines()[0].rstrip('.')}.")


def _first_keys(head: bytes) -> list[str]:
    line = next((line for line in head.splitlines() if line.strip()), b"{}")
    try:
        return list(msgspec.json.decode(line, type=dict[str, Any]))
    except msgspec.MsgspecError:
        # A first row longer than the head.
        return []


def _bytes_of(rows: int, row_bytes: float) -> int:
    return int(min(max(rows * row_bytes, LEAST_BYTES), MOST_BYTES))


def _row_bytes(text: bytes) -> float:
    return max(1.0, len(text) / max(1, text.count(b"\n")))


def _json_type(field: Field) -> Any:
    """The Arrow type as which a field's JSON values are read; None where they may be of several."""
    import pyarrow as pa

    if field.is_tensor:
        kind: Any = pa.string() if field.dtype == "str" else pa.from_numpy_dtype(field.dtype)
        for _ in field.shape:
            kind = pa.list_(kind)
        return kind
    if field.array == STRINGS:
        return pa.string()
    return {"bool": pa.bool_(), "datetime": None}.get(field.dtype, pa.float64())


def _json_value(row: int, name: str, field: Field, read: Any, value: Any) -> Any:
    """A value as it is packed, dates as seconds.

    Raises:
        BadRow: it does not fit.
    """
    try:
        packed = read(value)
    except Misfit as misfit:
        got = misfit.got or shown(value)
        raise BadRow(
            row, f"column {name!r}{misfit.place}: expected {misfit.expected}, got {got}."
        ) from misfit
    return bool(packed) if field.dtype == "bool" and not field.is_tensor else packed
