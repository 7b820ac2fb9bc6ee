"""The bytes of a text file as UTF-8 from any place on, whatever it is compressed and encoded with."""

import codecs
import re
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any, NamedTuple

from servable.errors import DataError
from servable.workflows.scoring.source import HEAD_BYTES, LONGEST_ROW, BadRow, Piece, reading

#: Endings of compressed files, and how Arrow calls what made them.
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_READ_BYTES = 1 << 20


class TextForm(NamedTuple):
    """How a text file is held.

    Attributes:
        compression: Arrow's name of it; empty for none.
        encoding: Python's name of it.
        mark: bytes before the text itself.
    """

    compression: str
    encoding: str
    mark: int


def form_of(path: Path) -> tuple[TextForm, bytes]:
    """How a file is held, and its first ``HEAD_BYTES`` as UTF-8.

    Raises:
        FileMissing: it is not there.
        DataError: empty, binary or damaged.
        StorageFailed: it cannot be read.
    """
    compression = COMPRESSIONS.get(path.suffix.lower(), "")
    with reading(path), path.open("rb") as raw:
        stream = _decompressed(raw, compression)
        head = _read(stream, HEAD_BYTES)
    if not head.strip():
        raise DataError(f"{path} is empty; it needs rows.")
    encoding, mark = _encoding(path, head)
    form = TextForm(compression, encoding, mark)
    if encoding == "utf-8":
        return form, head[mark:]
    return form, codecs.getincrementaldecoder(encoding)("replace").decode(head).encode()


def _encoding(path: Path, head: bytes) -> tuple[str, int]:
    """The encoding, by the rules by which training reads a file, and the length of a UTF-8 mark."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8", len(codecs.BOM_UTF8)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", 0
    control = sum(head[:65536].count(byte) for byte in (*range(1, 9), *range(14, 27)))
    if b"\x00" in head or control > len(head[:65536]) // 200:
        raise DataError(f"{path} is a binary file; give CSV, JSON lines or Parquet (ending .parquet).")
    try:
        # The head may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        # Chinese text in GB encodings has its high bytes in pairs, Western text mostly alone.
        runs = Counter(len(run) % 2 for run in re.findall(rb"[\x81-\xfe]+", head))
        return ("gb18030" if runs[0] > 9 * runs[1] else "cp1252"), 0
    return "utf-8", 0


def pieces(
    path: Path, form: TextForm, start: int, step: int, *, quoted: bool
) -> Generator[Piece, None, None]:
    """Cut a text file behind the ends of rows.

    Args:
        path: the file.
        form: see ``form_of``.
        start: byte of the text where the first piece begins.
        step: bytes of a piece, roughly.
        quoted: whether a line's end between quotation marks ends no row.

    Raises:
        BadRow: a row is longer than ``LONGEST_ROW``.
        DataError: the file is damaged.
        StorageFailed: it cannot be read.
    """
    with reading(path), path.open("rb") as raw:
        stream = _at(raw, form, start)
        held, ended = b"", False
        while not ended:
            while len(held) < step and not ended:
                # No more than that, so that a run that begins here later cuts in the same places.
                more = stream.read(step - len(held))
                ended = not more
                held += more
            cut = len(held) if ended else row_end(held, quoted=quoted)
            while not cut and not ended:
                if len(held) > LONGEST_ROW:
                    raise BadRow(
                        0, f"is longer than {LONGEST_ROW >> 20} MiB; is a quotation mark never closed?"
                    )
                more = stream.read(max(_READ_BYTES, len(held)))
                ended = not more
                held += more
                cut = len(held) if ended else row_end(held, quoted=quoted)
            if ended and quoted and held.count(b'"') % 2:
                raise BadRow(
                    0, "or one after it has a quotation mark that is never closed; is the file cut off?"
                )
            if cut:
                yield Piece(start, start + cut, held[:cut], float(raw.tell()))
            start, held = start + cut, held[cut:]


def row_end(text: bytes, *, quoted: bool) -> int:
    """Behind the last line's end in a text that begins with a row; 0 when it holds no whole row."""
    cut = text.rfind(b"\n")
    if quoted and cut >= 0:
        open_marks = text.count(b'"', 0, cut)
        while cut >= 0 and open_marks % 2:
            before = text.rfind(b"\n", 0, cut)
            open_marks -= text.count(b'"', max(before, 0), cut)
            cut = before
    return cut + 1


def _at(raw: IO[bytes], form: TextForm, start: int) -> Any:
    """A stream of UTF-8 that stands at a byte of the text."""
    if form.encoding == "utf-8":
        if not form.compression:
            raw.seek(form.mark + start)
            return raw
        stream = _decompressed(raw, form.compression)
        _skip(stream, form.mark + start)
        return stream
    recoded = _Recoded(_decompressed(raw, form.compression), form.encoding)
    _skip(recoded, start)
    return recoded


def _skip(stream: Any, count: int) -> None:
    while count > 0 and (passed := stream.read(min(count, _READ_BYTES))):
        count -= len(passed)


def _read(stream: Any, count: int) -> bytes:
    parts = []
    while count > 0 and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _decompressed(raw: IO[bytes], compression: str) -> Any:
    if not compression:
        return raw
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)


class _Recoded:
    """A stream of bytes in another encoding, read as UTF-8."""

    def __init__(self, stream: Any, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._held = b""
        self._ended = False

    def read(self, count: int) -> bytes:
        """At most so many bytes; none only at the end."""
        while not self._held and not self._ended:
            raw = self._stream.read(_READ_BYTES)
            self._ended = not raw
            self._held = self._decoder.decode(raw, final=self._ended).encode()
        taken, self._held = self._held[:count], self._held[count:]
        return taken
