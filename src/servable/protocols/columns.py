"""Columns of Arrow to packed arrays, and answers to columns: what Arrow, Parquet and CSV have in common.

Whoever reads a format makes record batches of it; ``ColumnReader``, made for one signature, turns them
into the packed arrays of ``tensors`` with no work for each row, and names every value that does not fit
by column and row, as in ``age[17]``. ``answer_columns`` makes a record batch of what a model answered.

Columns that the signature does not name are passed over. A column that is not there counts as missing
values where its field takes those. pyarrow is imported by the first call.
"""

import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import DependencyMissing, FieldProblem, RequestInvalid, RequestTooLarge
from servable.protocols.answers import label_key
from servable.protocols.column_tensors import element, tensor
from servable.protocols.column_values import Cells, Texts, WrongType, numbers, strings
from servable.protocols.native_schema import MAX_PROBLEMS, Problems, expectation, joined, shown
from servable.tensors import MISSING_STRING, NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays

if TYPE_CHECKING:
    import pyarrow as pa

#: The extra that brings pyarrow.
EXTRA = "columns"
#: The column of one class's probability is named so, followed by the label.
PROBABILITY_PREFIX = "probability_"
#: Set when pyarrow was imported to its end; its name alone is known to Python before.
_imported = threading.Event()


class CellProblem(NamedTuple):
    """A value, or a whole column where ``row`` is None, that does not fit; rows count from 0."""

    column: str
    row: int | None
    expected: str
    got: str


class Columns(NamedTuple):
    """What was read: packed arrays, which mean nothing where there are problems."""

    arrays: dict[str, Any]
    problems: tuple[CellProblem, ...]


def need_arrow() -> None:
    """Make sure that pyarrow is there, and import all of it that is used here.

    The first call takes a tenth of a second, so an event loop leaves it to a thread; see ``arrow_ready``.

    Raises:
        DependencyMissing: it is not; the message names the extra.
    """
    try:
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet  # noqa: F401 - imported now, so that no later import takes its time
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            "Arrow, Parquet and CSV need pyarrow, which is not installed; "
            f"run: pip install 'servable[{EXTRA}]'"
        ) from missing
    _imported.set()


def arrow_ready() -> bool:
    """Whether ``need_arrow`` has no work left."""
    return _imported.is_set()


class ColumnReader:
    """Reads record batches for one signature. Immutable and safe to share between threads.

    Args:
        signature: what the model takes.
        max_rows: more rows in one call of ``read`` are refused; None for any number.
        texts: how texts are read as numbers, booleans and missing values, for formats such as CSV in
            which everything is a text; None where columns have types of their own.
    """

    def __init__(
        self, signature: Signature, max_rows: int | None = None, *, texts: Texts | None = None
    ) -> None:
        self.signature = signature
        self._max_rows = max_rows
        self._texts = texts
        self._numbers = signature.packed(NUMBERS)
        self._strings = signature.packed(STRINGS)
        self._tensors = tuple(field for field in signature.inputs if field.is_tensor)
        only = signature.inputs[0] if len(signature.inputs) == 1 else None
        flat = only is not None and only.is_tensor and len(only.shape) == 1 and only.dtype != "str"
        #: The one tensor whose elements may come as columns of their own.
        self._spread = only if flat else None

    def read(self, batch: "pa.RecordBatch | pa.Table", first_row: int = 0) -> dict[str, Any]:
        """Packed arrays of all rows.

        Args:
            batch: the columns, in any order.
            first_row: what the first row is called in problems.

        Raises:
            RequestInvalid: no rows, columns missing or named twice, or values that do not fit.
            RequestTooLarge: more rows than allowed.
            DependencyMissing: pyarrow is not installed.
        """
        rows = batch.num_rows
        if self._max_rows is not None and rows > self._max_rows:
            raise RequestTooLarge(
                f"The request holds {rows} rows and {self._max_rows} are allowed; "
                "send them in several requests."
            )
        if not rows:
            raise RequestInvalid([FieldProblem("inputs", "a table of at least one row", "no rows")])
        found = self.look(batch)
        if found.problems:
            raise RequestInvalid([_field_problem(problem, first_row) for problem in found.problems])
        return found.arrays

    def look(self, batch: "pa.RecordBatch | pa.Table") -> Columns:
        """The same without an error: arrays, and problems whose rows count from the batch's first.

        Raises:
            DependencyMissing: pyarrow is not installed.
        """
        need_arrow()
        names, rows = batch.schema.names, batch.num_rows
        if self._spread is not None and self._spread.name not in names:
            return self._read_spread(batch, self._spread)
        found: list[CellProblem] = []
        arrays: dict[str, Any] = {}
        if self._numbers:
            packed = np.empty((rows, len(self._numbers)))
            for place, field in enumerate(self._numbers):
                self._fill(packed[:, place], batch, field, found)
            arrays[NUMBERS] = packed
        if self._strings:
            held = np.empty((rows, len(self._strings)), object)
            for place, field in enumerate(self._strings):
                self._fill(held[:, place], batch, field, found)
            arrays[STRINGS] = held
        for field in self._tensors:
            cells = self._cells(batch, field, found)
            if cells is not None and cells.values is not None:
                arrays[field.name] = cells.values
        return Columns(arrays, tuple(found))

    def absent(self, names: "list[str] | tuple[str, ...]") -> tuple[str, ...]:
        """Columns that a table with these names lacks and that count as missing values therefore."""
        if self._spread is not None:
            return ()
        return tuple(field.name for field in self.signature.inputs if field.name not in set(names))

    def _fill(self, place: Any, batch: Any, field: Field, found: list[CellProblem]) -> None:
        cells = self._cells(batch, field, found)
        if cells is not None:
            place[:] = cells.values

    def _cells(self, batch: Any, field: Field, found: list[CellProblem]) -> Cells | None:
        """One column, packed; its problems are noted."""
        places = batch.schema.get_all_field_indices(field.name)
        if not places:
            if field.missing and not field.is_tensor:
                return Cells(MISSING_STRING if field.array == STRINGS else math.nan)
            hint = Problems().hint(field.name, batch.schema.names)
            found.append(
                CellProblem(field.name, None, expectation(field) + hint, "nothing (there is no such column)")
            )
            return None
        if len(places) > 1:
            found.append(CellProblem(field.name, None, "one column of this name", f"{len(places)} of them"))
            return None
        column = plain(batch.column(places[0]))
        try:
            if field.is_tensor:
                cells = tensor(column, field)
            elif field.array == STRINGS:
                cells = strings(column, field, self._texts)
            else:
                cells = numbers(column, field, self._texts)
        except WrongType as wrong:
            found.append(CellProblem(field.name, None, expectation(field), f"a column of type {wrong}"))
            return None
        if cells.bad is not None:
            self._note(column, field, cells, found)
        return cells

    def _note(
        self, column: Any, field: Field, cells: Cells, found: list[CellProblem], name: str = ""
    ) -> None:
        """The bad rows of a column, as many as are worth telling; it is called as its field unless named."""
        hints = Problems()
        for row in np.flatnonzero(cells.bad)[:MAX_PROBLEMS].tolist():
            value = column[row].as_py()
            expected = cells.expected or expectation(field) + hints.hint(value, field.values)
            found.append(CellProblem(name or field.name, row, expected, _said(value, self._texts)))

    def _read_spread(self, batch: Any, field: Field) -> Columns:
        """A tensor whose elements are columns: all columns of the table, in their order."""
        width = field.shape[0]
        if width not in (-1, batch.num_columns) or not batch.num_columns:
            words = (
                f"{width} columns, one for each number, or one column of lists" if width >= 0 else "columns"
            )
            problem = CellProblem(field.name, None, words, f"{batch.num_columns} columns")
            return Columns({}, (problem,))
        found: list[CellProblem] = []
        values = np.empty((batch.num_rows, batch.num_columns), field.dtype)
        for place, name in enumerate(batch.schema.names):
            column = plain(batch.column(place))
            try:
                cells = element(column, name, field.dtype, self._texts)
            except WrongType as wrong:
                found.append(CellProblem(name, None, "a number", f"a column of type {wrong}"))
                continue
            values[:, place] = cells.values
            if cells.bad is not None:
                self._note(column, field, cells, found, name)
        return Columns({field.name: values}, tuple(found))


def plain(column: Any) -> "pa.Array":
    """A column in one piece and without a dictionary."""
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(whole.type):
        return whole.dictionary_decode()
    return whole.storage if isinstance(whole, pa.ExtensionArray) else whole


def _said(value: Any, texts: Texts | None) -> str:
    """A value in a few safe words."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null" if texts is None else "nothing"
    if texts is not None and value == "":
        return "nothing"
    if isinstance(value, float) and math.isinf(value):
        return "infinity"
    return shown(value if isinstance(value, bool | int | float | str | list | dict) else str(value))


def _field_problem(problem: CellProblem, first_row: int) -> FieldProblem:
    place = joined("", problem.column).lstrip(".")
    row = "" if problem.row is None else f"[{first_row + problem.row}]"
    return FieldProblem(place + row, problem.expected, problem.got)


def answer_columns(signature: Signature, arrays: Arrays, *, flat: bool = False) -> "pa.RecordBatch":
    """What a model answered, as columns.

    The column ``prediction`` holds labels for a classifier, whole numbers for clusters and numbers
    otherwise; ``probability_LABEL`` holds one class's probability, in the order of the classes. Outputs
    of a model of unknown task keep their own names. NaN stays NaN.

    Args:
        signature: the model's.
        arrays: its answers, as in ``tensors.Response``.
        flat: whether an output of several numbers a row becomes columns ``NAME_0``, ``NAME_1`` ...,
            as CSV needs it, and not one column of lists.

    Raises:
        DependencyMissing: pyarrow is not installed.
    """
    need_arrow()
    import pyarrow as pa

    columns: dict[str, Any] = {}
    labels = signature.classes
    for name, array in arrays.items():
        if name == PREDICTION and labels:
            columns[name] = label_array(labels).take(pa.array(array))
        elif name == PROBABILITIES and labels:
            for place, label in enumerate(labels):
                columns[PROBABILITY_PREFIX + label_key(label)] = pa.array(
                    np.ascontiguousarray(array[:, place])
                )
        elif array.ndim > 1 and flat:
            spread = array.reshape(len(array), -1)
            for place in range(spread.shape[1]):
                columns[f"{name}_{place}"] = _values(np.ascontiguousarray(spread[:, place]))
        else:
            columns[name] = _lists(array)
    return pa.RecordBatch.from_pydict(columns)


def label_array(labels: tuple[Any, ...]) -> "pa.Array":
    """A classifier's labels in their own type; as texts where their types differ."""
    import pyarrow as pa

    if len({type(label) for label in labels}) > 1:
        return pa.array([label_key(label) for label in labels])
    return pa.array(list(labels))


def _values(array: Any) -> "pa.Array":
    import pyarrow as pa

    return pa.array(array.tolist(), pa.string()) if array.dtype.kind in "OUS" else pa.array(array)


def _lists(array: Any) -> "pa.Array":
    """An array as a column; each axis after the first is a list of fixed size."""
    import pyarrow as pa

    column = _values(np.ascontiguousarray(array).reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column
