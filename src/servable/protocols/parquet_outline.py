"""What a Parquet file declares: its rows, and the bytes that its pages unfold to.

The footer and the header of each page are read by hand (Thrift's compact protocol, no more of it than that
needs). The sizes in the footer are only claims and the pages are what is unpacked; and the part of pyarrow
that tells of column chunks ends the whole process when a file contradicts itself there.
"""

from typing import Any, NamedTuple

from servable.errors import RequestMalformed, RequestTooLarge

#: A value takes no less than this once it is read, however well it was packed.
_LEAST_BYTES = 4
#: Values of footer and page headers that are looked at; a file of thousands of columns needs fewer.
_MOST_VALUES = 300_000
_MAGIC = b"PAR1"
#: Fields as parquet.thrift numbers them: of FileMetaData,
_FILE_ROWS, _GROUPS = 3, 4
#: of RowGroup and ColumnChunk,
_CHUNKS, _CHUNK_ABOUT = 1, 3
#: of ColumnMetaData,
_CHUNK_BYTES, _DATA_OFFSET, _DICTIONARY_OFFSET = 7, 9, 11
#: and of PageHeader and the headers within it.
_UNPACKED, _PACKED, _PAGE_VALUES = 2, 3, 1
_PAGES = (5, 7, 8)
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY = 0, 1, 2, 3, 7, 8
_LIST, _SET, _STRUCT = 9, 10, 12
_INTEGERS = frozenset({4, 5, 6})
_DEEPEST = 12


class ParquetOutline(NamedTuple):
    """What a file declares.

    Attributes:
        rows: of the whole file.
        size: bytes of all pages once they are unpacked.
    """

    rows: int
    size: int


class _Compact:
    """Reads structs of Thrift's compact protocol.

    Args:
        data: the whole file.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left = _MOST_VALUES
        self.place = 0

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

    def struct_at(self, place: int) -> dict[int, Any]:
        """The struct that begins at a place: whole numbers, lists and structs by field number."""
        self.place = place
        return self._struct(_DEEPEST)

    def _struct(self, levels: int) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while (byte := self._byte()) & 0x0F != _STOP:
            kind = byte & 0x0F
            number = number + (byte >> 4) if byte >> 4 else self._signed()
            value = None if kind in (_TRUE, _FALSE) else self._value(kind, levels - 1)
            if value is not None:
                found[number] = value
        return found

    def _value(self, kind: int, levels: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise RequestTooLarge("The Parquet file has more columns, row groups or pages than are read.")
        if kind in _INTEGERS:
            return self._signed()
        if kind == _STRUCT and levels:
            return self._struct(levels)
        if kind in (_LIST, _SET) and levels:
            return self._list(levels)
        if kind == _BINARY:
            size = self._number()
            self.place += size
            return None
        if kind in (_TRUE, _FALSE, _BYTE, _DOUBLE):
            self.place += 8 if kind == _DOUBLE else 1
            return None
        # Nothing that is looked at holds a map.
        raise _damaged()

    def _list(self, levels: int) -> list[Any]:
        byte = self._byte()
        count = byte >> 4 if byte >> 4 < 15 else self._number()
        return [self._value(byte & 0x0F, levels - 1) for _ in range(count)]


def outline_of(body: memoryview) -> ParquetOutline:
    """What a file declares.

    Args:
        body: the whole file.

    Raises:
        RequestMalformed: no such file, or places beyond its end.
        RequestTooLarge: more columns or pages than are read.
    """
    end = len(body) - 8
    if end < len(_MAGIC) or body[:4] != _MAGIC or body[end + 4 :] != _MAGIC:
        raise _damaged()
    start = end - int.from_bytes(body[end : end + 4], "little")
    reader = _Compact(body[:end])
    about = reader.struct_at(start)
    rows = about.get(_FILE_ROWS)
    if not isinstance(rows, int) or rows < 0:
        raise _damaged()
    chunks = [
        _struct_of(chunk, _CHUNK_ABOUT)
        for group in _list_of(about, _GROUPS)
        for chunk in _list_of(group, _CHUNKS)
    ]
    return ParquetOutline(rows, sum(_chunk_bytes(reader, chunk, start) for chunk in chunks))


def _chunk_bytes(reader: _Compact, chunk: dict[int, Any], footer: int) -> int:
    first, data = chunk.get(_DICTIONARY_OFFSET), chunk.get(_DATA_OFFSET)
    length = chunk.get(_CHUNK_BYTES)
    if not isinstance(data, int) or not isinstance(length, int):
        raise _damaged()
    place = min(first, data) if isinstance(first, int) and first > 0 else data
    end = place + length
    if place < 0 or length < 0 or end > footer:
        raise _damaged()
    size = 0
    while place < end:
        header = reader.struct_at(place)
        unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            raise _damaged()
        values = 0
        for kind in _PAGES:
            count = _struct_of(header, kind).get(_PAGE_VALUES, 0) if kind in header else 0
            values = max(values, count if isinstance(count, int) else 0)
        size += max(unpacked, values * _LEAST_BYTES)
        place = reader.place + packed
        if place > end:
            raise _damaged()
    return size


def _list_of(about: dict[int, Any], number: int) -> list[dict[int, Any]]:
    found = about.get(number, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _damaged()
    return found


def _struct_of(about: dict[int, Any], number: int) -> dict[int, Any]:
    found = about.get(number)
    if not isinstance(found, dict):
        raise _damaged()
    return found


def _damaged() -> RequestMalformed:
    return RequestMalformed("The body is no whole Parquet file; send the bytes as they were written.")
