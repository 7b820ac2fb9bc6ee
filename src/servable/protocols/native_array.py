"""The one array that carries all inputs of a signature: its form, and the checks of what arrives in it."""

import math
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import FieldProblem, RequestInvalid
from servable.protocols.native_schema import (
    INT_BEYOND,
    INT_LEAST,
    MAX_PROBLEMS,
    Problems,
    cell_words,
    expectation,
    membership,
    shown,
    tensor_limits,
)
from servable.tensors import NUMBERS

#: Kinds of dtype that may come for a kind that is wanted: what JSON accepts, too.
_TAKEN = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}


def refuse(path: str, expected: str, got: str) -> RequestInvalid:
    """One problem as an error."""
    return RequestInvalid([FieldProblem(path, expected, got)])


class WholeArray:
    """The array of a signature with one tensor, or of a table of numbers. Immutable and safe to share.

    Attributes:
        name: under which it stands in a Request.
        shape: of one row; -1 is a free size.
        dtype: as the model gets it.
        wire_dtype: the same with its byte order spelled out.
        words: what it is, for people.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: str, columns: tuple[Field, ...]) -> None:
        self.name = name
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.wire_dtype = self.dtype.newbyteorder("<")
        self._columns = columns
        # Columns of which every finite number within 64 bits is one that they take.
        self._simple = all(field.dtype != "bool" and membership(field) is None for field in columns)
        size = " x ".join("any" if axis < 0 else str(axis) for axis in shape) or "one number"
        self.words = f"{len(columns)} columns of float64" if columns else f"{dtype} of {size}"

    @classmethod
    def of(cls, signature: Signature) -> "WholeArray | None":
        """The array that carries a signature's inputs; None when no single array can."""
        inputs = signature.inputs
        if len(inputs) == 1 and inputs[0].is_tensor:
            field = inputs[0]
            # The dtypes of tensors are numpy's, and the one for texts.
            plain = field.dtype != "str" and np.dtype(field.dtype).kind in _TAKEN and 0 not in field.shape
            return cls(field.name, field.shape, field.dtype, ()) if plain else None
        if inputs and all(not field.is_tensor and field.array == NUMBERS for field in inputs):
            return cls(NUMBERS, (len(inputs),), "float64", inputs)
        return None

    @property
    def fixed(self) -> bool:
        """Whether the bytes of one row are always as many."""
        return all(size >= 0 for size in self.shape)

    @property
    def row_bytes(self) -> int:
        """The bytes of one row; only for a fixed shape."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check_shape(self, shape: tuple[int, ...], single: bool) -> None:
        """Look at the shape that somebody claims.

        Args:
            shape: of one row when ``single``, of all rows otherwise.
            single: see above.

        Raises:
            RequestInvalid: it is another one, or it has no elements.
        """
        own = shape if single else shape[1:]
        if own == self.shape and 0 not in shape and -1 not in own:
            return
        fits = len(own) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, own, strict=True)
        )
        if not fits or 0 in shape:
            size = ", ".join("any" if axis < 0 else str(axis) for axis in self.shape)
            expected = f"an array of shape [rows{', ' if size else ''}{size}]"
            got = f"shape [{', '.join(map(_size, shape[:8]))}{', ...' if len(shape) > 8 else ''}]"
            raise refuse("input", expected, got)

    def cast(self, array: Any, single: bool) -> Any:
        """The array with the dtype of the model, C-contiguous and aligned.

        Args:
            array: of any plain dtype.
            single: whether it is one row without the row axis; for the paths of problems.

        Raises:
            RequestInvalid: of another kind, or a value that the dtype does not hold.
        """
        if array.dtype.kind not in _TAKEN[self.dtype.kind]:
            raise refuse("input", f"an array of {self.dtype}", f"an array of {array.dtype.name}")
        if array.dtype != self.dtype:
            array = self._converted(array, single)
        flags = array.flags
        return array if flags.c_contiguous and flags.aligned else array.copy()

    def _converted(self, array: Any, single: bool) -> Any:
        limits = tensor_limits(self.dtype.name) if self.dtype.kind in "iu" else None
        if limits is not None:
            least, most = limits
            # As Python numbers, so that no comparison is made in a dtype that rounds.
            if int(array.min()) < least or int(array.max()) > most:
                bad = (array < least) | (array > most)
                raise self._misfit(array, bad, single, cell_words(self.dtype.name))
            return array.astype(self.dtype)
        with np.errstate(over="ignore"):
            result = array.astype(self.dtype)
        if self.dtype.itemsize < array.dtype.itemsize:
            bad = np.isinf(result) & ~np.isinf(array)
            if bad.any():
                raise self._misfit(array, bad, single, cell_words(self.dtype.name))
        return result

    def _misfit(self, array: Any, bad: Any, single: bool, expected: str) -> RequestInvalid:
        """The first of the cells that do not fit."""
        place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        steps = "".join(f"[{index}]" for index in place)
        return refuse(f"{'input' if single else 'inputs'}{steps}", expected, shown(array[place].item()))

    def checked(self, array: Any, single: bool) -> Any:
        """The array, when its values are allowed; rows on the first axis.

        Args:
            array: of the model's dtype.
            single: whether the row was sent on its own; for the paths of problems.

        Raises:
            RequestInvalid: a value that a column does not take, or a boolean that is neither 0 nor 1.
        """
        if self._columns:
            self._check_columns(array, single)
        elif self.dtype.kind == "b":
            # Any byte can arrive as a boolean; others than 0 and 1 make numpy contradict itself.
            bad = array.view(np.uint8) > 1
            if bad.any():
                row = array.view(np.uint8)
                raise self._misfit(row[0] if single else row, bad[0] if single else bad, single, "0 or 1")
        return array

    def _check_columns(self, array: Any, single: bool) -> None:
        # False for NaN, too, which only some columns take.
        if self._simple and np.abs(array).max() < INT_BEYOND:
            return
        problems = Problems()
        for index, field in enumerate(self._columns):
            column = array[:, index]
            for row in np.flatnonzero(unfit(field, column))[:MAX_PROBLEMS].tolist():
                path = f"input[{index}]" if single else f"inputs[{row}][{index}]"
                problems.note(path, f"{expectation(field)} ({field.name})", number_words(float(column[row])))
        if problems:
            raise RequestInvalid(problems)


def _size(size: int) -> str:
    return str(size) if size < 10**9 else "very many"


def number_words(value: float) -> str:
    """A number as a person reads it in a problem, NaN and infinity among them."""
    if math.isfinite(value):
        return shown(value)
    return "NaN (a missing value)" if value != value else "infinity"


def unfit(field: Field, column: Any) -> Any:
    """Which values of a column it does not take: what JSON would refuse, with NaN for null."""
    missing = np.isnan(column)
    if field.dtype == "bool":
        wrong = (column != 0) & (column != 1)
    elif field.kind == "category" and field.unknown == "refuse" and field.values:
        wrong = ~np.isin(column, np.array(field.values, np.float64))
    else:
        wrong = np.isinf(column)
        if field.dtype == "int64":
            wrong |= (column < INT_LEAST) | (column >= INT_BEYOND)
            if field.kind == "category":
                wrong |= column != np.floor(column)
    return (wrong & ~missing) if field.missing else (wrong | missing)
