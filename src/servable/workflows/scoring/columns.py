"""Which columns the output has, and how a piece's rows and answers become them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import DataError
from servable.protocols.columns import answer_columns
from servable.protocols.native_schema import close_to
from servable.tensors import MISSING_STRING, NUMBERS, STRINGS, Arrays
from servable.workflows.scoring.forms import CsvForm, Form, LinesForm, joined, json_texts
from servable.workflows.scoring.source import BadRow, Source

if TYPE_CHECKING:
    import pyarrow as pa

_MICROSECONDS = 1e6


class Written:
    """The columns of the output. Immutable and safe to share between threads.

    Columns of the input come first, in the order of the file or of ``keep``, then the answers. Where
    the input is text, columns that the model knows get the type of the model's field in Parquet and JSON
    lines, and all others stay as they are. A whole line of JSON stays as it is, too.

    Args:
        source: the input.
        signature: the model's.
        form: of the output.
        keep: columns of the input to write; None for all.
        example: answers of the model to one row, which show their types.

    Raises:
        DataError: a column to be kept is not there, or is named like an answer.
        SettingInvalid: the form cannot hold a column.
    """

    def __init__(
        self,
        source: Source,
        signature: Signature,
        form: Form,
        keep: Sequence[str] | None,
        example: Arrays,
    ) -> None:
        import pyarrow as pa

        self._signature = signature
        self._form = form
        self._answers = answer_columns(signature, example, flat=form.flat).schema
        names = source.schema.names if keep is None else list(dict.fromkeys(keep))
        _check(source, names, self._answers.names)
        # A line is written as it came, where nothing of it is left out.
        self._spliced = isinstance(form, LinesForm) and not source.fixed and keep is None
        known = {field.name: field for field in signature.inputs if not field.is_tensor}
        as_text = source.texts is not None and isinstance(form, CsvForm)
        typed = (source.texts is not None or not source.fixed) and not as_text
        #: Columns that are made of packed values, by name.
        self._packed: Mapping[str, Field] = {name: known[name] for name in names if typed and name in known}
        self._open = not source.fixed and keep is None and not self._spliced
        self._kept = pa.schema(
            [
                (name, _type_of(self._packed[name]) if name in self._packed else _plain(source, name))
                for name in names
            ]
        )
        self.schema = pa.schema([*self._kept, *self._answers])
        self.head = form.head(self._answers if self._spliced else self.schema)
        self._places = {
            field.name: place
            for array in (NUMBERS, STRINGS)
            for place, field in enumerate(signature.packed(array))
        }

    def kept(self, table: "pa.Table", arrays: Arrays) -> "pa.Table":
        """The columns of the input that are written.

        Raises:
            BadRow: a column changes its type, or rows have columns that the first ones lack.
        """
        import pyarrow as pa

        if self._open or self._spliced:
            self._look_for_others(table)
        if self._spliced:
            return table
        columns = []
        for field in self._kept:
            if field.name in self._packed:
                columns.append(self._unpacked(self._packed[field.name], arrays))
            elif field.name not in table.column_names:
                columns.append(pa.nulls(table.num_rows, field.type))
            else:
                columns.append(_cast(table.column(field.name), field))
        return pa.Table.from_arrays(columns, schema=self._kept) if columns else table.select([])

    def encode(self, content: Any, kept: "pa.Table", answers: Arrays) -> bytes:
        """The bytes of a piece.

        Args:
            content: the piece's own bytes, which lines of JSON are made of.
            kept: from ``kept``.
            answers: of the model, row for row.
        """
        import pyarrow as pa

        said = answer_columns(self._signature, answers, flat=self._form.flat)
        if said.schema != self._answers:
            said = said.cast(self._answers)
        if self._spliced:
            return _spliced(content, said)
        columns = [*kept.columns, *said.columns] if kept.num_columns else list(said.columns)
        return self._form.encode(pa.Table.from_arrays(columns, schema=self.schema))

    def _look_for_others(self, table: "pa.Table") -> None:
        for name in table.column_names:
            if name in self._answers.names:
                raise BadRow(0, f"or one after it has {name!r}, which is the name of an answer.")
            if self._open and name not in self._kept.names:
                raise BadRow(
                    0,
                    f"or one after it has {name!r}, which the first rows lack; "
                    "say which columns to write with --keep, or write JSON lines.",
                )

    def _unpacked(self, field: Field, arrays: Arrays) -> "pa.Array":
        """A column as its values were packed, with null for what is missing."""
        import pyarrow as pa

        values = arrays[field.array][:, self._places[field.name]]
        if field.array == STRINGS:
            return pa.array(values, pa.string(), mask=np.equal(values, MISSING_STRING).astype(bool))
        missing = np.isnan(values)
        if field.dtype == "bool":
            return pa.array(values == 1, mask=missing)
        if field.dtype == "datetime":
            ticks = np.round(np.where(missing, 0, values) * _MICROSECONDS).astype(np.int64)
            return pa.array(ticks, mask=missing).cast(_type_of(field))
        return pa.array(np.ascontiguousarray(values), mask=missing)


def _check(source: Source, names: Sequence[str], answers: Sequence[str]) -> None:
    for name in names:
        if name not in source.schema.names:
            hint = close_to(name, source.schema.names) or "; look at its column names."
            raise DataError(f"{source.path} has no column {name!r} to keep{hint}")
        if name in answers:
            raise DataError(
                f"{source.path} has a column {name!r}, which is the name of an answer; "
                "say which columns to write with --keep, or use --only-answers."
            )


def _type_of(field: Field) -> "pa.DataType":
    import pyarrow as pa

    if field.array == STRINGS:
        return pa.string()
    return {"bool": pa.bool_(), "datetime": pa.timestamp("us", "UTC")}.get(field.dtype, pa.float64())


def _plain(source: Source, name: str) -> "pa.DataType":
    import pyarrow as pa

    kind = source.schema.field(name).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _cast(column: Any, field: Any) -> Any:
    import pyarrow as pa

    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise BadRow(
            0,
            f"or one after it changes column {field.name!r} from {field.type} to {column.type}; "
            "leave it out with --keep.",
        ) from error


def _spliced(content: bytes, answers: "pa.RecordBatch") -> bytes:
    """Lines of JSON objects with the answers put in at their end."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as arrow_csv

    # Neither character can stand in JSON as it is, so every line is one field.
    table = arrow_csv.read_csv(
        pa.BufferReader(content),
        read_options=arrow_csv.ReadOptions(
            use_threads=False, column_names=["line"], block_size=len(content) + 1
        ),
        parse_options=arrow_csv.ParseOptions(delimiter="\x1f", quote_char=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types={"line": pa.string()}, strings_can_be_null=False
        ),
    )
    lines = pc.utf8_trim_whitespace(table.column("line").combine_chunks())
    lines = lines.filter(pc.not_equal(lines, ""))
    if len(lines) != answers.num_rows:
        raise BadRow(0, "or one after it is not one JSON object on one line.")
    opened = pc.utf8_rtrim_whitespace(pc.utf8_slice_codeunits(lines, 0, -1))
    comma = pc.if_else(pc.equal(opened, "{"), "", ", ")
    parts: list[Any] = [opened, comma]
    for place, name in enumerate(answers.schema.names):
        key = json_texts(pa.array([name]))[0].as_py()
        parts += [f"{', ' if place else ''}{key}: ", json_texts(answers.column(place))]
    return joined(pc.binary_join_element_wise(*parts, "}\n", ""))
