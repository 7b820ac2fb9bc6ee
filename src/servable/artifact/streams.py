"""Reading a file that may be hostile: bounded, through whatever compression joblib may have used."""

import bz2
import gzip
import io
import lzma
import zlib
from typing import IO, Protocol

#: Beyond this many bytes, after decompression, nobody looks any further.
LARGEST = 8 * 1024**3
#: A line of a protocol 0 pickle is at most this long.
LONGEST_LINE = 64 * 1024
#: How a compressed file begins; ``lz4`` is named to say so, since nothing here reads it.
COMPRESSIONS: dict[bytes, str] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ": "xz",
    b"]\x00": "lzma",
    b"\x78": "zlib",
    b"\x04\x22\x4d\x18": "lz4",
}
#: How much is decompressed at a time.
_CHUNK = 1 << 16


class BrokenStream(Exception):
    """The bytes end too early, or are not what they should be; the message says where."""


class EnoughSeen(Exception):
    """A limit was reached: what was seen so far is all that will be seen."""


class _Reading(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...

    def readline(self, size: int = -1, /) -> bytes: ...


class _ZlibFile(io.RawIOBase):
    """A bare zlib stream as a file, decompressed a piece at a time."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._engine = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # typeshed wants any buffer
        room = len(buffer)
        while not self._engine.eof:
            data = self._engine.unconsumed_tail or self._raw.read(_CHUNK)
            piece = self._engine.decompress(data, room)
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            if not data:
                raise EOFError("compressed data ended before its end mark")
        return 0


class Stream:
    """Exact reads from a file, counted against ``LARGEST``."""

    def __init__(self, file: _Reading) -> None:
        self._file = file
        self.position = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, which the caller keeps small.

        Raises:
            BrokenStream: the file ends before.
            EnoughSeen: beyond the limit.
        """
        self._advance(size)
        data = self._file.read(size)
        if len(data) != size:
            raise BrokenStream("it ends in the middle")
        return data

    def skip(self, size: int) -> None:
        """Pass over bytes, holding few of them.

        Raises:
            BrokenStream: the file ends before.
            EnoughSeen: beyond the limit.
        """
        while size > 0:
            size -= len(self.take(min(size, 1 << 20)))

    def line(self) -> bytes:
        """The bytes up to the next line feed, without it.

        Raises:
            BrokenStream: there is none within ``LONGEST_LINE``.
        """
        data = self._file.readline(LONGEST_LINE)
        self._advance(len(data))
        if not data.endswith(b"\n"):
            raise BrokenStream("a line does not end")
        return data[:-1]

    def _advance(self, size: int) -> None:
        self.position += size
        if self.position > LARGEST:
            raise EnoughSeen


def compression_of(head: bytes) -> str:
    """The compression that these first bytes announce; empty for none."""
    for magic, name in COMPRESSIONS.items():
        if head.startswith(magic):
            return name
    return ""


def decompressed(file: IO[bytes], compression: str) -> Stream:
    """A stream over the content of an open file.

    Args:
        file: at its beginning.
        compression: from ``compression_of``; ``lz4`` is not read here.
    """
    if compression == "zlib":
        return Stream(io.BufferedReader(_ZlibFile(file), _CHUNK))
    if compression == "gzip":
        return Stream(io.BufferedReader(gzip.GzipFile(fileobj=file), _CHUNK))
    if compression == "bz2":
        return Stream(io.BufferedReader(bz2.BZ2File(file), _CHUNK))
    if compression in ("xz", "lzma"):
        return Stream(io.BufferedReader(lzma.LZMAFile(file), _CHUNK))
    return Stream(file)
