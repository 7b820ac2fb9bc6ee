"""Rows that a caller has in memory, in whatever form, as a DataFrame."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from servable.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_FORMS = "a CSV or Parquet file, a DataFrame, an array of rows and columns, or a list of rows"


def frame_of(data: Any, names: Sequence[str] = ()) -> "pd.DataFrame":
    """A DataFrame of what was handed in.

    Args:
        data: a DataFrame, also of Polars or Arrow; an array or a sparse matrix ``[rows, columns]`` or
            ``[rows]``; a list of rows, each a list, a dictionary or a single value; or columns by name.
        names: of the columns, where the data has none and as many; else they are ``x0``, ``x1`` ...

    Raises:
        DataError: it is none of these, holds no row, or its rows have not as many values each.
    """
    import numpy as np
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, pd.Series):
        return data.to_frame() if data.name is not None else _named(data.to_frame(), names)
    if hasattr(data, "to_pandas"):
        made: Any = data.to_pandas()
        return frame_of(made, names)
    if hasattr(data, "toarray"):
        data = data.toarray()
    if isinstance(data, np.ndarray):
        return _of_array(data, names)
    if isinstance(data, Mapping):
        try:
            return pd.DataFrame({str(name): list(column) for name, column in data.items()})
        except (TypeError, ValueError) as error:
            raise DataError(f"The columns cannot be read as a table ({error}); give {_FORMS}.") from error
    if isinstance(data, list | tuple):
        return _of_rows(data, names)
    raise DataError(f"Rows cannot be read from an object of type {type(data).__name__}; give {_FORMS}.")


def _of_array(array: Any, names: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    if array.dtype.names:
        return pd.DataFrame(array.ravel())
    if array.ndim not in (1, 2) or not array.size:
        raise DataError(
            f"An array of shape {list(array.shape)} is no table with rows; give one of shape [rows, columns]."
        )
    # Numbers among texts in an array of objects are numbers.
    return _named(pd.DataFrame(array).infer_objects(), names)


def _of_rows(rows: "Sequence[Any]", names: Sequence[str]) -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    if not rows:
        raise DataError("There are no rows; give at least one.")
    if all(isinstance(row, Mapping) for row in rows):
        return pd.DataFrame([dict(row) for row in rows])
    lists = [isinstance(row, list | tuple) or (isinstance(row, np.ndarray) and row.ndim == 1) for row in rows]
    if not any(lists):
        if any(
            isinstance(row, Mapping) or (hasattr(row, "__len__") and not isinstance(row, str)) for row in rows
        ):
            raise DataError(f"The rows are of several forms; give {_FORMS}.")
        return _named(pd.DataFrame({0: list(rows)}), names)
    if not all(lists) or len({len(row) for row in rows}) > 1:
        raise DataError("The rows of a list must all be lists with as many values, or all be dictionaries.")
    return _named(pd.DataFrame([list(row) for row in rows]), names)


def _named(frame: "pd.DataFrame", names: Sequence[str]) -> "pd.DataFrame":
    count = frame.shape[1]
    known = [str(name) for name in names] if len(names) == count else [f"x{place}" for place in range(count)]
    return frame.set_axis(known, axis="columns")
