"""A signature as named tensors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.base import CodecLimits
from servable.protocols.datatypes import DATATYPES, PLAIN, datatype_of, from_raw, to_raw
from servable.protocols.face import Face
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Response

AGE = Field(name="age", kind="number", dtype="float64")
COUNT = Field(name="count", kind="number", dtype="int64", missing=True)
WORK = Field(name="work", kind="category", dtype="str", values=("a", "b"), unknown="refuse")
DAY = Field(name="day", kind="date", dtype="datetime")
LABEL = Field(name="label", kind="category", dtype="str", values=("no", "yes"))
MIXED = Signature(task="classification", inputs=(AGE, COUNT, WORK, DAY), outputs=(LABEL,), probabilities=True)
TABLE = Signature(
    task="regression", inputs=(AGE, COUNT), outputs=(Field(name="y", kind="number", dtype="float64"),)
)
IMAGE = Signature(
    task="transform",
    inputs=(Field(name="image", kind="tensor", dtype="float32", shape=(3, -1)),),
    outputs=(Field(name="scores", kind="tensor", dtype="float32", shape=(10,)),),
)


def texts(*values: Any) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def problems_of(face: Face, tensors: dict[str, Any]) -> list[str]:
    with pytest.raises(RequestInvalid) as caught:
        face.request(tensors)
    return [problem.path for problem in caught.value.problems]


def test_columns_of_a_table() -> None:
    face = Face(MIXED)
    assert [(each.name, each.datatype, each.shape) for each in face.inputs] == [
        ("age", "FP64", (-1, 1)), ("count", "INT64", (-1, 1)), ("work", "BYTES", (-1, 1)),
        ("day", "BYTES", (-1, 1)),
    ]  # fmt: skip
    arrays, rows = face.request({
        "work": texts(b"a", "b"), "age": np.array([[1], [2]], np.int8),
        "day": texts("1970-01-02", b"1970-01-01T00:00:01"),
    })  # fmt: skip
    assert rows == 2
    np.testing.assert_array_equal(arrays[NUMBERS], [[1, np.nan, 86400], [2, np.nan, 1]])
    assert arrays[STRINGS].tolist() == [["a"], ["b"]]


def test_every_problem_is_named() -> None:
    face = Face(MIXED)
    assert problems_of(face, {"aeg": np.zeros(2)}) == ["aeg", "age", "work", "day"]
    whole = {
        "age": np.array([1, np.nan]),
        "count": np.zeros((2, 2)),
        "work": texts("a", "c"),
        "day": texts("x", ""),
    }
    assert problems_of(face, whole) == ["age[1]", "count", "work[1]", "day[0]", "day[1]"]
    assert problems_of(face, {**whole, "work": texts("a")})[0] == "work"
    assert problems_of(face, {"age": np.zeros(0)})[0] == "inputs"
    assert "work[0]" in problems_of(face, {**whole, "work": texts(b"\xff", "a")})


def test_a_table_of_numbers_is_one_tensor_or_its_columns() -> None:
    face = Face(TABLE)
    assert face.inputs == (("input", "FP64", (-1, 2), ()),)
    for name in ("input", "predict"):
        arrays, rows = face.request({name: np.array([[1, 2], [3, 4]], np.float32)})
        assert rows == 2
        assert arrays[NUMBERS].tolist() == [[1, 2], [3, 4]]
    arrays, _ = face.request({"age": np.array([1, 3]), "count": np.array([[2], [4]])})
    assert arrays[NUMBERS].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(RequestInvalid):
        face.request({"input": np.zeros((2, 3))})
    with pytest.raises(RequestInvalid):
        face.request({"input": texts("a")})
    with pytest.raises(RequestTooLarge):
        Face(TABLE, CodecLimits(max_rows=1)).request({"input": np.zeros((2, 2))})


def test_tensors() -> None:
    face = Face(IMAGE)
    assert face.inputs == (("image", "FP32", (-1, 3, -1), ()),)
    assert face.outputs == (("scores", "FP32", (-1, 10), ()),)
    arrays, rows = face.request({"x": np.zeros((2, 3, 5), np.float16)})
    assert (rows, arrays["image"].dtype, arrays["image"].shape) == (2, np.float32, (2, 3, 5))
    with pytest.raises(RequestInvalid):
        face.request({"image": np.zeros((2, 4, 5), np.float32)})


@pytest.mark.parametrize("dtype", ["float32", "str"])
@pytest.mark.parametrize("row", [(), (1,), (-1,)])
@pytest.mark.parametrize("alone", [True, False])
def test_rows_of_one_value_have_one_axis_or_two(dtype: str, row: tuple[int, ...], alone: bool) -> None:
    fields = [Field(name=name, kind="tensor", dtype=dtype, shape=row) for name in ("x", "y")]
    face = Face(Signature(task="transform", inputs=tuple(fields[: 1 if alone else 2]), outputs=IMAGE.outputs))
    values = texts("a", "b") if dtype == "str" else np.array([1.0, 2.0], dtype)
    for shape in ((2,), (2, 1)):
        arrays, rows = face.request(dict.fromkeys(("x",) if alone else ("x", "y"), values.reshape(shape)))
        assert (rows, arrays["x"].shape) == (2, (2, *(1 for _ in row)))
        assert arrays["x"].ravel().tolist() == values.tolist()
    wrong = values.reshape(2, 1, 1) if row else values.reshape(1, 2)
    with pytest.raises(RequestInvalid):
        face.request(dict.fromkeys(("x",) if alone else ("x", "y"), wrong))


def test_answers_carry_labels() -> None:
    arrays = {PREDICTION: np.array([1, 0]), PROBABILITIES: np.array([[0.25, 0.75], [1, 0]])}
    face = Face(MIXED)
    found = face.answers(Response(arrays, 2, "id", "m", 1))
    assert found[PREDICTION].tolist() == ["yes", "no"]
    assert found[PROBABILITIES] is arrays[PROBABILITIES]
    assert [(each.name, each.datatype) for each in face.outputs] == [
        (PREDICTION, "BYTES"),
        (PROBABILITIES, "FP64"),
    ]
    with pytest.raises(IndexError):
        face.answers(Response({PREDICTION: np.array([2])}, 1, "id", "m", 1))


@given(
    st.sampled_from(sorted(PLAIN)).flatmap(
        lambda name: hnp.arrays(PLAIN[name], hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    )
)
def test_numbers_come_back_from_their_bytes(array: Any) -> None:
    name = datatype_of(array.dtype)
    back = from_raw(name, array.shape, to_raw(array), "x")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_texts_come_back_from_their_bytes(values: list[bytes]) -> None:
    raw = to_raw(texts(*values))
    assert from_raw("BYTES", [len(values)], raw, "x").tolist() == values
    for wrong in (raw + b"\0", raw[:-1]):
        if wrong != raw:
            with pytest.raises(RequestMalformed):
                from_raw("BYTES", [len(values)], wrong, "x")


def test_bf16_is_read_as_float32() -> None:
    bits = (np.array([1.5, -2.0, 0.0], np.float32).view(np.uint32) >> 16).astype("<u2")
    assert from_raw("BF16", [3], bits.tobytes(), "x").tolist() == [1.5, -2.0, 0.0]


@given(st.sampled_from(DATATYPES), st.lists(st.integers(-3, 2**70), max_size=4), st.binary(max_size=64))
def test_lies_about_bytes_are_the_callers_fault(datatype: str, shape: list[int], raw: bytes) -> None:
    try:
        array = from_raw(datatype, shape, raw, "x")
    except RequestMalformed:
        return
    assert list(array.shape) == shape
