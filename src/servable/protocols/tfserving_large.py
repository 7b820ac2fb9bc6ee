"""Large bodies of numbers in the formats around TensorFlow Serving's, read as ``native_large`` reads ours.

Those with words of their own are taken as they are. A bare list, and a single tensor by name, are put into
such words first: what then parses as a body of one key was one. Everything else is left to the ordinary
ways.
"""

import re

from servable.artifact.signature import Signature
from servable.protocols.native_large import LARGE_BYTES, Found, LargeReader, reads_large

_INPUTS = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"inputs"')
_NAMED = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"inputs"[ \t\r\n]*:[ \t\r\n]*\{[ \t\r\n]*"([^"\\]+)"[ \t\r\n]*:')
_OPENED = re.compile(rb"[ \t\r\n\[]*")
_CLOSED = re.compile(rb"\}[ \t\r\n]*\}[ \t\r\n]*$")
#: The end of a body in which its last two braces are looked for.
_END = 64


class LargeBodies:
    """Reads large bodies for one signature. Immutable and safe to share.

    Args:
        signature: any; nothing is read for one whose bodies are not worth it.
    """

    def __init__(self, signature: Signature) -> None:
        fields = signature.inputs
        worth = reads_large(signature)
        self._reader = LargeReader(signature, ("instances", "inputs"), "row") if worth else None
        table = worth and not fields[0].is_tensor
        #: Levels of lists in one row; None when rows cannot stand bare.
        self._levels = 1 if table else len(fields[0].shape) if len(fields) == 1 else None
        #: Names that mean a column, where a table is shown as one tensor.
        self._columns = frozenset(field.name.encode() for field in fields) if len(fields) > 1 else frozenset()
        self._named = table or len(fields) == 1

    def rows(self, body: bytes) -> tuple[Found, bool] | None:
        """The numbers under ``instances`` or ``inputs``, and whether it was ``inputs``; None when unusual."""
        if self._reader is None or len(body) < LARGE_BYTES:
            return None
        columns = _INPUTS.match(body) is not None
        named = _NAMED.match(body) if columns and self._named else None
        found = self._reader.read(body) if named is None else self._by_name(self._reader, body, named)
        # A row on its own has no word in these formats.
        return None if found is None or found[2] else (found, columns)

    def _by_name(self, reader: LargeReader, body: bytes, named: re.Match[bytes]) -> Found | None:
        closed = _CLOSED.search(body, max(0, len(body) - _END))
        if closed is None or named[1] in self._columns:
            return None
        return reader.read(b'{"inputs":' + body[named.end() : closed.start()] + b"}")

    def bare(self, body: bytes) -> Found | None:
        """The numbers of a list of rows, or of a list that is a row; None when unusual."""
        if self._reader is None or self._levels is None or len(body) < LARGE_BYTES:
            return None
        opened = _OPENED.match(body)
        levels = opened[0].count(b"[") if opened else 0
        if levels not in (self._levels, self._levels + 1):
            return None
        word = b'{"row":' if levels == self._levels else b'{"inputs":'
        return self._reader.read(word + body + b"}")
