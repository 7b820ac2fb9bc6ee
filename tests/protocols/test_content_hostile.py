"""Bodies of each content type that lie, are cut short, damaged, or would unfold to more than is allowed."""

import contextlib
import struct
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.content import FORM_HEAD, FREE, ROWS, TABLE, codec, fields, file, in_all_types, stream
from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.answer_forms import ARROW, CSV, LINES, MSGPACK, PARQUET
from servable.protocols.base import CodecLimits
from servable.protocols.codecs import FORM
from thoroughness import examples

TWO = Signature(
    task="regression",
    inputs=(
        Field(name="x", kind="number", dtype="float64"),
        Field(name="s", kind="text", dtype="str"),
    ),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)
LIMITS = CodecLimits(max_rows=1_000, max_bytes=1 << 20)
SEEDS = [
    (media_type, body)
    for media_type, bodies in {**in_all_types(ROWS), FORM: [fields(ROWS[0])]}.items()
    for body in bodies
    if media_type != "application/json"
]
CODECS = {media_type: codec(TABLE, media_type, LIMITS) for media_type, _ in SEEDS}


def outcome(media_type: str, body: bytes) -> None:
    """Reads a body, or refuses it as the caller's fault."""
    with contextlib.suppress(InputError):
        CODECS[media_type].decode(body, "r", FORM_HEAD)


@settings(max_examples=examples(250), deadline=None)
@given(data=st.data())
def test_damaged_bodies(data: st.DataObject) -> None:
    media_type, seed = data.draw(st.sampled_from(SEEDS))
    body = bytearray(seed)
    how = data.draw(st.integers(0, 5))
    if how == 0:
        body = body[: data.draw(st.integers(0, len(body)))]
    elif how == 1:
        place = data.draw(st.integers(0, len(body)))
        body[place:place] = data.draw(st.binary(min_size=1, max_size=8))
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(body) - 1))
            odd = data.draw(st.sampled_from([b"\x00", b"\xff", b"\x7f", b"\xff\xff\xff\x7f", b"\xff" * 8]))
            body[place : place + len(odd)] = odd
    outcome(media_type, bytes(body))


@settings(max_examples=examples(100), deadline=None)
@given(body=st.binary(max_size=100), media_type=st.sampled_from(sorted(CODECS)))
def test_arbitrary_bytes(body: bytes, media_type: str) -> None:
    outcome(media_type, body)


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
def test_cut_short_anywhere(media_type: str) -> None:
    body = in_all_types(ROWS)[media_type][0]
    for size in range(0, len(body) - 8, 97):
        with pytest.raises((RequestMalformed, RequestInvalid)):
            CODECS[media_type].decode(body[:size], "r")


def too_large(media_type: str, body: bytes, signature: Signature = TWO) -> str:
    """Why a body is too large; it is smaller than what it would unfold to."""
    assert len(body) < LIMITS.max_bytes
    with pytest.raises(RequestTooLarge) as raised:
        codec(signature, media_type, LIMITS).decode(body, "r")
    return raised.value.message


def test_small_bodies_of_large_tables() -> None:
    long = pa.table({"x": np.zeros(500), "s": ["b" * 20_000] * 500})
    words = pa.array(["b" * 20_000])
    coded = pa.table(
        {"x": np.zeros(500), "s": pa.DictionaryArray.from_arrays(np.zeros(500, np.int32), words)}
    )
    for body in (stream(long, compression="zstd"), stream(long, compression="lz4"), stream(coded)):
        assert "unfolds" in too_large(ARROW, body)
    for options in ({}, {"compression": "zstd", "use_dictionary": False}, {"data_page_version": "2.0"}):
        assert "unfolds" in too_large(PARQUET, file(long, **options))
    many = pa.table({"x": np.zeros(1_001), "s": [""] * 1_001})
    assert "1001 rows" in too_large(ARROW, stream(many))
    assert "1001 rows" in too_large(PARQUET, file(many))
    zeros = pa.array(np.zeros(5_000_000))
    lists = pa.table({"x": pa.ListArray.from_arrays(pa.array([0, len(zeros)], pa.int32()), zeros)})
    assert "unfolds" in too_large(PARQUET, file(lists, compression="zstd"), FREE)


def test_lists_of_nothing_take_no_memory() -> None:
    nothing = pa.FixedSizeListArray.from_arrays(pa.nulls(2_000_000_000), 1_000_000_000)
    with pytest.raises(RequestInvalid, match="lists of them"):
        codec(FREE, ARROW, LIMITS).decode(stream(pa.table({"x": nothing})), "r")


def test_sizes_that_an_arrow_stream_only_claims() -> None:
    body = bytearray(stream(pa.table({"x": np.zeros(500), "s": ["b"] * 500}), compression="zstd"))
    # The size of the first packed buffer stands before its frame.
    place = body.index(b"\x28\xb5\x2f\xfd") - 8
    body[place : place + 8] = struct.pack("<q", 2**60)
    assert "unfolds" in too_large(ARROW, bytes(body))


def test_a_parquet_file_whose_footer_contradicts_itself() -> None:
    """Such a file ends the whole process in the part of pyarrow that tells of column chunks."""
    body = bytearray(file(pa.table({"x": np.zeros(5), "s": ["b"] * 5})))
    for place in range(len(body) - 8, len(body) - 600, -1):
        changed = bytearray(body)
        changed[place] ^= 0x02
        try:
            codec(TWO, PARQUET, LIMITS).decode(bytes(changed), "r")
        except InputError:
            continue


def test_schemas_that_are_others() -> None:
    for column in (
        pa.array([{"a": 1}]),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
        pa.array([[[[1.0]]]]),
        pa.array([b"x"]),
        pa.array([None], pa.null()),
        pa.RunEndEncodedArray.from_arrays([1], [1.0]),
        pa.array([1], pa.duration("s")),
    ):
        with pytest.raises(InputError):
            codec(TWO, ARROW, LIMITS).decode(stream(pa.table({"x": column, "s": ["t"]})), "r")


@pytest.mark.parametrize(
    "body",
    [
        b"\x81\xa6inputs\xdd\xff\xff\xff\xff",
        b"\x81\xa6inputs\xdb\xff\xff\xff\xff",
        b"\x81\xa5input" + b"\x91" * 100_000,
        b"\x81\xa5input" + b"\x91" * 100 + b"\xc0",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa6inputs\xdd\x03\xd0\x90\x00" + b"\x90" * 100_000,
        b"\x81\xa6inputs\xdd\x00\x01\x86\xa0" + b"\x90" * 100_000,
    ],
)
def test_messagepack_that_promises_too_much(body: bytes) -> None:
    with pytest.raises((RequestMalformed, RequestTooLarge)):
        codec(TWO, MSGPACK, LIMITS).decode(body, "r")


def test_bodies_that_would_take_long() -> None:
    cases: list[tuple[str, bytes, Any]] = [
        (CSV, b"," * 2_000_000, RequestTooLarge),
        (CSV, b"1,a\n" * 1_001, RequestTooLarge),
        (CSV, b"\n" * 2_000_000, RequestMalformed),
        (CSV, b'"' * 2_000_000, RequestMalformed),
        (CSV, b'1,"""a\n' * 300_000, RequestMalformed),
        (CSV, b'1,""a\n' * 400_000, RequestMalformed),
        (LINES, b"\n" * 2_000_000, InputError),
        (LINES, b"[" * 2_000_000, RequestMalformed),
        (LINES, b"[" + b"[]," * 700_000 + b"[]]", RequestTooLarge),
        (LINES, b'[1,"a"]\n' * 1_001, RequestTooLarge),
    ]
    for media_type, body, error in cases:
        with pytest.raises(error):
            codec(TWO, media_type, LIMITS).decode(body, "r")
    tensor = msgspec.msgpack.encode({"input": b""}) + b"\x00" * (17 << 20)
    with pytest.raises(RequestTooLarge, match="application/x-npy"):
        codec(FREE, MSGPACK, LIMITS).decode(tensor, "r")


@pytest.mark.parametrize(
    "body",
    [b"", b"--limit", b"--limit--", b"--limit\r\n\r\n", b"--other\r\n\r\nx\r\n--other--\r\n", b"garbage",
     b"--limit\r\nContent-Disposition: form-data\r\n\r\nx\r\n--limit--\r\n",
     b"--limit\r\nContent-Disposition: form-data; name=\"\xff\xfe\"\r\n\r\nx\r\n--limit--\r\n",
     b"--limit\r\nContent-Disposition: form-data; name=\"age\"\r\n\r\n\xff\r\n--limit--\r\n",
     b"--limit\r\n: x\r\n\r\n--limit--\r\n", b"--limit\r\nno colon\r\n\r\n--limit--\r\n"],
)  # fmt: skip
def test_forms_that_are_none(body: bytes) -> None:
    with pytest.raises((RequestMalformed, RequestInvalid)):
        CODECS[FORM].decode(body, "r", FORM_HEAD)
