"""Long tables of CSV, which are read as columns, mean what short ones mean, which are read as rows."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.content import TABLE, codec
from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid
from servable.protocols.answer_forms import CSV
from servable.protocols.base import HEAVY_BYTES
from thoroughness import examples

NAMES = ",".join(f'"{field.name}"' for field in TABLE.inputs)
#: Cells as people write them, good and bad, for the columns of the table in their order.
CELLS: dict[str, list[str]] = {
    "age": ["1", "1.5", " 2 ", "-3e2", "+4", "", "NA", "nan", "-nan", "NaN", "?", "inf", "1_0", "0x1", "١",
            "old", '"7"', '"7', "1,5", "True", ".5", "5."],
    "plan": ["pro", "basic", '"pro"', "Pro", "", "NA", " pro", 'p"ro', '"pr""o"'],
    "member": ["true", "False", "1", "0", "1.0", "yes", "T", "on", "2", "", "NA", " true "],
    "since": ["", "2026-01-31", "2026-01-31T10:00:00", "2026-01-31 10:00:00Z", "2026-01-31T10:00:00+02:00",
              "17", "17.5", "20260131", "2026-13-01", "yesterday", "NaT", "2026-01-31T10:00"],
    "note, long": ["", "x", "NA", "null", "None", '"a, b"', '"a\nb"', '"a""b"', 'a"b', '"a"b', "é", " x "],
    "visits": ["1", "-7", "2.0", "2.5", "1e3", "9007199254740993", "", "x", "99999999999999999999"],
}  # fmt: skip
CLEAN = {"age": "1", "plan": "pro", "member": "true", "since": "", "note, long": "x", "visits": "1"}


def outcome(body: bytes, signature: Signature = TABLE) -> Any:
    """The arrays of a body, or the class of the error that it meets."""
    try:
        return codec(signature, CSV).decode(body, "r").arrays
    except InputError as error:
        return type(error)


def same(found: Any, expected: Any, times: int) -> bool:
    """Whether arrays are the expected ones over and over, or errors are alike."""
    if not isinstance(expected, dict) or not isinstance(found, dict):
        return bool(found is expected)
    return found.keys() == expected.keys() and all(
        np.array_equal(array, np.concatenate([expected[name]] * times), equal_nan=array.dtype != object)
        and array.dtype == expected[name].dtype
        for name, array in found.items()
    )


@st.composite
def tables(draw: Any) -> str:
    """A few lines, most of their cells clean."""
    lines = []
    for _ in range(draw(st.integers(1, 4))):
        odd = draw(st.sets(st.sampled_from(list(CELLS)), max_size=2))
        cells = [draw(st.sampled_from(CELLS[name])) if name in odd else CLEAN[name] for name in CELLS]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


@settings(max_examples=examples(300), deadline=None)
@given(tables(), st.booleans())
def test_long_tables_mean_what_short_ones_mean(lines: str, named: bool) -> None:
    head = f"{NAMES}\n".encode() if named else b""
    times = HEAVY_BYTES // len(lines) + 1
    body = lines.encode()
    assert same(outcome(head + body * times), outcome(head + body), times)


TENSORS = Signature(
    task="transform",
    inputs=(Field(name="x", kind="tensor", dtype="float32", shape=(3,)),),
    outputs=(Field(name="y", kind="tensor", dtype="float32", shape=(3,)),),
)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
@pytest.mark.parametrize(
    "line",
    ["1,2,3", "1.5,2,3", "1,,3", "1,nan,3", "1,inf,3", "1e39,2,3", "300,2,3", "-1,2,3",
     "9007199254740993,2,3", "1,0,1", "1,2", "a,b,c", "1,x,3", '"1",2,3', "true,false,true"],
)  # fmt: skip
def test_long_tensors_mean_what_short_ones_mean(dtype: str, line: str) -> None:
    signature = Signature(
        task="transform",
        inputs=(Field(name="x", kind="tensor", dtype=dtype, shape=(3,)),),
        outputs=TENSORS.outputs,
    )
    body = f"{line}\n".encode()
    times = HEAVY_BYTES // len(body) + 1
    # A line of names alone is followed by nothing, and many of them by lines of the same words.
    expected = outcome(b"0,0,0\n" * (line == "a,b,c") + body, signature)
    assert same(outcome(body * times, signature), expected, times)


def test_a_first_line_of_names_before_a_tensor() -> None:
    body = "".join(f"{number},2,{number / 4}\n" for number in range(3_000)).encode()
    for head in (b"", b"a,b,c\n", b"\xef\xbb\xbfx_0,x_1,x_2\r\n", b'"a, 1","b","c"\n'):
        array = codec(TENSORS, CSV).decode(head + body, "r").arrays["x"]
        assert array.shape == (3_000, 3)
        assert array.dtype == np.float32
        assert math.fsum(array[:, 1]) == 6_000
    with pytest.raises(RequestInvalid) as refused:
        codec(TENSORS, CSV).decode(b"a,b,c\n" + body + b"1,2\n", "r")
    assert "inputs[3000]" in str(refused.value.problems[0])


def test_columns_that_the_model_does_not_know() -> None:
    lines = b"1,pro,true,,x,1,red\n" * 2_000
    found = codec(TABLE, CSV).decode(NAMES.encode() + b",colour\n" + lines, "r")
    assert found.rows == 2_000
    # While a column is absent, the stranger is perhaps that one.
    absent = NAMES.replace('"age"', '"agee"').encode() + b",colour\n"
    with pytest.raises(RequestInvalid, match="agee"):
        codec(TABLE, CSV).decode(absent + lines, "r")
