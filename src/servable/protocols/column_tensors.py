"""One Arrow column as a tensor, or as one element of it in each row, with what does not fit marked.

A column of lists is flattened axis by axis and converted as a whole. pyarrow is imported by the first call,
because a server starts without it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from servable.artifact.signature import Field
from servable.protocols import files
from servable.protocols.column_values import EXACT, Cells, Texts, WrongType, is_text, numbers
from servable.protocols.native_schema import cell_words, expectation, float_limit, tensor_limits

if TYPE_CHECKING:
    import pyarrow as pa


def tensor(column: "pa.Array", field: Field) -> Cells:
    """A column of lists as a tensor of the field's dtype, rows on the first axis.

    Where the field takes files, a column of bytes, or of texts that hold them, is an array of the files.

    Raises:
        WrongType: the lists are nested otherwise than the field's axes, or hold something else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if field.takes_files and (is_text(column.type) or _is_binary(column.type)):
        return _file_cells(column, field)
    rows, sizes, whole = len(column), [], str(column.type)
    for axis in field.shape:
        missing = _bad_rows(column.is_null(), rows) if column.null_count else None
        if missing is not None:
            return Cells(None, missing)
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise WrongType(whole)
        lengths = np.asarray(pc.list_value_length(column))
        size = axis if axis >= 0 else int(lengths[0]) if len(lengths) else 0
        uneven = _bad_rows(lengths != size, rows)
        if uneven is not None:
            free = "" if axis >= 0 else "tensors of one shape in all rows"
            return Cells(None, uneven, free)
        sizes.append(size)
        column = column.flatten()
    if column.null_count:
        return Cells(None, _bad_rows(column.is_null(), rows))
    values, wrong = _leaves(column, field.dtype, whole)
    bad = None if wrong is None else _bad_rows(wrong, rows)
    return Cells(values.reshape(rows, *sizes), bad, f"{expectation(field)}, of {cell_words(field.dtype)}")


def element(column: "pa.Array", name: str, dtype: str, texts: Texts | None) -> Cells:
    """A column that is one element of a tensor in each row, of the tensor's dtype.

    Args:
        column: one chunk of any type.
        name: of the column.
        dtype: of the tensor; none of texts.
        texts: see ``numbers``.

    Raises:
        WrongType: nothing of this type can be a number.
    """
    import pyarrow as pa

    limits = tensor_limits(dtype)
    if limits is not None and pa.types.is_integer(column.type) and not column.null_count:
        # A float64 does not hold every whole number.
        values, beyond = _leaves(column, dtype, str(column.type))
        return Cells(values, beyond if beyond is not None and beyond.any() else None, cell_words(dtype))
    wide = "bool" if dtype == "bool" else "float64"
    cells = numbers(column, Field(name=name, kind="number", dtype=wide), texts)
    values = cells.values
    if limits is not None:
        least, most = max(limits[0], -EXACT), min(limits[1], EXACT)
        wrong = (values < least) | (values > most) | (values != np.floor(values))
    else:
        # The limit of a wider dtype is infinity in a narrower one, and nothing is beyond it.
        with np.errstate(over="ignore"):
            wrong = np.isfinite(values) & (np.abs(values) > (1 if wide == "bool" else float_limit(dtype)))
    wrong = wrong if cells.bad is None else wrong | cells.bad
    values = np.where(wrong, 0, values).astype(dtype)
    return Cells(values, wrong if wrong.any() else None, cell_words(dtype))


def _file_cells(column: "pa.Array", field: Field) -> Cells:
    """Files as an object array of their bytes."""
    made: Any = np.empty(len(column), object)
    bad = np.zeros(len(column), bool)
    for row, value in enumerate(column.to_pylist()):
        try:
            made[row] = value if isinstance(value, bytes) else files.file_of(value or "")
        except ValueError:
            made[row] = b""
        bad[row] = not made[row]
    return Cells(made, bad if bad.any() else None, f"{files.words(field)} in base64 or as bytes")


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _leaves(column: "pa.Array", dtype: str, whole: str) -> tuple[Any, Any]:
    """The values of a tensor one after another, and which of them its dtype does not hold."""
    import pyarrow as pa

    kind = column.type
    if dtype == "str":
        if not is_text(kind):
            raise WrongType(whole)
        return column.to_numpy(zero_copy_only=False), None
    taken = {"b": pa.types.is_boolean, "i": pa.types.is_integer, "u": pa.types.is_integer}.get(
        np.dtype(dtype).kind, _is_number
    )
    if not taken(kind):
        raise WrongType(whole)
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == np.dtype(dtype) or dtype == "bool":
        return values, None
    limits = tensor_limits(dtype)
    if limits is None:
        # The limit of a wider dtype is infinity in a narrower one, and nothing is beyond it.
        with np.errstate(over="ignore"):
            wrong = np.isfinite(values) & (np.abs(values) > float_limit(dtype))
    else:
        # As Python numbers, so that no comparison is made in a dtype that rounds.
        least, most = limits
        outside = len(values) and not least <= int(values.min()) <= int(values.max()) <= most
        wrong = (values < least) | (values > most) if outside else np.zeros(len(values), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype), wrong


def _bad_rows(wrong: Any, rows: int) -> Any:
    """Which rows hold at least one wrong element, of equally many each; None when none does."""
    marked = np.asarray(wrong)
    if not marked.any():
        return None
    found = np.zeros(rows, bool)
    found[np.flatnonzero(marked) // (len(marked) // rows)] = True
    return found


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
