"""CSV on the native addresses: ``csv_rows`` reads it, and the content type may say whether it has names."""

from servable.artifact.signature import Signature
from servable.errors import MediaTypeUnsupported
from servable.protocols.base import HEAVY_BYTES, NO_HEAD, CodecLimits, Head, Heavy
from servable.protocols.csv_rows import CsvReader
from servable.protocols.native import NativeAnswer
from servable.protocols.rows import RowReader
from servable.tensors import Body, Request

_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
#: What the parameter ``header`` says of the first line; anything else says nothing.
_NAMED = {"present": True, "absent": False}


class CsvCodec(NativeAnswer, Heavy):
    """``text/csv``. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: most rows.
    """

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature)
        self._reader = CsvReader(signature, RowReader(signature, limits.max_rows), "inputs")

    def heavy(self, body: Body, head: Head) -> bool:
        """A long body."""
        return len(body) >= HEAVY_BYTES

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not CSV or not UTF-8.
            RequestInvalid: the values do not fit; every problem is named as ``inputs[17].age``, rows from 0.
            RequestTooLarge: more rows or columns than allowed.
            MediaTypeUnsupported: another charset.
        """
        said = _parameters(head)
        if said.get("charset", "").lower() not in _UTF_8:
            raise MediaTypeUnsupported("CSV is read in UTF-8; send it with charset=utf-8.")
        arrays, rows = self._reader.read(body, _NAMED.get(said.get("header", "").lower()))
        return Request(arrays, rows, request_id, False)


def _parameters(head: Head) -> dict[str, str]:
    """What the content type says besides its name."""
    said = {}
    for part in head.get(b"content-type", b"").decode("latin-1").split(";")[1:]:
        name, _, value = part.partition("=")
        said[name.strip().lower()] = value.strip().strip('"')
    return said
