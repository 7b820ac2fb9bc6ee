"""Bytes to requests: what is read, what is refused, whatever the pieces in which it comes."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import HeadersTooLarge, InputError, RequestMalformed, RequestTooLarge
from servable.server.http import HttpRequest
from servable.server.reader import BODY, HEAD, IDLE, PREFACE, RequestReader
from servable.settings import ServerSettings

LIMITS = ServerSettings(max_headers=20, max_header_bytes=2048, max_body_bytes=4096)
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /p?x=1 HTTP/1.1\r\nhost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n"
)


def read(*pieces: bytes, limits: ServerSettings = LIMITS) -> list[HttpRequest]:
    taken: list[HttpRequest] = []
    reader = RequestReader(limits, taken.append)
    for piece in pieces:
        reader.feed(piece)
    return taken


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]


def test_a_request_whole() -> None:
    (request,) = read(POST)
    assert (request.method, request.target, request.body) == (b"POST", b"/predict", b"hello")
    assert request.headers == {b"host": b"localhost", b"content-length": b"5"}
    assert request.keep_alive


@given(st.lists(st.integers(0, 400), max_size=12))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    requests = read(*pieces_of(POST + CHUNKED + POST, cuts))
    assert [request.body for request in requests] == [b"hello"] * 3
    assert [request.target for request in requests] == [b"/predict", b"/p?x=1", b"/predict"]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_whatever_comes_is_read_or_refused(data: bytes, cuts: list[int]) -> None:
    with contextlib.suppress(InputError):
        for request in read(*pieces_of(data, cuts)):
            assert b"host" in request.headers or not request.keep_alive


def test_how_far_it_has_come() -> None:
    reader = RequestReader(LIMITS, lambda request: None)
    seen = []
    for piece in (b"POST / HT", b"TP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n", b"ab", b"cd"):
        reader.feed(piece)
        seen.append((reader.arriving, reader.body_size))
    assert seen == [(HEAD, 0), (BODY, 0), (BODY, 2), (IDLE, 4)]


def test_repeated_headers_are_joined_unless_they_decide_something() -> None:
    (request,) = read(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: x\r\naccept: y\r\n\r\n")
    assert request.headers[b"accept"] == b"x, y"
    assert request.repeated == 1


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\nhello",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /\r\nHost: a\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)  # fmt: skip
def test_what_is_ambiguous_or_no_http_is_refused(head: bytes) -> None:
    with pytest.raises((RequestMalformed, RequestTooLarge)):
        read(head)
    with pytest.raises((RequestMalformed, RequestTooLarge)):
        read(*[bytes([byte]) for byte in head])


def test_limits() -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    with pytest.raises(HeadersTooLarge, match="20 headers"):
        read(start + b"".join(b"x%d: 1\r\n" % number for number in range(20)) + b"\r\n")
    with pytest.raises(HeadersTooLarge, match="20 headers"):
        read(start + b"x: 1\r\n" * 20 + b"\r\n")
    with pytest.raises(HeadersTooLarge, match="2048 bytes"):
        read(start + b"x: " + b"y" * 2100 + b"\r\n\r\n")
    with pytest.raises(HeadersTooLarge, match="2048 bytes"):
        read(start, *[b"x%d: yyyyyyyyyyyyyyy" % number for number in range(200)])
    with pytest.raises(HeadersTooLarge):
        read(*[b"GET /" + b"a" * 3000])
    with pytest.raises(RequestTooLarge, match="4096 bytes"):
        read(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4097\r\n\r\n")
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    with pytest.raises(RequestTooLarge, match="4096 bytes"):
        read(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + chunk)


def test_the_end_of_one_request_is_no_part_of_the_next_ones_head() -> None:
    start = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n"
    assert len(read(start, b"x" * 4000 + b"GET / HT", b"TP/1.1\r\nHost: a\r\n\r\n")) == 2


def test_old_clients_need_no_host_and_keep_nothing_open() -> None:
    (request,) = read(b"GET / HTTP/1.0\r\n\r\n")
    assert not request.keep_alive
    (request,) = read(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert not request.keep_alive


def test_an_offer_of_another_protocol_is_passed_over() -> None:
    taken: list[HttpRequest] = []
    reader = RequestReader(LIMITS, taken.append)
    offer = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    assert not reader.feed(offer)
    assert len(taken) == 1


def test_a_client_that_asks_for_leave() -> None:
    reader = RequestReader(LIMITS, lambda request: None)
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert reader.expects
    reader.feed(b"hello")
    assert not reader.expects


def test_http2_is_told_from_its_first_bytes() -> None:
    for cut in range(1, len(PREFACE)):
        reader = RequestReader(ServerSettings(), lambda _: None)
        assert reader.feed(PREFACE[:cut])
        assert not reader.http2
        assert not reader.feed(PREFACE[cut:] + b"\0\0")
        assert reader.http2 == PREFACE + b"\0\0"
