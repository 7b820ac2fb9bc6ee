"""What a message of an Arrow IPC stream declares: its rows, and the bytes that it unfolds to.

The flatbuffer of a message is read by hand as far as that goes, with every offset checked, because
pyarrow tells of neither before it has unpacked everything.
"""

import struct
from typing import Any, NamedTuple

from servable.errors import RequestMalformed

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
#: Slots of the tables that are looked at, as Message.fbs of Arrow numbers them.
_HEADER_TYPE, _HEADER = 1, 2
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3
_DICTIONARY_DATA = 1
_HUGE = 2**62


class RecordBatchOutline(NamedTuple):
    """One batch of records, or of the values of a dictionary.

    Attributes:
        rows: as declared.
        size: bytes of its buffers once they are unpacked, as declared.
        dictionary: whether the rows are values of a dictionary.
    """

    rows: int
    size: int
    dictionary: bool


class _Table:
    """One table of a flatbuffer.

    Args:
        data: the whole buffer.
        place: where the table begins.
    """

    def __init__(self, data: memoryview, place: int) -> None:
        self._data = data
        self._place = place
        self._slots = place - self._read("<i", place)
        self._size = self._read("<H", self._slots)

    def _read(self, form: str, place: int) -> int:
        if place < 0:
            raise _damaged()
        try:
            return int(struct.unpack_from(form, self._data, place)[0])
        except struct.error as error:
            raise _damaged() from error

    def _field(self, slot: int) -> int:
        """Where a field lies; 0 when the table does not have it."""
        at = 4 + 2 * slot
        offset = self._read("<H", self._slots + at) if at + 2 <= self._size else 0
        return self._place + offset if offset else 0

    def number(self, slot: int, form: str) -> int:
        """A plain field; 0 when it is not there."""
        place = self._field(slot)
        return self._read(form, place) if place else 0

    def table(self, slot: int) -> "_Table | None":
        """A field that is a table."""
        place = self._field(slot)
        return _Table(self._data, place + self._read("<I", place)) if place else None

    def pairs(self, slot: int) -> list[tuple[int, int]]:
        """A field that is a list of two 64-bit numbers each."""
        place = self._field(slot)
        if not place:
            return []
        start = place + self._read("<I", place)
        count = self._read("<I", start)
        if count * 16 > len(self._data) - start:
            raise _damaged()
        return list(struct.iter_unpack("<qq", self._data[start + 4 : start + 4 + count * 16]))


def outline_of(metadata: memoryview, body: Any) -> RecordBatchOutline | None:
    """What one message declares; None when it holds no records.

    Args:
        metadata: the flatbuffer of the message, after its length.
        body: a buffer with what follows the flatbuffer, or None.

    Raises:
        RequestMalformed: the flatbuffer is damaged.
    """
    if len(metadata) < 8:
        raise _damaged()
    message = _Table(metadata, int.from_bytes(metadata[:4], "little"))
    kind = message.number(_HEADER_TYPE, "<B")
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return None
    batch = message.table(_HEADER)
    if batch is not None and kind == _DICTIONARY_BATCH:
        batch = batch.table(_DICTIONARY_DATA)
    if batch is None:
        raise _damaged()
    packed = batch.table(_COMPRESSION) is not None
    content = memoryview(body) if body is not None else memoryview(b"")
    size = sum(_unpacked(content, offset, length, packed) for offset, length in batch.pairs(_BUFFERS))
    rows = batch.number(_LENGTH, "<q")
    if rows < 0:
        raise _damaged()
    return RecordBatchOutline(rows, size, kind == _DICTIONARY_BATCH)


def _unpacked(content: memoryview, offset: int, length: int, packed: bool) -> int:
    """Bytes of one buffer; a packed one says at its beginning how many, or -1 when it is not packed."""
    if offset < 0 or length < 0 or offset + length > len(content):
        raise _damaged()
    if not packed or length < 8:
        return length
    declared = int.from_bytes(content[offset : offset + 8], "little", signed=True)
    if declared < -1:
        raise _damaged()
    return length - 8 if declared == -1 else min(declared, _HUGE)


def _damaged() -> RequestMalformed:
    return RequestMalformed("The body is no whole Arrow IPC stream; send the bytes as they were written.")
