"""The Codec seam: one wire format, compiled for one signature.

A codec is pure. It reads no clock, opens no file, knows no web framework and holds no policy;
limits and access were settled before it is called. ``servable.testing.check_codec`` is the
conformance suite.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from servable.artifact.signature import Signature
from servable.errors import ServableError
from servable.tensors import Body, Request, Response

#: A request's headers by name in small letters.
Head = Mapping[bytes, bytes]
NO_HEAD: Head = MappingProxyType({})
#: In a request, the version that a tester wants to be answered by; in an answer, the version that gave it,
#: where the format has no place for it.
VERSION_HEADER = b"x-servable-version"


def media_type_of(head: Head) -> str:
    """The content type of a body in small letters, without parameters; empty when the head names none."""
    return head.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


class Encoded(NamedTuple):
    """An answer whose form depends on what the caller asked for.

    Attributes:
        body: the bytes.
        media_type: their content type.
        headers: more headers of the answer, names in small letters.
    """

    body: bytes
    media_type: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class CodecLimits(NamedTuple):
    """What a codec refuses.

    Attributes:
        max_rows: more rows in one request.
        max_depth: JSON that is nested deeper.
        max_bytes: a body whose values take more bytes than this once they are unpacked.
    """

    max_rows: int = 100_000
    max_depth: int = 64
    max_bytes: int = 64 * 1024 * 1024


class Codec(Protocol):
    """Decodes and encodes one wire format for one signature. Immutable and safe to share.

    What a caller asks of the form of the answer is found in the request and nowhere else: ``decode`` puts
    it into ``Request.wish``, whose meaning only the codec knows, and ``encode`` finds it in the response.
    """

    #: The content type of what ``encode`` returns, unless that says another.
    media_type: str

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request whose arrays fit the signature.

        Args:
            body: the whole body, decompressed.
            request_id: kept in the Request.
            head: the request's headers, for formats that keep a part of themselves there.

        Raises:
            RequestMalformed: the bytes are not this format.
            RequestInvalid: the values do not fit the signature; every problem is named by its path.
            RequestTooLarge: more rows than the codec was told to allow.
        """
        ...

    def encode(self, response: Response) -> bytes | Encoded:
        """A Response to bytes. NaN and infinity never become invalid output."""
        ...

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """An error in this format's own shape; carries code and message, never a path or a traceback."""
        ...


class Writer(Protocol):
    """Writes one answer that comes in pieces. Belongs to one answer."""

    #: The content type of the whole.
    media_type: str
    #: More headers of the answer, names in small letters.
    headers: tuple[tuple[bytes, bytes], ...]

    def piece(self, response: Response) -> bytes:
        """The next piece, perhaps with what stands before the first.

        Args:
            response: whose arrays are a piece as ``StreamingPredictor.stream`` gives it, or a whole answer
                as the only piece.

        Raises:
            IndexError: a class index that the signature does not have.
            ValueError: values that the form cannot hold.
        """
        ...

    def end(self) -> bytes:
        """What stands after the last piece; may be empty."""
        ...

    def fail(self, error: ServableError) -> bytes:
        """What stands in the place of the end when the answer broke off.

        Raises:
            ServableError: the same, where errors travel beside the answer.
        """
        ...


class PieceCodec(Codec, Protocol):
    """A format that can also be answered in pieces."""

    def writer(self, request: Request, model: str, version: int) -> Writer:
        """The writer of the answer to a request.

        Args:
            request: as ``decode`` made it.
            model: that answers.
            version: of it.
        """
        ...


class Heavy:
    """Mixed into a codec of which some bodies take long to read, or a large library to be imported first.

    Whoever runs an event loop lets a thread read those, so that others are answered meanwhile.
    """

    def heavy(self, body: Body, head: Head) -> bool:
        """Whether ``decode`` may take more than about a millisecond.

        Args:
            body: as ``decode`` would get it.
            head: as ``decode`` would get it.
        """
        raise NotImplementedError


#: A body of text in rows and columns takes longer than a millisecond from about this size on.
HEAVY_BYTES = 16 * 1024
#: Compiles a format for a signature. Equal makers make equal codecs, so that one is kept for each model.
Maker = Callable[[Signature, CodecLimits], Codec]
