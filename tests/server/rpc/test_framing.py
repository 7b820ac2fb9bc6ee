"""Frames, encodings and statuses of gRPC."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import MediaTypeUnsupported, RequestMalformed, RequestTooLarge
from servable.server.problems import STATUS
from servable.server.rpc.framing import CODES, encoding_for, failed, frame, message_of, unpack


@given(st.binary(max_size=3000), st.sampled_from([b"", b"gzip", b"deflate"]))
def test_a_frame_is_read_back(message: bytes, encoding: bytes) -> None:
    data = frame(message, encoding)
    inside = message_of(data)
    assert (unpack(inside, encoding, 3000) if data[0] else inside) == message


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"\0\0\0\0\1", b"\2\0\0\0\0", b"\0\0\0\0\1ab"])
def test_anything_but_one_message_is_refused(data: bytes) -> None:
    with pytest.raises(RequestMalformed):
        message_of(data)


def test_compressed_messages_have_limits() -> None:
    with pytest.raises(RequestTooLarge):
        unpack(gzip.compress(b"x" * 100_000), b"gzip", 1000)
    with pytest.raises(RequestMalformed):
        unpack(b"no", b"deflate", 1000)
    with pytest.raises(MediaTypeUnsupported):
        unpack(zlib.compress(b"x"), b"snappy", 1000)


def test_an_answer_is_compressed_as_the_request_was() -> None:
    accepts = {b"grpc-accept-encoding": b"identity, deflate, gzip"}
    assert encoding_for(accepts) == b""
    assert encoding_for({**accepts, b"grpc-encoding": b"gzip"}) == b"gzip"
    assert encoding_for({b"grpc-encoding": b"gzip"}) == b""
    assert encoding_for({**accepts, b"grpc-encoding": b"snappy"}) == b""


def test_every_status_has_a_code() -> None:
    assert set(STATUS.values()) <= set(CODES)


def test_messages_are_escaped() -> None:
    assert failed(404, "100 % grün\n".encode()) == (
        (b"grpc-status", b"5"),
        (b"grpc-message", b"100 %25 gr%C3%BCn%0A"),
    )
