"""Compressed bodies: every form that is read, every way to be wrong, and bombs."""

import gzip
import os
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.errors import InputError, MediaTypeUnsupported, RequestMalformed, RequestTooLarge
from servable.protocols.compression import decompress
from thoroughness import examples

MIB = 1 << 20
PLAIN = b'{"input": [' + b"1.5, " * 5_000 + b"2]}"


def raw(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(body) + encoder.flush()


def streamed(body: bytes) -> bytes:
    """Zstandard as a stream writes it, without the size at its head."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(body)


FORMS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "members": (
        "gzip",
        lambda body: gzip.compress(body[:100]) + gzip.compress(b"") + gzip.compress(body[100:]),
    ),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "streamed zstd": ("zstd", streamed),
}
forms = pytest.mark.parametrize(("encoding", "compress"), FORMS.values(), ids=FORMS.keys())


@forms
def test_what_was_compressed_comes_back(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    for body in (PLAIN, b"x", b"", os.urandom(3 * MIB)):
        assert decompress(encoding, compress(body), 4 * MIB) == body
    for spelled in (encoding.upper(), f" {encoding} "):
        assert decompress(spelled, compress(PLAIN), MIB) == PLAIN


@forms
def test_the_limit_is_exact(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    for size in (1, 1_000, 65_536, 262_144, 300_001):
        body = compress(b"a" * size)
        assert len(decompress(encoding, body, size)) == size
        with pytest.raises(RequestTooLarge, match=f"more than the {size - 1} bytes"):
            decompress(encoding, body, size - 1)


@forms
def test_a_part_is_malformed(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(PLAIN)
    for cut in {0, 1, 5, len(whole) // 2, len(whole) - 5, len(whole) - 1}:
        with pytest.raises(RequestMalformed):
            decompress(encoding, whole[:cut], MIB)


@forms
def test_something_behind_is_malformed(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    for more in (b"x", b"\x00" * 8, PLAIN, os.urandom(100_000)):
        with pytest.raises(RequestMalformed):
            decompress(encoding, compress(PLAIN) + more, MIB)


@forms
def test_another_format_is_malformed(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    # Raw deflate has no mark, so plain text can begin like it; it never ends like it.
    for body in (PLAIN, b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04" + b"\x00" * 50):
        with pytest.raises(RequestMalformed):
            decompress(encoding, body, MIB)
    assert decompress(encoding, compress(PLAIN), MIB) == PLAIN


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(PLAIN, mtime=0)),
        ("deflate", zlib.compress(PLAIN)),
        ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN)),
    ],
)
def test_damage_is_noticed_where_there_is_a_checksum(encoding: str, body: bytes) -> None:
    for place in (len(body) // 2, len(body) - 6, len(body) - 1):
        damaged = bytearray(body)
        damaged[place] ^= 0x55
        with pytest.raises(RequestMalformed):
            decompress(encoding, bytes(damaged), MIB)


def test_identity_is_bounded_too() -> None:
    assert decompress("", PLAIN, MIB) is PLAIN
    assert decompress("Identity", PLAIN, MIB) is PLAIN
    with pytest.raises(RequestTooLarge):
        decompress("identity", PLAIN, 10)


@pytest.mark.parametrize(
    "encoding", ["gzip, zstd", "gzip,gzip", "br", "compress", "gzip;q=1", "x", "identity, gzip", ","]
)
def test_other_encodings_are_not_read(encoding: str) -> None:
    with pytest.raises(MediaTypeUnsupported, match="gzip, deflate and zstd"):
        decompress(encoding, gzip.compress(PLAIN, mtime=0), MIB)


def test_a_long_history_is_refused() -> None:
    long = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27, write_content_size=0)
    ).compressobj()
    with pytest.raises(RequestMalformed):
        decompress("zstd", long.compress(PLAIN) + long.flush(), MIB)


def test_a_size_that_lies() -> None:
    honest = bytearray(zstandard.compress(b"a" * 100))
    assert zstandard.get_frame_parameters(bytes(honest)).content_size == 100
    honest[5] = 200
    with pytest.raises(RequestMalformed):
        decompress("zstd", bytes(honest), MIB)
    # A frame that promises four gigabytes costs nothing.
    huge = b"\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff" + bytes(honest)[6:]
    with pytest.raises(RequestTooLarge):
        decompress("zstd", huge, MIB)


def test_many_tiny_members_cost_little() -> None:
    body = gzip.compress(b"") * 500_000
    started = time.perf_counter()
    with pytest.raises(RequestMalformed):
        decompress("gzip", body, MIB)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("form", ["gzip", "raw", "zstd", "streamed zstd", "members"])
def test_a_bomb_costs_the_limit_and_not_more(form: str) -> None:
    encoding = FORMS[form][0]
    body = _bomb(form)
    most = 8 * MIB
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(RequestTooLarge):
            decompress(encoding, body, most)
        seconds = time.perf_counter() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most + 3 * MIB
    assert seconds < 2


def _bomb(form: str) -> bytes:
    """About ten gigabytes of zeros in about ten megabytes, or fewer; made without unfolding them."""
    if form == "members":
        return gzip.compress(b"\x00" * MIB) * 10_000
    if "zstd" in form:
        # A frame of repeated bytes: each block of four bytes unfolds to 128 KiB.
        blocks = 80_000
        head = b"\x28\xb5\x2f\xfd" + (
            b"\x00\x58" if form == "streamed zstd" else b"\x80\x58" + b"\xff\xff\xff\x7f"
        )
        block = ((128 * 1024 << 3) | 2).to_bytes(3, "little") + b"\x00"
        return head + block * blocks + ((128 * 1024 << 3) | 3).to_bytes(3, "little") + b"\x00"
    encoder = zlib.compressobj(wbits=31 if form == "gzip" else -15)
    # Ten thousand times the same megabyte: after a full flush the compressed form repeats itself.
    first = encoder.compress(b"\x00" * MIB) + encoder.flush(zlib.Z_FULL_FLUSH)
    again = encoder.compress(b"\x00" * MIB) + encoder.flush(zlib.Z_FULL_FLUSH)
    return first + again * 9_999


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(["gzip", "deflate", "zstd"]), st.binary(max_size=300), st.data())
def test_whatever_arrives(encoding: str, body: bytes, data: st.DataObject) -> None:
    compress = data.draw(
        st.sampled_from([bytes, gzip.compress, zlib.compress, raw, zstandard.compress, streamed])
    )
    sent = bytearray(compress(body))
    for _ in range(data.draw(st.integers(0, 3))):
        if sent:
            sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    try:
        plain = decompress(encoding, bytes(sent), 1_000)
    except InputError:
        return
    assert len(plain) <= 1_000
