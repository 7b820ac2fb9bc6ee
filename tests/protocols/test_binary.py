"""Raw bytes and .npy arrays: what they carry, what they refuse, and that nothing is copied."""

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.codecs import JSON, NPY, RAW, native_codecs
from servable.protocols.openapi import Described, document
from servable.tensors import Response
from thoroughness import examples

VALUE = Field(name="value", kind="number", dtype="float64")


def signature(*inputs: Field) -> Signature:
    return Signature(task="regression", inputs=inputs, outputs=(VALUE,))


def tensor(dtype: str, *shape: int) -> Signature:
    return signature(Field(name="x", kind="tensor", dtype=dtype, shape=shape))


TABLE = signature(
    Field(name="size", kind="number", dtype="float64", missing=True),
    Field(name="count", kind="number", dtype="int64"),
    Field(name="on", kind="boolean", dtype="bool", missing=True),
    Field(name="day", kind="date", dtype="datetime"),
    Field(name="grade", kind="category", dtype="int64", values=(1, 2), unknown="refuse"),
    Field(name="zone", kind="category", dtype="int64", values=(1, 2), missing=True),
)
ROW = [1.5, 3.0, 1.0, 86400.0, 2.0, 7.0]


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def headed(header: bytes, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + content


def problem(codec: Any, body: bytes) -> tuple[str, str, str]:
    with pytest.raises(RequestInvalid) as caught:
        codec.decode(body, "id")
    return tuple(caught.value.problems[0])  # type: ignore[return-value]  # a problem has three fields


def test_which_formats_there_are() -> None:
    text = Field(name="t", kind="text", dtype="str")
    assert list(native_codecs(tensor("float32", 2))) == [JSON, RAW, NPY]
    assert list(native_codecs(TABLE)) == [JSON, RAW, NPY]
    assert list(native_codecs(tensor("uint8", -1, 3))) == [JSON, NPY]
    none = [
        signature(VALUE, text),
        tensor("str", 2),
        tensor("float32", 0, 2),
        signature(),
        signature(*tensor("int8", 1).inputs * 2),
    ]
    for other in none:
        assert list(native_codecs(other)) == [JSON]


def test_raw_bytes_are_looked_at_and_not_copied() -> None:
    codec = native_codecs(tensor("float32", 2, 3))[RAW]
    array = np.arange(12, dtype="<f4").reshape(2, 2, 3)
    request = codec.decode(array.tobytes(), "r")
    assert (request.rows, request.single, request.id) == (2, False, "r")
    assert not request.arrays["x"].flags.owndata
    assert not request.arrays["x"].flags.writeable
    np.testing.assert_array_equal(request.arrays["x"], array)
    one = codec.decode(array[:1].tobytes(), "r")
    assert (one.rows, one.single, one.arrays["x"].shape) == (1, True, (1, 2, 3))


@pytest.mark.parametrize("length", [0, 1, 23, 25, 47])
def test_another_number_of_bytes_names_the_right_one(length: int) -> None:
    found = problem(native_codecs(tensor("float32", 2, 3))[RAW], b"x" * length)
    assert found == ("input", "24 bytes for each row (float32 of 2 x 3, little-endian)", f"{length} bytes")


def test_a_number_without_axes() -> None:
    codecs = native_codecs(tensor("int16"))
    assert codecs[RAW].decode(b"\x01\x00\xff\xff", "r").arrays["x"].tolist() == [1, -1]
    assert codecs[NPY].decode(npy(np.int16(3)), "r").single
    assert codecs[NPY].decode(npy(np.array([3, 4])), "r").arrays["x"].tolist() == [3, 4]


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i2", "|i1", "|u1", ">u8"])
def test_arrays_of_any_form_of_number(dtype: str, order: str, version: tuple[int, int]) -> None:
    array = np.arange(12).reshape(2, 2, 3).astype(dtype, order=order)
    codec = native_codecs(tensor("float32", 2, 3))[NPY]
    request = codec.decode(npy(array, version), "r")
    assert (request.rows, request.single) == (2, False)
    found = request.arrays["x"]
    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    assert found.flags.aligned
    np.testing.assert_array_equal(found, array)
    one = codec.decode(npy(np.asarray(array[1], order=order), version), "r")
    assert (one.rows, one.single) == (1, True)
    np.testing.assert_array_equal(one.arrays["x"][0], array[1])
    if dtype == "<f4" and order == "C":
        assert not found.flags.owndata


def test_arrays_that_are_not_aligned_are_made_so() -> None:
    for pad in range(8):
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1), }" + b" " * pad + b"\n"
        body = headed(header, np.array([[1.5], [2.5]]).tobytes())
        found = native_codecs(tensor("float64", 1))[NPY].decode(body, "r").arrays["x"]
        assert found.flags.aligned
        assert found.tolist() == [[1.5], [2.5]]


def test_free_sizes_are_the_array_s_own() -> None:
    codec = native_codecs(tensor("int64", -1, 2))[NPY]
    assert codec.decode(npy(np.ones((3, 5, 2), int)), "r").arrays["x"].shape == (3, 5, 2)
    assert codec.decode(npy(np.ones((5, 2), int)), "r").single
    assert problem(codec, npy(np.ones((3, 5, 3), int))) == (
        "input", "an array of shape [rows, any, 2]", "shape [3, 5, 3]",
    )  # fmt: skip
    with pytest.raises(RequestInvalid):
        codec.decode(npy(np.ones((3, 0, 2), int)), "r")


@pytest.mark.parametrize(
    ("want", "array", "path", "expected"),
    [
        ("uint8", np.array([[1, 256]]), "inputs[0][1]", "a whole number from 0 to 255"),
        ("uint8", np.array([1, -1], np.int8), "input[1]", "a whole number from 0 to 255"),
        ("int64", np.array([[1, 2], [2**63, 3]], np.uint64), "inputs[1][0]", "a whole number from"),
        ("uint64", np.array([1, -1]), "input[1]", "a whole number from 0 to 18446744073709551615"),
        ("float32", np.array([1, 1e39]), "input[1]", "a number from -3.4028235e+38 to 3.4028235e+38"),
        ("float16", np.array([[1, 70000]]), "inputs[0][1]", "a number from -65504 to 65504"),
        ("uint8", np.array([1.0, 2.0]), "input", "an array of uint8"),
        ("float32", np.array([True, False]), "input", "an array of float32"),
        ("bool", np.array([1, 0]), "input", "an array of bool"),
        ("float32", np.array([1j, 2]), "input", "an array of plain numbers or booleans"),
        ("float32", np.array(["a", "b"]), "input", "an array of plain numbers or booleans"),
        ("float32", np.array(["2020-01-01", "2020-01-01"], "M8[D]"), "input", "an array of plain numbers"),
        ("float32", np.array([1, 2], np.longdouble), "input", "an array of plain numbers or booleans"),
    ],
)  # fmt: skip
def test_values_that_the_dtype_does_not_hold(want: str, array: Any, path: str, expected: str) -> None:
    found = problem(native_codecs(tensor(want, 2))[NPY], npy(array))
    assert found[0] == path
    assert found[1].startswith(expected)


def test_nan_and_infinity_are_a_tensor_s_own_business() -> None:
    odd = np.array([np.nan, np.inf, -np.inf])
    codecs = native_codecs(tensor("float32", 3))
    np.testing.assert_array_equal(codecs[NPY].decode(npy(odd), "r").arrays["x"][0], odd)
    np.testing.assert_array_equal(codecs[RAW].decode(odd.astype("<f4").tobytes(), "r").arrays["x"][0], odd)


def test_booleans_are_zero_or_one() -> None:
    codecs = native_codecs(tensor("bool", 2))
    assert codecs[RAW].decode(b"\x01\x00", "r").arrays["x"].tolist() == [[True, False]]
    assert problem(codecs[RAW], b"\x01\x02") == ("input[1]", "0 or 1", "a whole number")
    assert problem(codecs[RAW], b"\x01\x00\x01\xff") == ("inputs[1][1]", "0 or 1", "a whole number")
    body = npy(np.array([True, False]))
    assert problem(codecs[NPY], body[:-1] + b"\x07")[0] == "input[1]"


# ---------------------------------------------------------------- tables


def test_a_table_is_rows_of_float64() -> None:
    for codec, body in ((RAW, np.array([ROW, ROW]).tobytes()), (NPY, npy(np.array([ROW, ROW])))):
        request = native_codecs(TABLE)[codec].decode(body, "r")
        assert request.arrays["numbers"].tolist() == [ROW, ROW]
        assert request.arrays["numbers"].dtype == np.float64
    assert native_codecs(TABLE)[NPY].decode(npy(np.array(ROW)), "r").single


@pytest.mark.parametrize(
    ("column", "value", "expected", "got"),
    [
        (0, np.inf, "a number or null (size)", "infinity"),
        (1, np.nan, "a number (count)", "NaN (a missing value)"),
        (1, 1e19, "a number (count)", "a number"),
        (2, 2.0, "true or false or null (on)", "a number"),
        (2, -np.inf, "true or false or null (on)", "infinity"),
        (3, np.nan, "a date (ISO 8601 text, or seconds since 1970) (day)", "NaN (a missing value)"),
        (4, 3.0, "one of 1, 2 (grade)", "a number"),
        (4, np.nan, "one of 1, 2 (grade)", "NaN (a missing value)"),
        (5, 1.5, "a whole number or null (zone)", "a number"),
    ],
)
def test_columns_take_what_json_takes(column: int, value: float, expected: str, got: str) -> None:
    row = list(ROW)
    row[column] = value
    codec = native_codecs(TABLE)[RAW]
    assert problem(codec, np.array(row).tobytes()) == (f"input[{column}]", expected, got)
    assert problem(codec, np.array([ROW, row]).tobytes()) == (f"inputs[1][{column}]", expected, got)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.sampled_from([0.0, 1.0, 2.0, 3.0, 1.5, -(2.0**63), 2.0**63, 1e300, np.nan, np.inf]),
        min_size=6,
        max_size=6,
    )
)
def test_a_table_is_judged_as_in_json(values: list[float]) -> None:
    """Booleans apart, which JSON spells as words."""
    codecs = native_codecs(TABLE)
    said: list[Any] = [None if value != value else value for value in values]
    said[2] = {0.0: False, 1.0: True, None: None}.get(said[2], "neither")
    text = json.dumps({"input": said}).replace("Infinity", "1e999").encode()
    try:
        expected = codecs[JSON].decode(text, "r").arrays["numbers"]
    except RequestInvalid as error:
        paths = [found.path for found in error.problems]
        with pytest.raises(RequestInvalid) as caught:
            codecs[RAW].decode(np.array(values).tobytes(), "r")
        assert [found.path for found in caught.value.problems] == paths
    else:
        np.testing.assert_array_equal(
            codecs[RAW].decode(np.array(values).tobytes(), "r").arrays["numbers"], expected
        )


def test_rows_are_limited() -> None:
    codecs = native_codecs(tensor("uint8", 2), max_rows=2)
    assert codecs[RAW].decode(b"abcd", "r").rows == 2
    for codec, body in ((RAW, b"abcdef"), (NPY, npy(np.ones((3, 2), np.uint8)))):
        with pytest.raises(RequestTooLarge, match="3 rows and 2"):
            codecs[codec].decode(body, "r")


# ---------------------------------------------------------------- headers

GOOD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n"


@pytest.mark.parametrize(
    "header",
    [
        GOOD,
        b"{'shape':(1,2),'fortran_order':False,'descr':'<f4'}",
        b'{"descr": "<f4", "fortran_order": False, "shape": (1, 2)}',
        b"  { 'descr' : 'f4' , 'fortran_order' : False , 'shape' : ( 1 , 2 , ) , }   \n",
        b"{'descr': '=f4', 'fortran_order': False, 'shape': (1L, 2L), }",
    ],
)
def test_headers_of_other_writers(header: bytes) -> None:
    request = native_codecs(tensor("float32", 2))[NPY].decode(headed(header, b"\x00" * 8), "r")
    assert request.arrays["x"].tolist() == [[0.0, 0.0]]


def shaped(shape: str) -> bytes:
    return GOOD.replace(b"(1, 2)", shape.encode())


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"{}", b"{", b"}", b"[]", b"None", GOOD[:-4], b"\xff" * 60, b"\x00" * 60, b"(" * 5000),
        *(GOOD.replace(b"False", word) for word in (b"false", b"0", b"(1,)", b"'False'")),
        *(GOOD.replace(b"'<f4'", word) for word in (b"[('a', '<f4')]", b"'<f4' + ''", b"__import__('os')")),
        *(
            map(
                shaped, ("[1, 2]", "(-5,)", "(1, -2)", "(1.0, 2)", "(1 2)", "(,)", "(1,,2)", "(True, 2)", "2")
            )
        ),
        *(map(shaped, ("(" + "1," * 100 + ")", "(" + "9" * 5000 + ",)", "'(1, 2)'"))),
        GOOD.replace(b"'descr'", b"'dtype'"),
        GOOD.replace(b"}", b", 'descr': '<f8'}"),
        GOOD.replace(b"}", b"'more': 1}"),
        b"{'a':" * 1000,
        b" " * 9000 + GOOD + b" " * 2000,
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_headers_that_are_none(header: bytes, version: int) -> None:
    with pytest.raises(RequestMalformed, match=r"header of the \.npy"):
        native_codecs(tensor("float32", 2))[NPY].decode(headed(header, b"\x00" * 8, version), "r")


@pytest.mark.parametrize(
    "body",
    [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\xff\xff", headed(GOOD, b"\x00" * 8,
    3), b"PK\x03\x04", b'{"input": [1]}',
     headed(GOOD, b"\x00" * 7), headed(GOOD, b"\x00" * 9), headed(GOOD), headed(GOOD, b"\x00" * 8)[:40],
     b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + GOOD],
)  # fmt: skip
def test_files_that_are_none(body: bytes) -> None:
    with pytest.raises(RequestMalformed):
        native_codecs(tensor("float32", 2))[NPY].decode(body, "r")


@pytest.mark.parametrize(
    "kind",
    [
        "O",
        "|O",
        "V8",
        "|V8",
        "S4",
        "<U4",
        "<c8",
        "<M8[s]",
        "<m8[s]",
        "<f3",
        "f1",
        "i16",
        "x",
        "",
        "<<f4",
        "float32",
        "b2",
    ],
)
def test_dtypes_that_are_no_plain_numbers(kind: str) -> None:
    body = headed(GOOD.replace(b"<f4", kind.encode()), b"\x00" * 8)
    with pytest.raises(InputError):
        native_codecs(tensor("float32", 2))[NPY].decode(body, "r")


@pytest.mark.parametrize(
    "shape",
    [
        *("(0,)", "(0, 2)", "(1, 0)", "()", "(2, 3)", "(2, 2, 2)", "(99999999999999999999, 2)"),
        *(f"({2**63}, 2)", f"({2**62}, 4)", f"({2**64 - 1}, 2)", "(" + "1, " * 64 + ")"),
        *(f"(16, {2**60 + 2})", f"(4, {2**60 + 2})"),
    ],
)
@pytest.mark.parametrize("free", [False, True])
def test_shapes_that_cannot_be(shape: str, free: bool) -> None:
    codec = native_codecs(tensor("float32", -1 if free else 2))[NPY]
    body = headed(GOOD.replace(b"(1, 2)", shape.encode()), b"\x00" * 8)
    with pytest.raises(InputError) as caught:
        codec.decode(body, "r")
    assert len(caught.value.message) < 300


@settings(max_examples=examples(200), deadline=None)
@given(
    st.sampled_from(["<f4", ">f8", "<i2", "|u1", "<u8", "|b1"]),
    st.lists(st.integers(0, 4), max_size=4),
    st.booleans(),
    st.binary(max_size=64),
)
def test_any_header_over_any_bytes(dtype: str, shape: list[int], fortran: bool, content: bytes) -> None:
    header = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {tuple(shape)}, }}".encode()
    for known in (tensor("float32", 2), tensor("uint8", -1), tensor("bool", 2, 2), TABLE):
        try:
            request = native_codecs(known)[NPY].decode(headed(header, content), "r")
        except InputError:
            continue
        assert request.rows >= 1


# ---------------------------------------------------------------- answers and documentation


def test_the_answer_is_the_native_one() -> None:
    response = Response({"prediction": np.array([1.5, np.nan])}, 2, "r", "m", 1)
    codecs = native_codecs(TABLE)
    refusal = RequestMalformed("No.")
    assert {codec.media_type for codec in codecs.values()} == {"application/json"}
    assert len({codec.encode(response) for codec in codecs.values()}) == 1
    assert len({codec.encode_error(refusal, "r") for codec in codecs.values()}) == 1


@pytest.mark.parametrize(
    ("known", "types"),
    [
        (tensor("float32", 2), [JSON, RAW, NPY]),
        (tensor("float32", -1), [JSON, NPY]),
        (tensor("str", 2), [JSON]),
    ],
)
def test_the_documentation_names_the_content_types(known: Signature, types: list[str]) -> None:
    paths = document([Described("m", 1, known, True)], "1")["paths"]
    for path in ("/predict", "/models/m/predict", "/models/m/versions/1/predict"):
        content = list(paths[path]["post"]["requestBody"]["content"])
        assert content[: len(types)] == types
        assert {JSON, RAW, NPY}.intersection(content) == set(types)
