"""Requests that are wrong as HTTP, or that two programs could read differently: one vector each."""

from typing import NamedTuple

BODY = b'{"input":[5.1,3.5,1.4,0.2]}'
_POST = b"POST /predict HTTP/1.1\r\n"
_HOST = b"Host: localhost\r\n"
_TYPE = b"Content-Type: application/json\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(BODY)
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
_GOOD = _POST + _HOST + _TYPE + _LENGTH + b"\r\n" + BODY
_CLOSE = b"Connection: close\r\n"


class Vector(NamedTuple):
    """One way to be wrong.

    Attributes:
        name: what it is.
        wire: everything that is sent.
        answers: how many answers of 2xx are right.
        half_close: whether the client closes its side after it.
        pieces: the same in pieces, when it matters.
    """

    name: str
    wire: bytes
    answers: int = 0
    half_close: bool = False
    pieces: tuple[bytes, ...] = ()


def _with(*headers: bytes, body: bytes = BODY, first: bytes = _POST) -> bytes:
    return first + b"".join(headers) + _TYPE + b"\r\n" + body


def _header(line: bytes) -> bytes:
    return _with(_HOST, _LENGTH, line)


def _target(target: bytes, method: bytes = b"POST") -> bytes:
    return _with(_HOST, _LENGTH, first=method + b" " + target + b" HTTP/1.1\r\n")


def _framing() -> list[Vector]:
    lengths = {
        "twice the same length": _LENGTH * 2,
        "two lengths": _LENGTH + b"Content-Length: 5\r\n",
        "a list of lengths": b"Content-Length: 27, 27\r\n",
        "a signed length": b"Content-Length: +27\r\n",
        "a negative length": b"Content-Length: -1\r\n",
        "a hexadecimal length": b"Content-Length: 0x1b\r\n",
        "an empty length": b"Content-Length:\r\n",
        "a length of words": b"Content-Length: many\r\n",
        "a length with a tail": b"Content-Length: 27a\r\n",
        "a length of 2^64": b"Content-Length: 18446744073709551616\r\n",
        "a length of 100 digits": b"Content-Length: " + b"9" * 100 + b"\r\n",
        "a length of 2^62": b"Content-Length: %d\r\n" % 2**62,
        "a length with an underscore": b"Content-Length: 2_7\r\n",
        "a length in other digits": "Content-Length: ٢٧\r\n".encode(),
        "a fractional length": b"Content-Length: 27.0\r\n",
    }
    codings = {
        "an unknown coding": b"Transfer-Encoding: xchunked\r\n",
        "identity as a coding": b"Transfer-Encoding: identity\r\n",
        "chunks not last": b"Transfer-Encoding: chunked, identity\r\n",
        "a vertical tab before chunked": b"Transfer-Encoding: \x0bchunked\r\n",
        "a quoted coding": b'Transfer-Encoding: "chunked"\r\n',
        "chunked twice": _CHUNKED * 2,
        "a space before the colon of the coding": b"Transfer-Encoding : chunked\r\n",
        "two codings": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    }
    return [
        Vector("a length and chunks", _with(_HOST, _LENGTH, _CHUNKED, body=_CHUNKS)),
        Vector("chunks and a length", _with(_HOST, _CHUNKED, _LENGTH, body=_CHUNKS)),
        Vector("chunks and a length of 0", _with(_HOST, _CHUNKED, b"Content-Length: 0\r\n", body=_CHUNKS)),
        *(Vector(name, _with(_HOST, header)) for name, header in lengths.items()),
        *(
            Vector(name, _with(_HOST, header, body=_CHUNKS), half_close=True)
            for name, header in codings.items()
        ),
    ]


def _chunks() -> list[Vector]:
    bad = {
        "a chunk size of letters": b"zz\r\n" + BODY,
        "a negative chunk size": b"-1b\r\n" + BODY,
        "a marked chunk size": b"0x1b\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a huge chunk size": b"f" * 20 + b"\r\n" + BODY,
        "a chunk size of 2^63": b"8000000000000000\r\n" + BODY,
        "an empty chunk size": b"\r\n" + BODY,
        "a space before a chunk size": b" 1b\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a chunk longer than it says": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a chunk shorter than it says": b"ff\r\n" + BODY + b"\r\n0\r\n\r\n",
        "bare line feeds in chunks": b"1b\n" + BODY + b"\n0\n\n",
        "no end of chunks": b"1b\r\n" + BODY + b"\r\n",
        "a chunk size with NUL": b"1b\x00\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a chunk extension that is no token": b"1b;\x00=\x01\r\n" + BODY + b"\r\n0\r\n\r\n",
    }
    fine = {
        "a chunk extension": b"1b;name=value\r\n" + BODY + b"\r\n0\r\n\r\n",
        "leading zeros of a chunk size": b"000001b\r\n" + BODY + b"\r\n0\r\n\r\n",
        "trailers": b"1b\r\n" + BODY + b"\r\n0\r\nX-More: 1\r\n\r\n",
        "a long chunk extension": b"1b;" + b"x" * 10_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a trailer that says a length": b"1b\r\n" + BODY + b"\r\n0\r\nContent-Length: 5\r\n\r\n",
        "chunks of one byte": b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
    }
    return [
        *(Vector(name, _with(_HOST, _CHUNKED, body=body), half_close=True) for name, body in bad.items()),
        *(Vector(name, _with(_HOST, _CHUNKED, _CLOSE, body=body), answers=1) for name, body in fine.items()),
    ]


def _headers() -> list[Vector]:
    bad = {
        "a bare line feed after a header": b"X-A: 1\nX-B: 2\r\n",
        "a bare carriage return": b"X-A: 1\rX-B: 2\r\n",
        "a folded line": b"X-A: 1\r\n 2\r\n",
        "a line folded by a tab": b"X-A: 1\r\n\t2\r\n",
        "a space before the colon": b"X-A : 1\r\n",
        "a tab before the colon": b"X-A\t: 1\r\n",
        "NUL in a value": b"X-A: a\x00b\r\n",
        "NUL in a name": b"X\x00A: 1\r\n",
        "a control character in a value": b"X-A: a\x01b\r\n",
        "an escape in a value": b"X-A: a\x1b[31m\r\n",
        "no colon": b"X-A 1\r\n",
        "no name": b": 1\r\n",
        "a name in brackets": b"X[A]: 1\r\n",
        "a name that is not ASCII": "X-É: 1\r\n".encode(),
        "two hosts": _HOST,
        "another host beside": b"Host: example.com\r\n",
        "a header of 100 kB": b"X-A: " + b"a" * 100_000 + b"\r\n",
        "10,000 headers": b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)),
        "101 headers": b"".join(b"X-%d: 1\r\n" % number for number in range(101)),
        "10,000 times one header": b"X-A: 1\r\n" * 10_000,
        "a name of 100 kB": b"a" * 100_000 + b": 1\r\n",
        "two types": _TYPE,
    }
    fine = {
        "latin letters in a value": "X-A: é\r\n".encode("latin-1"),
        "an empty value": b"X-A:\r\n",
        "a tab in a value": b"X-A: a\tb\r\n",
        "two connections": b"Connection: keep-alive\r\nConnection: close\r\n",
        "an unknown connection": b"Connection: x, y, z\r\n",
        "an expectation": b"Expect: 100-continue\r\n",
        "an unknown expectation": b"Expect: magic\r\n",
        "another protocol": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "HTTP/2 without TLS": b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    }
    return [
        *(Vector(name, _header(line)) for name, line in bad.items()),
        *(Vector(name, _header(line), answers=1) for name, line in fine.items()),
        Vector("no host", _with(_LENGTH)),
        Vector("an empty host", _with(b"Host:\r\n", _LENGTH)),
        Vector("a host with a user", _with(b"Host: localhost@example.com\r\n", _LENGTH)),
        Vector("a foreign host", _with(b"Host: example.com\r\n", _LENGTH)),
        Vector("a space before the first header", _POST + b" X-A: 1\r\n" + _HOST + _LENGTH + b"\r\n" + BODY),
    ]


def _first_lines() -> list[Vector]:
    bad = [
        b"POST /predict\r\n", b"POST /predict HTTP/2.0\r\n", b"POST /predict HTTP/9.9\r\n",
        b"POST /predict HTTP/1.1x\r\n", b"POST /predict HTTP/1\r\n",
        b"POST /predict http/1.1\r\n", b"POST /predict HTTP/1.1\n", b"POST  HTTP/1.1\r\n",
        b"POST /pre dict HTTP/1.1\r\n", b"POST\t/predict\tHTTP/1.1\r\n",
        b"post /predict HTTP/1.1\r\n", b"FOO /predict HTTP/1.1\r\n", b"P\x00ST /predict HTTP/1.1\r\n",
        b" POST /predict HTTP/1.1\r\n", b"POST /pre\x00dict HTTP/1.1\r\n",
        b"/predict\r\n", b"\x00\r\n", b"HTTP/1.1 200 OK\r\n", b"POST /predict HTTP/1.1 HTTP/1.1\r\n",
        b"POST \x7f HTTP/1.1\r\n", b"PO", b"POST predict HTTP/1.1\r\n",
    ]  # fmt: skip
    targets = [
        b"http://localhost/predict", b"http://example.com/predict", b"localhost:80", b"*", b"//predict",
        b"/../../etc/passwd", b"/%2e%2e/%2e%2e/predict",
        b"/models/%00/predict", b"/models/%/predict", b"/models/%zz/predict", b"/models/\xff/predict",
        b"/models/" + b"x" * 5_000 + b"/predict", b"/predict#x",
        b"/models/..%2firis/predict", b"/models/iris%2fpredict", b"/models//predict",
        b"/models/iris/versions//predict", b"/models/iris/versions/-1/predict",
        b"/models/iris/versions/99999999999999999999/predict", b"/" + b"a" * 100_000, b"/predict;x=1",
        b"/predict/", b"/PREDICT",
    ]  # fmt: skip
    methods = [b"GET", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"PROPFIND", b"M-SEARCH"]
    return [
        *(Vector(f"first line {line!r}", _with(_HOST, _LENGTH, first=line), half_close=True) for line in bad),
        *(Vector(f"target {target[:40]!r}", _target(target), answers=1) for target in targets),
        *(Vector(f"method {method!r}", _target(b"/predict", method), half_close=True) for method in methods),
        Vector("HTTP/0.9", b"GET /\r\n", half_close=True),
        Vector("HTTP/1.0 without a host", _with(_LENGTH, first=b"POST /predict HTTP/1.0\r\n"), answers=1),
        Vector("blank lines first", b"\r\n\r\n" + _GOOD, answers=1),
        Vector("a thousand blank lines", b"\r\n" * 1_000, half_close=True),
    ]


def _other() -> list[Vector]:
    lies = b"Content-Length: %d\r\n"
    return [
        Vector(
            "HTTP/2 with its preface",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        ),
        Vector("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2),
        Vector("zeros", b"\x00" * 1_000),
        Vector("ones", b"\xff" * 1_000),
        Vector("nothing", b"", half_close=True),
        Vector("half a head", _POST + _HOST + b"Content-", half_close=True),
        Vector("a head alone", _POST + _HOST + _LENGTH + b"\r\n", half_close=True),
        Vector("half a body", _with(_HOST, _LENGTH, body=BODY[:10]), half_close=True),
        Vector("a length that is too long", _with(_HOST, lies % 1_000), half_close=True),
        Vector("a length that is too short", _with(_HOST, lies % 5)),
        Vector("a length of nothing", _with(_HOST, lies % 0)),
        Vector("something behind", _GOOD + b"garbage\r\n\r\n", answers=1),
        Vector("good, wrong, good", _GOOD + _with(_HOST, _LENGTH, _LENGTH) + _GOOD, answers=1),
        Vector("good ones in a row", _GOOD * 5, answers=5, half_close=False),
        Vector("another request as a body", _with(_HOST, lies % len(_GOOD), body=_GOOD)),
        Vector(
            "in pieces", _GOOD, answers=1, pieces=tuple(_GOOD[at : at + 7] for at in range(0, len(_GOOD), 7))
        ),
        Vector(
            "wrong in pieces", b"", pieces=tuple(bytes([byte]) for byte in _with(_HOST, _LENGTH, _LENGTH))
        ),
    ]


#: All of them.
VECTORS: tuple[Vector, ...] = (*_framing(), *_chunks(), *_headers(), *_first_lines(), *_other())
