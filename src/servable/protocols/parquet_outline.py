"""What the pages of a Parquet file declare: the bytes that they unfold to.

The header of each page is read by hand (Thrift's compact protocol, no more of it than that needs), because
the figures of the footer are only claims and the pages are what is unpacked.
"""

from typing import Any

from servable.errors import RequestMalformed

#: A value takes no less than this once it is read, however well it was packed.
_LEAST_BYTES = 4
#: Fields of PageHeader, as parquet.thrift numbers them.
_UNPACKED, _PACKED = 2, 3
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 5, 7, 8
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY = 0, 1, 2, 3, 7, 8
_LIST, _SET, _STRUCT = 9, 10, 12
_INTEGERS = frozenset({4, 5, 6})
_DEEPEST = 8
_MOST_PAGES = 1_000_000


class _Compact:
    """Reads structs of Thrift's compact protocol."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data = data
        self.place = place

    def _byte(self) -> int:
        if not 0 <= self.place < len(self._data):
            raise _damaged()
        self.place += 1
        return self._data[self.place - 1]

    def _number(self) -> int:
        """An unsigned number of up to 64 bits."""
        found = shift = 0
        while shift < 70:
            byte = self._byte()
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7
        raise _damaged()

    def _signed(self) -> int:
        number = self._number()
        return (number >> 1) ^ -(number & 1)

    def struct(self, levels: int = _DEEPEST) -> dict[int, Any]:
        """The whole numbers and the structs of a struct by their field number; all else is passed over."""
        if not levels:
            raise _damaged()
        found: dict[int, Any] = {}
        number = 0
        while (byte := self._byte()) & 0x0F != _STOP:
            kind = byte & 0x0F
            number = number + (byte >> 4) if byte >> 4 else self._signed()
            value = self._value(kind, levels - 1)
            if value is not None:
                found[number] = value
        return found

    def _value(self, kind: int, levels: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return None
        if kind in _INTEGERS:
            return self._signed()
        if kind == _STRUCT:
            return self.struct(levels)
        if kind in (_BYTE, _DOUBLE, _BINARY):
            size = {_BYTE: 1, _DOUBLE: 8}.get(kind) or self._number()
            self.place += size
            return None
        if kind in (_LIST, _SET) and levels:
            return self._pass_list(levels)
        # No header of a page holds a map.
        raise _damaged()

    def _pass_list(self, levels: int) -> None:
        byte = self._byte()
        kind = byte & 0x0F
        count = byte >> 4 if byte >> 4 < 15 else self._number()
        for _ in range(count):
            # Every one takes at least a byte, so that a false count comes to an end.
            self._value(_BYTE if kind in (_TRUE, _FALSE) else kind, levels - 1)
            if self.place > len(self._data):
                raise _damaged()


def unpacked_bytes(body: memoryview, about: Any, columns: frozenset[str] | None) -> int:
    """Bytes of all pages once they are unpacked, as each of them declares it.

    Args:
        body: the whole file.
        about: pyarrow's ``FileMetaData``.
        columns: those that are read; None for all.

    Raises:
        RequestMalformed: headers that are none, or beyond the end of the file.
    """
    size = 0
    for group in range(about.num_row_groups):
        row_group = about.row_group(group)
        for place in range(row_group.num_columns):
            column = row_group.column(place)
            if columns is None or _belongs(column.path_in_schema, columns):
                size += _column_bytes(body, column)
    return size


def _belongs(path: str, columns: frozenset[str]) -> bool:
    """Whether a path is one of the columns or lies within one; names may hold dots themselves."""
    return path in columns or any(
        path[:place] in columns for place, character in enumerate(path) if character == "."
    )


def _column_bytes(body: memoryview, column: Any) -> int:
    first = column.dictionary_page_offset
    start = column.data_page_offset if first is None else min(first, column.data_page_offset)
    end = start + column.total_compressed_size
    if start < 0 or end > len(body):
        raise _damaged()
    size = pages = 0
    while start < end:
        reader = _Compact(body, start)
        header = reader.struct()
        unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
        pages += 1
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            raise _damaged()
        values = 0
        for kind in (_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2):
            inner = header.get(kind)
            if isinstance(inner, dict):
                values = max(values, inner.get(1, 0))
        size += max(unpacked, values * _LEAST_BYTES)
        start = reader.place + packed
        if start > end or pages > _MOST_PAGES:
            raise _damaged()
    return size


def _damaged() -> RequestMalformed:
    return RequestMalformed("The body is no whole Parquet file; send the bytes as they were written.")
