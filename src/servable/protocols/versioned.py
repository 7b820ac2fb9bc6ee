"""The version that answered as a header, for formats whose answers have no place for it."""

import msgspec

from servable.artifact.signature import Signature
from servable.errors import ServableError
from servable.protocols.base import (
    NO_HEAD,
    VERSION_HEADER,
    Codec,
    CodecLimits,
    Encoded,
    Head,
    Heavy,
    Maker,
)
from servable.tensors import Body, Request, Response


class VersionedCodec(Heavy):
    """Reads and answers as another codec does, and names the version beside. Immutable and safe to share.

    Args:
        codec: the other.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.media_type = codec.media_type

    def heavy(self, body: Body, head: Head) -> bool:
        """As the other says."""
        return isinstance(self._codec, Heavy) and self._codec.heavy(body, head)

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """As the other does; raises what it raises."""
        return self._codec.decode(body, request_id, head)

    def encode(self, response: Response) -> Encoded:
        """As the other does, with the version among the headers."""
        encoded = self._codec.encode(response)
        named = (VERSION_HEADER, b"%d" % response.version)
        if isinstance(encoded, Encoded):
            return encoded._replace(headers=(*encoded.headers, named))
        return Encoded(encoded, self.media_type, (named,))

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As the other does."""
        return self._codec.encode_error(error, request_id)


class Versioned(msgspec.Struct, frozen=True):
    """Makes the ``VersionedCodec`` around what another maker makes; see ``base.Maker``."""

    maker: Maker

    def __call__(self, signature: Signature, limits: CodecLimits) -> VersionedCodec:
        """The codec for a signature."""
        return VersionedCodec(self.maker(signature, limits))
