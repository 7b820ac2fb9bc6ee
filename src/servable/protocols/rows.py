"""Rows of JSON values to packed arrays: what all formats that speak in rows have in common.

A row is an object by column name or a list in the order of the signature; for a model whose only input is
one tensor it may be the nested list itself. The good case is one typed conversion; what does not fit
is read again value by value, which names every problem by its path.
"""

from collections.abc import Sequence
from types import GenericAlias
from typing import Any

import msgspec
import numpy as np

from servable.artifact.signature import Signature
from servable.errors import FieldProblem, RequestInvalid, RequestTooLarge
from servable.protocols.native_compiled import Packer, all_plain_numbers, row_types
from servable.protocols.native_schema import (
    Misfit,
    Problems,
    Reader,
    expectation,
    joined,
    membership,
    reader,
    shown,
)
from servable.tensors import NUMBERS

_astuple: Any = msgspec.structs.astuple


class RowReader:
    """Reads rows for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes.
        max_rows: more rows in one request are refused with ``RequestTooLarge``.
        file: what a file is in this format, a text or bytes, for ``types``.
    """

    def __init__(self, signature: Signature, max_rows: int, file: type = str) -> None:
        self.signature = signature
        self.bare = len(signature.inputs) == 1 and signature.inputs[0].is_tensor
        self._max_rows = max_rows
        self._names = tuple(field.name for field in signature.inputs)
        self._known = frozenset(self._names)
        self._packer = Packer(signature)
        self._plain = all_plain_numbers(signature)
        self._has_numbers = bool(signature.packed(NUMBERS))
        self._members = tuple(
            (index, check)
            for index, field in enumerate(signature.inputs)
            if (check := membership(field)) is not None
        )
        self._readers: tuple[Reader, ...] = tuple(reader(field) for field in signature.inputs)
        #: The types of an object row and of any row, for compiled decoders; None when there can be none.
        self.types = types = row_types(signature, self.bare, file)
        self._row_type = None if types is None else types[0]
        self._rows_type: Any = None if types is None else GenericAlias(list, (types[1],))

    # ------------------------------------------------------------------ the good case

    def read(self, rows: Sequence[Any], place: str, *, single: bool = False) -> dict[str, Any]:
        """Packed arrays of rows of plain JSON values.

        Args:
            rows: objects or lists, as a JSON parser gives them.
            place: what stands before a row in the paths of problems, such as ``instances``.
            single: whether the only row stands at the place itself, and not in a list there.

        Raises:
            RequestInvalid: values that do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        self.check_count(len(rows))
        if rows and self._rows_type is not None:
            try:
                arrays = self.pack(msgspec.convert(rows, self._rows_type))
                if not self._has_numbers or not np.isinf(arrays[NUMBERS]).any():
                    return arrays
            except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
                pass
            # Something is unusual, perhaps wrong (a parser may give infinity): the exact way says what.
        return self.read_exactly(rows, place, Problems(), single=single)

    def pack_one(self, row: Any) -> dict[str, Any]:
        """One row as the compiled decoder gives it.

        Raises:
            ValueError: a value that is no date or no member.
        """
        if not self._plain:
            return self.pack([row])
        values = _astuple(row) if type(row) is self._row_type else row
        return {NUMBERS: np.array((values,), np.float64)}

    def pack(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Rows as the compiled decoder gives them.

        Raises:
            ValueError: a value that is no date or no member, or a ragged tensor.
        """
        astuple = _astuple
        row_type = self._row_type
        if self.bare:
            unpacked = [astuple(row) if type(row) is row_type else (row,) for row in rows]
        else:
            unpacked = [astuple(row) if type(row) is row_type else row for row in rows]
        if self._plain:
            return {NUMBERS: np.array(unpacked, np.float64)}
        for index, check in self._members:
            for row in unpacked:
                value = row[index]
                if value is not None and not check(value):
                    raise ValueError(index)
        return self._packer.pack(unpacked)

    def check_count(self, count: int) -> None:
        """Refuse too many rows.

        Raises:
            RequestTooLarge: there are more than allowed.
        """
        if count > self._max_rows:
            raise RequestTooLarge(
                f"The request holds {count} rows and {self._max_rows} are allowed; "
                "send them in several requests."
            )

    # ------------------------------------------------------------------ value by value

    def read_exactly(
        self, rows: Sequence[Any], place: str, problems: Problems, *, single: bool = False
    ) -> dict[str, Any]:
        """As ``read``, adding to the problems that are known already.

        Raises:
            RequestInvalid: there are problems.
        """
        values = []
        for index, row in enumerate(rows):
            if problems.full:
                break
            values.append(self._read_row(row, place if single else f"{place}[{index}]", problems))
        if not rows and not problems:
            problems.note(place, "a list of at least one row", "an empty list")
        if problems:
            raise RequestInvalid(problems)
        try:
            return self._packer.pack(values)
        except ValueError as error:
            # Every row fits alone; only tensors with free axes can still differ between rows, and one row
            # may hold a file where another holds a tensor.
            files = any(isinstance(value, bytes) for row in values for value in row)
            problem = (
                FieldProblem(place, "either files or tensors in all rows", "files and tensors")
                if files
                else FieldProblem(place, "tensors of one shape in all rows", "tensors of different shapes")
            )
            raise RequestInvalid([problem]) from error

    def _read_row(self, row: Any, path: str, problems: Problems) -> tuple[Any, ...]:
        if isinstance(row, dict):
            return self._read_object(row, path, problems)
        if self.bare:
            return (self._read_value(0, row, path, problems),)
        if not isinstance(row, list):
            problems.note(path, "an object by column name or a list in the order of the columns", shown(row))
            return ()
        if len(row) != len(self._names):
            listed = ", ".join(self._names[:8]) + (", ..." if len(self._names) > 8 else "")
            problems.note(path, f"a list of {len(self._names)} values ({listed})", shown(row))
            return ()
        return tuple(
            self._read_value(index, value, f"{path}[{index}]", problems) for index, value in enumerate(row)
        )

    def _read_object(self, row: dict[str, Any], path: str, problems: Problems) -> tuple[Any, ...]:
        absent = [name for name in self._names if name not in row]
        for name in row:
            if problems.full:
                break
            if name not in self._known:
                hint = problems.hint(name, absent)
                problems.note(joined(path, name), f"no column of this name{hint}", shown(row[name]))
        values = []
        for index, field in enumerate(self.signature.inputs):
            if field.name in row:
                place = joined(path, field.name)
                values.append(self._read_value(index, row[field.name], place, problems))
            elif field.missing and not field.is_tensor:
                values.append(self._readers[index](None))
            else:
                problems.note(joined(path, field.name), expectation(field), "nothing (the column is missing)")
        return tuple(values)

    def _read_value(self, index: int, value: Any, path: str, problems: Problems) -> Any:
        try:
            return self._readers[index](value)
        except Misfit as misfit:
            by_place = path.endswith("]") and not path.endswith('"]')
            named = f" ({self._names[index]})" if by_place and not misfit.place and not self.bare else ""
            expected = misfit.expected + problems.hint(value, misfit.known) + named
            problems.note(path + misfit.place, expected, misfit.got or shown(value))
            return None
