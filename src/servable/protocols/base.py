"""The Codec seam: one wire format, compiled for one signature.

A codec is pure. It reads no clock, opens no file, knows no web framework and holds no policy;
limits and access were settled before it is called. ``servable.testing.check_codec`` is the
conformance suite.
"""

from typing import Protocol

from servable.errors import ServableError
from servable.tensors import Body, Request, Response


class Codec(Protocol):
    """Decodes and encodes one wire format for one signature. Immutable and safe to share."""

    #: The content type of what ``encode`` returns.
    media_type: str

    def decode(self, body: Body, request_id: str) -> Request:
        """Bytes to a Request whose arrays fit the signature.

        Raises:
            RequestMalformed: the bytes are not this format.
            RequestInvalid: the values do not fit the signature; every problem is named by its path.
            RequestTooLarge: more rows than the codec was told to allow.
        """
        ...

    def encode(self, response: Response) -> bytes:
        """A Response to bytes. NaN and infinity never become invalid output."""
        ...

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """An error in this format's own shape; carries code and message, never a path or a traceback."""
        ...
