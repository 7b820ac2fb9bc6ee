"""The large case of CSV: long tables of the plain kind, as columns by pyarrow.

Only what certainly means here what it means in ``csv_rows`` is read. Everything else - a value that does not
fit, a record of another length, a column that is absent, quotes that RFC 4180 does not have - gives None,
and ``csv_rows`` accepts it or names what is wrong with it. So the meaning is written down once, and without
pyarrow nothing but the time differs.
"""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.artifact.signature import Signature
from servable.errors import DependencyMissing
from servable.protocols.base import HEAVY_BYTES
from servable.protocols.column_values import Texts
from servable.protocols.columns import ColumnReader, need_arrow

if TYPE_CHECKING:
    import pyarrow as pa

BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20
#: A cell within quotes, from the end of the cell before it to its own.
_QUOTED = re.compile(rb'(?:\A|(?<=[,\r\n]))"(?:[^"]++|"")*+"(?=[,\r\n]|\Z)')


class LargeCsv:
    """Reads long tables for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes.
        most_columns: more of them are not read here.
    """

    def __init__(self, signature: Signature, most_columns: int) -> None:
        self._reader = ColumnReader(signature, texts=Texts())
        self._names = tuple(field.name for field in signature.inputs)
        self._most_columns = most_columns
        only = signature.inputs[0] if len(signature.inputs) == 1 else None
        #: Whether the elements of the only tensor are columns of their own.
        self._spread = only is not None and only.is_tensor
        flat = only is not None and len(only.shape) == 1 and only.dtype.startswith("float")
        self._takes = flat if self._spread else not any(field.is_tensor for field in signature.inputs)

    def read(self, text: bytes, names: list[str] | None, skipped: int) -> tuple[dict[str, Any], int] | None:
        """Packed arrays and how many rows they hold; None when the text is short or anything is unusual.

        Args:
            text: without a byte order mark.
            names: of the columns, in the first record; None where it holds values.
            skipped: lines of the first record.
        """
        if len(text) < HEAVY_BYTES or not self._takes or not _is_plain(text):
            return None
        called = self._columns(text, names)
        if called is None:
            return None
        try:
            need_arrow()
        except DependencyMissing:
            return None
        table = _table(text, *called, skipped if names is not None else 0)
        if table is None or not table.num_rows:
            return None
        found = self._reader.look(table)
        if found.problems or (self._spread and not all(map(_is_finite, found.arrays.values()))):
            return None
        return found.arrays, table.num_rows

    def _columns(self, text: bytes, names: list[str] | None) -> tuple[list[str], list[str]] | None:
        """What the columns are called, and those of them that are read."""
        if self._spread:
            first = names if names is not None else text[: text.find(b"\n")].split(b",")
            called = [str(place) for place in range(len(first))]
            return called, called
        if names is None:
            return list(self._names), list(self._names)
        if any(names.count(name) != 1 for name in self._names):
            return None
        known = set(self._names)
        # What is not read needs a name of its own all the same.
        called = [name if name in known else f"{name} ({place})" for place, name in enumerate(names)]
        return called, list(self._names)


def _is_finite(array: Any) -> bool:
    return bool(np.isfinite(array).all())


def _is_plain(text: bytes) -> bool:
    """Whether quotes stand around whole cells only, where all readers of CSV agree on what they mean."""
    return b'"' not in text or b'"' not in _QUOTED.sub(b"", text)


def _table(text: bytes, names: list[str], wanted: list[str], skipped: int) -> "pa.Table | None":
    """All records behind the names as columns of text; None when one is of another length."""
    import pyarrow as pa
    from pyarrow import csv

    read = csv.ReadOptions(
        use_threads=False, block_size=max(_BLOCK, len(text)), column_names=names, skip_rows=skipped
    )
    typed = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=wanted)
    parsed = csv.ParseOptions(newlines_in_values=True)
    try:
        with csv.open_csv(pa.BufferReader(text), read, parsed, typed) as stream:
            return stream.read_all()
    except (pa.ArrowException, OSError, ValueError):
        return None
