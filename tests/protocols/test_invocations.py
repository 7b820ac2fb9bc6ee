"""What ``/invocations`` takes: every form of the same rows means the same, and nothing breaks it."""

import contextlib
import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import (
    InputError,
    MediaTypeUnsupported,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
)
from servable.protocols.base import CodecLimits
from servable.protocols.mlflow_forms import FORMS
from servable.protocols.native import NativeCodec
from servable.protocols.sagemaker import InvocationsCodec, accepted
from servable.tensors import PREDICTION, Request, Response
from thoroughness import examples

MIXED = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64", missing=True),
        Field(name="plan", kind="category", dtype="str", values=("basic", "pro"), missing=True),
        Field(name="member", kind="boolean", dtype="bool"),
        Field(name="since", kind="date", dtype="datetime", missing=True),
        Field(name="a note", kind="text", dtype="str"),
    ),
    outputs=(Field(name="label", kind="category", dtype="str", values=("no", "yes")),),
    probabilities=True,
)
NAMES = [field.name for field in MIXED.inputs]
CODEC = InvocationsCodec(MIXED)
NATIVE = NativeCodec(MIXED)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r"), min_size=1)
ROWS = st.lists(
    st.tuples(
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.sampled_from(["basic", "pro", 'of "all"']),
        st.booleans(),
        st.none() | st.sampled_from(["2026-01-31", "2026-01-31T12:00:00", "1999-12-31T23:59:59+01:00"]),
        TEXTS,
    ).map(list),
    min_size=1,
    max_size=5,
)


def decode(content: Any, kind: str = "application/json", codec: InvocationsCodec = CODEC) -> Request:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return codec.decode(body, "id", {b"content-type": kind.encode()})


def same(one: Request, other: Request) -> bool:
    return one.rows == other.rows and all(
        array.dtype == other.arrays[name].dtype
        and np.array_equal(array, other.arrays[name], equal_nan=array.dtype.kind == "f")
        for name, array in one.arrays.items()
    )


def as_csv(rows: list[list[Any]], names: list[str] | None = None) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if names is not None:
        writer.writerow(names)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue().encode()


@given(ROWS, st.permutations(range(5)))
@settings(max_examples=examples(60))
def test_every_form_means_the_same(rows: list[list[Any]], order: list[int]) -> None:
    expected = NATIVE.decode(json.dumps({"inputs": rows}).encode(), "id")
    names = [NAMES[place] for place in order]
    turned = [[row[place] for place in order] for row in rows]
    records = [dict(zip(names, row, strict=True)) for row in turned]
    for body in (
        rows,
        records,
        {"instances": rows},
        {"inputs": records},
        {"inputs": {name: [record[name] for record in records] for name in names}},
        {"dataframe_records": [record | {"more": 1} for record in records]},
        {"dataframe_split": {"columns": names, "data": turned}},
        {"dataframe_split": {"columns": ["more", *names], "data": [[None, *row] for row in turned]}},
    ):
        assert same(decode(body), expected)
    lines = "\n".join(json.dumps(record) for record in records).encode()
    assert same(decode(lines, "application/jsonlines"), expected)
    assert same(decode(as_csv(turned, names), "text/csv"), expected)
    assert same(decode(as_csv(rows), "text/csv"), expected)


KINDS = ("application/json", "text/csv", "application/jsonlines", "application/x-npy")
JSONISH = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(st.sampled_from([*NAMES, "columns", "data", "features", "index"]), part, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*FORMS, "params", "features"]), JSONISH, max_size=2) | JSONISH)
@settings(max_examples=examples(200))
def test_any_json_is_read_or_refused(content: Any) -> None:
    with contextlib.suppress(InputError):
        assert decode(content).rows


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from(KINDS))
@settings(max_examples=examples(150))
def test_any_bytes_are_read_or_refused(body: bytes, kind: str) -> None:
    with contextlib.suppress(InputError):
        assert decode(body, kind).rows


def problems(content: Any, kind: str = "application/json") -> dict[str, str]:
    with pytest.raises(RequestInvalid) as caught:
        decode(content, kind)
    return {problem.path: f"{problem.expected} / {problem.got}" for problem in caught.value.problems}


GOOD = [40.0, "pro", True, "2026-01-31", "hi"]


def test_what_stands_for_nothing_in_csv() -> None:
    for word in ("", "NaN", "NA", "null", " none "):
        request = decode(f"age,plan,member,since,a note\n{word},,True,{word},x\n".encode(), "text/csv")
        assert np.isnan(request.arrays["numbers"][0, [0, 2]]).all()
        assert request.arrays["strings"].tolist() == [["", "x"]]
    # A text is what it says.
    assert decode(b",pro,1,,NaN", "text/csv").arrays["strings"].tolist() == [["pro", "NaN"]]


def test_csv_names_its_problems() -> None:
    assert problems(b"x,gold,maybe,tomorrow,y", "text/csv").keys() == {
        "rows[0][0]", "rows[0][2]", "rows[0][3]"
    }  # fmt: skip
    assert "true or false" in problems(b"1,pro,,,x", "text/csv")["rows[0][2]"]
    assert problems(b"member,a note\ntrue,x\nfalse", "text/csv") == {"rows[1]": "2 values / 1"}
    assert "again" in problems(b"member,a note,member\ntrue,x,true", "text/csv")["columns[2]"]
    assert problems(b"member,a note\n", "text/csv") == {"rows": "a list of at least one row / an empty list"}
    assert "did you mean" in problems(b"agee,member,a note\n1,true,x", "text/csv")["rows[0].agee"]


def test_columns_that_may_be_missing_may_be_left_out() -> None:
    request = decode(b"a note,member\nx,0\n", "text/csv")
    assert request.arrays["strings"].tolist() == [["", "x"]]
    assert decode([{"member": True, "a note": "x"}]).rows == 1
    # What is unknown is passed over only while nothing of the model is absent.
    assert "did you mean" in problems([{"member": True, "a note": "x", "Age": 3}])["rows[0].Age"]


def test_nan_is_missing_and_infinity_is_refused() -> None:
    request = decode(b'{"inputs": [[NaN, "pro", true, null, "x"]]}')
    assert math.isnan(request.arrays["numbers"][0, 0])
    assert problems(b'[[Infinity, "pro", true, null, "x"]]').keys() == {"rows[0][0]"}
    with pytest.raises(RequestMalformed):
        decode(b'{"inputs": [[NaN, "pro"')


def test_limits() -> None:
    codec = InvocationsCodec(MIXED, CodecLimits(max_rows=2))
    rows = [GOOD] * 3
    for body, kind in (
        (rows, "application/json"),
        (as_csv(rows), "text/csv"),
        (as_csv(rows, NAMES), "text/csv"),
        (b"\n".join(json.dumps(row).encode() for row in rows), "application/jsonlines"),
    ):
        with pytest.raises(RequestTooLarge):
            decode(body, kind, codec)
    with pytest.raises(RequestTooLarge):
        decode(b"[" + b"1," * 100_000 + b"1]", codec=codec)
    with pytest.raises(RequestMalformed, match="nested"):
        decode(b'{"inputs": ' + b"[" * 100 + b"]" * 100 + b"}")


def test_content_types() -> None:
    for kind in ("application/json;charset=UTF-8", 'text/json; charset="utf-8"', ""):
        assert decode([GOOD], kind).rows == 1
    for kind in ("application/json; charset=ascii", "text/plain", "application/json; profile=x"):
        with pytest.raises(MediaTypeUnsupported):
            decode([GOOD], kind)
    with pytest.raises(MediaTypeUnsupported, match="one array of numbers"):
        decode(b"x", "application/x-npy")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (b"", "usual"),
        (b"*/*", "usual"),
        (b"text/csv", "text/csv"),
        (b"application/json;q=0.1, text/csv; q=0.9", "text/csv"),
        (b"image/png", "usual"),
        (b"text/csv;q=0, application/x-ndjson", "application/jsonlines"),
        (b"text/csv;q=much, application/x-npy", "application/x-npy"),
        (b",;=,", "usual"),
        (b"\xff\xfe", "usual"),
    ],
)
def test_accept(accept: bytes, form: str) -> None:
    assert accepted(accept, "usual") == form


def test_answers_of_several_outputs() -> None:
    signature = Signature(
        task="transform",
        inputs=MIXED.inputs,
        outputs=tuple(Field(name=name, kind="tensor", dtype="float32", shape=(2,)) for name in "ab"),
    )
    codec = InvocationsCodec(signature)
    arrays = {"a": np.array([[1.0, np.nan]]), "b": np.array([[3.0, 4.0]])}
    told = {}
    for accept in (b"application/json", b"text/csv", b"application/jsonlines"):
        head = {b"accept": accept}
        wish = codec.decode(json.dumps([GOOD]).encode(), "id", head).wish
        made = codec.encode(Response(arrays, 1, "id", "net", 1, wish=wish))
        told[accept] = made if isinstance(made, bytes) else made.body
    assert told[b"application/json"] == b'[{"a":[1.0,null],"b":[3.0,4.0]}]'
    assert told[b"application/jsonlines"] == b'{"a":[1.0,null],"b":[3.0,4.0]}\n'
    assert told[b"text/csv"] == b"1.0,,3.0,4.0\n"


def test_a_class_that_is_none_is_no_answer() -> None:
    with pytest.raises(IndexError):
        CODEC.encode(Response({PREDICTION: np.array([7])}, 1, "id", "churn", 1))


def test_tensors_in_csv() -> None:
    def arrays(shape: tuple[int, ...], dtype: str, body: bytes) -> Any:
        field = Field(name="x", kind="tensor", dtype=dtype, shape=shape)
        outputs = (Field(name="y", kind="tensor", dtype="float32", shape=(2,)),)
        codec = InvocationsCodec(Signature(task="transform", inputs=(field,), outputs=outputs))
        return decode(body, "text/csv", codec).arrays["x"].tolist()

    assert arrays((2, 3), "float32", b"1,2,3,4,5,6") == [[[1, 2, 3], [4, 5, 6]]]
    assert arrays((-1, 2), "int64", b"1,2,3,4\n5,6,7,8") == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert arrays((2,), "bool", b"true,0") == [[True, False]]
    assert arrays((), "float32", b"1\n2") == [1, 2]
    assert arrays((1,), "str", b'"a,b"\nc') == [["a,b"], ["c"]]
    for shape, body in (((2, 3), b"1,2"), ((2,), b"1,x"), ((-1, -1), b"1,2"), ((), b"1,2")):
        with pytest.raises(RequestInvalid):
            arrays(shape, "float32", body)
