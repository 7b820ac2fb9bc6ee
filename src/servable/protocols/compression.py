"""Compressed bodies: one content encoding to plain bytes, never more of them than allowed.

Every decoder writes at most a chunk beyond the limit before it is stopped, so a small body that
unfolds into gigabytes costs the limit and not more. And because many small bodies can each cost the
limit, a body may unfold to no more than ``RATIO`` times its size, or ``FREE`` bytes if that is more:
JSON shrinks by 5 to 20, and by 200 only where nearly all of it repeats.
"""

import zlib
from collections.abc import Callable

import zstandard

from servable.errors import MediaTypeUnsupported, RequestMalformed, RequestTooLarge
from servable.tensors import Body

#: How many times its size a body may unfold to.
RATIO = 200
#: Bytes to which any body may unfold.
FREE = 1 << 20
#: Bytes that a decoder may write at once.
_CHUNK = 1 << 18
# Bytes handed to a decoder at once. What is left over is copied after each gzip member, so this bounds
# the work that many tiny members cause.
_WINDOW = 1 << 16
_MOST_MEMBERS = 1024
_GZIP, _ZLIB, _RAW = 31, 15, -15
#: Zstandard frames that ask for a longer history are refused; 8 MiB is what RFC 8878 wants supported.
_ZSTD_WINDOW = 1 << 23


def decompress(encoding: str, body: Body, most: int) -> Body:
    """The plain bytes of a body.

    Args:
        encoding: the value of Content-Encoding: ``gzip``, ``deflate``, ``zstd``, ``identity`` or empty.
        body: as it was sent.
        most: the most bytes that may come out.

    Raises:
        MediaTypeUnsupported: an encoding that is not read, or several on top of each other.
        RequestMalformed: not of this encoding, cut short, or with something behind it.
        RequestTooLarge: more than ``most`` bytes would come out, or suspiciously many for the body's size.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        if len(body) > most:
            raise _too_large(most)
        return body
    decode = _DECODERS.get(name)
    if decode is None:
        said = "several encodings on top of each other" if "," in name else "an encoding that is not read"
        raise MediaTypeUnsupported(
            f"The header Content-Encoding names {said}; send the body as it is, or in one of "
            "gzip, deflate and zstd."
        )
    allowed = max(FREE, RATIO * len(body))
    if allowed >= most:
        return decode(body, most)
    try:
        return decode(body, allowed)
    except RequestTooLarge as error:
        raise RequestTooLarge(
            f"The body unfolds to more than {RATIO} times its size; send it without Content-Encoding."
        ) from error


def _too_large(most: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body holds more than the {most} bytes that are allowed once it is decompressed; "
        "send fewer rows at once."
    )


def _malformed(name: str, what: str) -> RequestMalformed:
    return RequestMalformed(f"The body is not {name} as its Content-Encoding says: {what}.")


def _gzip(body: Body, most: int) -> bytes:
    return _inflated(body, most, "gzip", _GZIP)


def _deflate(body: Body, most: int) -> bytes:
    """With the wrapper of zlib, as HTTP means it, or without, as some clients send it."""
    wrapped = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    if not wrapped:
        return _inflated(body, most, "deflate", _RAW)
    try:
        return _inflated(body, most, "deflate", _ZLIB)
    except RequestMalformed:
        # One in 500 raw streams begins like a wrapped one by chance.
        try:
            return _inflated(body, most, "deflate", _RAW)
        except RequestMalformed:
            pass
        raise


def _inflated(body: Body, most: int, name: str, form: int) -> bytes:
    """A whole zlib stream, or gzip members one after another."""
    source = memoryview(body)
    parts: list[bytes] = []
    size = position = members = 0
    pending: bytes | memoryview = b""
    decoder = zlib.decompressobj(form)
    while True:
        if not pending:
            pending = source[position : position + _WINDOW]
            position += len(pending)
            if not pending:
                raise _malformed(name, "it is empty" if not body else "it is cut short")
        try:
            part = decoder.decompress(pending, _CHUNK)
        except zlib.error as error:
            raise _malformed(
                name, "it is damaged" if size else "it does not begin or go on like that"
            ) from error
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        pending = decoder.unconsumed_tail
        if not decoder.eof:
            continue
        pending = decoder.unused_data
        if not pending and position == len(source):
            return b"".join(parts)
        members += 1
        if form != _GZIP or members >= _MOST_MEMBERS:
            raise _malformed(name, "something follows its end")
        decoder = zlib.decompressobj(form)


def _zstd(body: Body, most: int) -> bytes:
    """One Zstandard frame."""
    try:
        declared = zstandard.get_frame_parameters(body).content_size
    except zstandard.ZstdError as error:
        raise _malformed("zstd", "it does not begin like that") from error
    # Decompressors keep state while they work, so each body has its own.
    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        if declared == zstandard.CONTENTSIZE_UNKNOWN:
            return _undeclared(decoder, body, most)
        if declared > most:
            raise _too_large(most)
        # Exactly the declared bytes are set aside, and more than them is an error.
        return decoder.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _malformed("zstd", "it is damaged, cut short, or something follows its frame") from error


def _undeclared(decoder: zstandard.ZstdDecompressor, body: Body, most: int) -> bytes:
    """A frame that does not say its size, as streams are written: counted first, and then kept.

    The reader stops at a limit and does not tell an end from a cut; the other object tells, and has no limit.
    """
    size = 0
    with decoder.stream_reader(body) as reader:
        while part := reader.read(_CHUNK):
            size += len(part)
            if size > most:
                raise _too_large(most)
    whole = decoder.decompressobj()
    plain = whole.decompress(body)
    if not whole.eof or whole.unused_data:
        raise _malformed("zstd", "it is cut short, or something follows its frame")
    return plain


_DECODERS: dict[str, Callable[[Body, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
