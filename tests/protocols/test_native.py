"""The native codec: what it accepts, what it refuses and where it says so."""

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.native import NativeCodec, native_codec
from servable.protocols.native_schema import MAX_HINTS, MAX_PROBLEMS, example_row
from servable.tensors import Request, Response
from thoroughness import examples

VALUE = Field(name="value", kind="number", dtype="float64")


def signature(*inputs: Field, **more: Any) -> Signature:
    return Signature(**{"task": "regression", "inputs": inputs, "outputs": (VALUE,)} | more)


MIXED = signature(
    Field(name="age", kind="number", dtype="int64"),
    Field(name="job", kind="category", dtype="str", values=("cook", "nurse"), unknown="refuse", missing=True),
    Field(name="member", kind="boolean", dtype="bool"),
    Field(name="since (UTC)", kind="date", dtype="datetime", missing=True),
    Field(name="grade", kind="category", dtype="int64", values=(1, 2), unknown="refuse"),
    Field(name="note", kind="text", dtype="str"),
)
GOOD = {"age": 40, "job": "cook", "member": True, "since (UTC)": "2020-01-01", "grade": 1, "note": "hi"}


def decode(codec: NativeCodec, content: Any) -> Request:
    return codec.decode(json.dumps(content).encode(), "id")


def problems(codec: NativeCodec, content: Any) -> dict[str, tuple[str, str]]:
    with pytest.raises(RequestInvalid) as caught:
        decode(codec, content)
    return {problem.path: (problem.expected, problem.got) for problem in caught.value.problems}


def test_one_row_as_an_object_and_as_a_list_are_the_same() -> None:
    codec = NativeCodec(MIXED)
    for row in (GOOD, list(GOOD.values()), dict(reversed(GOOD.items()))):
        request = decode(codec, {"input": row})
        assert (request.rows, request.single, request.id) == (1, True, "id")
        assert request.arrays["numbers"].tolist() == [[40.0, 1.0, 1577836800.0, 1.0]]
        assert request.arrays["strings"].tolist() == [["cook", "hi"]]


def test_several_rows_keep_their_order() -> None:
    rows = [GOOD | {"age": age, "note": str(age)} for age in range(5)]
    request = decode(NativeCodec(MIXED), {"inputs": [*rows, list(GOOD.values())]})
    assert (request.rows, request.single) == (6, False)
    assert request.arrays["numbers"][:, 0].tolist() == [0, 1, 2, 3, 4, 40]
    assert request.arrays["strings"][:, 1].tolist() == ["0", "1", "2", "3", "4", "hi"]


def test_missing_values_become_nan_and_the_empty_text() -> None:
    codec = NativeCodec(MIXED)
    short = {key: value for key, value in GOOD.items() if key not in ("job", "since (UTC)")}
    for row in (short, GOOD | {"job": None, "since (UTC)": None}):
        request = decode(codec, {"input": row})
        assert request.arrays["strings"].tolist() == [["", "hi"]]
        assert math.isnan(request.arrays["numbers"][0, 2])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1970-01-02", 86400.0),
        ("1970-01-01T01:00:00Z", 3600.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01 00:00:01.5", 1.5),
        (12.5, 12.5),
        (-3, -3.0),
    ],
)
def test_dates(value: Any, seconds: float) -> None:
    assert (
        decode(NativeCodec(MIXED), {"input": GOOD | {"since (UTC)": value}}).arrays["numbers"][0, 2]
        == seconds
    )


@pytest.mark.parametrize(
    ("change", "path", "expected", "got"),
    [
        ({"age": "40"}, "input.age", "a number", "a text of 2 characters"),
        ({"age": True}, "input.age", "a number", "a boolean"),
        ({"age": None}, "input.age", "a number", "null"),
        ({"age": [1]}, "input.age", "a number", "a list of 1 value"),
        ({"age": {"a": 1}}, "input.age", "a number", "an object of 1 key"),
        ({"age": 10**30}, "input.age", "a number within 64 bits", "a whole number beyond 64 bits"),
        (
            {"job": "nurs"},
            "input.job",
            'one of "cook", "nurse" or null; did you mean "nurse"?',
            "a text of 4 characters",
        ),
        ({"job": 3}, "input.job", 'one of "cook", "nurse" or null', "a whole number"),
        ({"member": 1}, "input.member", "true or false", "a whole number"),
        (
            {"since (UTC)": "2020-13-01"},
            'input["since (UTC)"]',
            "a date (ISO 8601 text, or seconds since 1970) or null",
            "a text of 10 characters",
        ),
        ({"grade": 1.5}, "input.grade", "one of 1, 2", "a number"),
        ({"grade": 3}, "input.grade", "one of 1, 2", "a whole number"),
        ({"note": None}, "input.note", "a text", "null"),
        ({"notes": 1}, "input.notes", "no column of this name", "a whole number"),
        ({"note": 5 * "x"}, "", "", ""),
    ],
)
def test_each_problem_is_named(change: dict[str, Any], path: str, expected: str, got: str) -> None:
    codec = NativeCodec(MIXED)
    if not path:
        assert decode(codec, {"input": GOOD | change}).rows == 1
        return
    assert problems(codec, {"input": GOOD | change}) == {path: (expected, got)}
    in_batch = {path.replace("input", "inputs[1]", 1): (expected, got)}
    assert problems(codec, {"inputs": [GOOD, GOOD | change]}) == in_batch


def test_all_problems_are_named_at_once() -> None:
    found = problems(
        NativeCodec(MIXED), {"inputs": [{"age": "x", "jb": 1}, [1, None, True, None, 9, "t"], 7]}
    )
    assert list(found) == [
        "inputs[0].jb",
        "inputs[0].age",
        "inputs[0].member",
        "inputs[0].grade",
        "inputs[0].note",
        "inputs[1][4]",
        "inputs[2]",
    ]
    assert found["inputs[0].jb"][0] == 'no column of this name; did you mean "job"?'
    assert found["inputs[1][4]"] == ("one of 1, 2 (grade)", "a whole number")


def test_problems_are_bounded_and_values_are_short() -> None:
    codec = NativeCodec(signature(VALUE))
    with pytest.raises(RequestInvalid) as caught:
        decode(codec, {"inputs": [["x" * 10_000]] * 5000})
    assert len(caught.value.problems) == MAX_PROBLEMS
    assert all(len(problem.got) <= 60 for problem in caught.value.problems)


def test_guesses_are_made_for_the_first_problems_only() -> None:
    choice = Field(name="c", kind="category", dtype="str", values=("north", "south"), unknown="refuse")
    for content in (
        {"input": {f"valu{number}": 1 for number in range(5000)}},
        {"inputs": [{"value": 1, "c": "norht"}] * 5000},
        {f"input{number}": 1 for number in range(5000)},
    ):
        with pytest.raises(RequestInvalid) as caught:
            decode(NativeCodec(signature(VALUE, choice)), content)
        guesses = ["did you mean" in problem.expected for problem in caught.value.problems]
        assert guesses[0]
        assert sum(guesses) <= MAX_HINTS


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({}, "input"),
        ({"input": [1.0], "inputs": [[1.0]]}, "input"),
        ({"inputs": []}, "inputs"),
        ({"inputs": {"value": 1}}, "inputs"),
        ({"input": 3}, "input"),
        ({"input": None}, "input"),
        ({"input": [1.0, 2.0]}, "input"),
        ({"input": [1.0], "imput": 1}, "imput"),
    ],
)
def test_the_envelope(content: Any, path: str) -> None:
    assert path in problems(NativeCodec(signature(VALUE)), content)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"3", b'{"input":[NaN]}', b'{"input":[1.]}', b"\xff\xfe",
     b'{"input":["\xff"]}',
     b"nul", b'{"input":' + b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b"{'input': [1]}"],
)  # fmt: skip
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(RequestMalformed) as caught:
        NativeCodec(signature(VALUE)).decode(body, "id")
    assert "Traceback" not in caught.value.message


def test_a_number_beyond_double_is_named_by_its_path() -> None:
    codec = NativeCodec(signature(VALUE))
    for text in (b"1e999", b"-1e999", b"9" * 400):
        with pytest.raises(RequestInvalid) as caught:
            codec.decode(b'{"input":[' + text + b"]}", "id")
        assert caught.value.problems[0].path == "input[0]"


def test_rows_are_limited() -> None:
    codec = NativeCodec(signature(VALUE), max_rows=2)
    assert decode(codec, {"inputs": [[1], [2]]}).rows == 2
    with pytest.raises(RequestTooLarge, match="3 rows and 2"):
        decode(codec, {"inputs": [[1], [2], [3]]})
    with pytest.raises(RequestTooLarge):
        decode(codec, {"inputs": [[1], [2], ["x"]]})


def test_empty_text_is_a_missing_category() -> None:
    strict = NativeCodec(signature(Field(name="c", kind="category", dtype="str", values=("a",))))
    assert "input.c" in problems(strict, {"input": {"c": ""}})
    assert decode(strict, {"input": {"c": "new"}}).arrays["strings"].tolist() == [["new"]]
    lenient = NativeCodec(
        signature(Field(name="c", kind="category", dtype="str", values=("a",), missing=True))
    )
    assert decode(lenient, {"input": {"c": ""}}).arrays["strings"].tolist() == [[""]]


def test_column_names_that_no_struct_can_hold() -> None:
    odd = signature(
        *(Field(name=name, kind="number", dtype="float64") for name in ('a"b', "c\\d", "e\nf", "日本"))
    )
    request = decode(NativeCodec(odd), {"input": {'a"b': 1, "c\\d": 2, "e\nf": 3, "日本": 4}})
    assert request.arrays["numbers"].tolist() == [[1, 2, 3, 4]]


# ---------------------------------------------------------------- tensors


def test_a_lone_tensor_is_the_row_itself() -> None:
    codec = NativeCodec(signature(Field(name="x", kind="tensor", dtype="float32", shape=(2, 2))))
    for row in ([[1, 2], [3, 4]], {"x": [[1, 2], [3, 4]]}):
        array = decode(codec, {"input": row}).arrays["x"]
        assert array.dtype == np.float32
        assert array.tolist() == [[[1, 2], [3, 4]]]
    assert decode(codec, {"inputs": [[[1, 2], [3, 4]]] * 3}).arrays["x"].shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ([[1, 2], [3]], "input[1]"),
        ([[1, 2]], "input"),
        ([[1, 2], [3, "a"]], "input[1][1]"),
        ([[1, 2], [3, True]], "input[1][1]"),
        ([[1, 2], [3, None]], "input[1][1]"),
        ([[1, 2], [3, [4]]], "input[1][1]"),
        ([[1, 2], [3, 1e39]], "input[1][1]"),
        ([1, 2], "input[0]"),
        (7, "input"),
        ({"x": [[1, 2], [3]]}, "input.x[1]"),
        ({"y": 1}, "input.x"),
    ],
)
def test_tensor_problems_are_placed(row: Any, path: str) -> None:
    codec = NativeCodec(signature(Field(name="x", kind="tensor", dtype="float32", shape=(2, 2))))
    assert path in problems(codec, {"input": row})


def test_a_number_that_the_dtype_does_not_hold_is_told_its_range() -> None:
    codec = NativeCodec(signature(Field(name="x", kind="tensor", dtype="float32", shape=(2,))))
    assert problems(codec, {"input": [1, -1.5e297]}) == {
        "input[1]": ("a number from -3.4028235e+38 to 3.4028235e+38", "a number")
    }


def test_free_axes_must_agree_between_rows() -> None:
    codec = NativeCodec(signature(Field(name="x", kind="tensor", dtype="int64", shape=(-1,))))
    assert decode(codec, {"inputs": [[1, 2], [3, 4]]}).arrays["x"].tolist() == [[1, 2], [3, 4]]
    assert "inputs" in problems(codec, {"inputs": [[1, 2], [3]]})


def test_a_whole_number_may_be_written_with_a_point() -> None:
    field = Field(name="x", kind="tensor", dtype="int64", shape=(3,))
    signature = Signature(
        task="transform", inputs=(field,), outputs=(Field(name="y", kind="tensor", dtype="int64"),)
    )
    codec = NativeCodec(signature)
    arrays = codec.decode(b'{"input": [2.0, 9223372036854775807, -1e3]}', "id").arrays
    assert arrays["x"].tolist() == [[2, 2**63 - 1, -1000]]
    assert arrays["x"].dtype == np.int64
    for bad in (b"2.5", b"1e300", b"true", b"null"):
        with pytest.raises(RequestInvalid):
            codec.decode(b'{"input": [2.0, 1, %b]}' % bad, "id")


@pytest.mark.parametrize(
    ("dtype", "good", "bad"), [("uint8", 255, 256), ("int8", -128, 1.5), ("uint64", 2**63 - 1, -1)]
)
def test_whole_number_tensors_refuse_what_does_not_fit(dtype: str, good: Any, bad: Any) -> None:
    codec = NativeCodec(signature(Field(name="x", kind="tensor", dtype=dtype, shape=(1,))))
    assert decode(codec, {"input": [good]}).arrays["x"].dtype == dtype
    assert "input[0]" in problems(codec, {"input": [bad]})


# ---------------------------------------------------------------- answers


def classifier(*labels: Any) -> NativeCodec:
    answer = Field(name="y", kind="category", dtype="str", values=labels)
    return NativeCodec(signature(VALUE, task="classification", outputs=(answer,), probabilities=True))


def test_answers_of_a_classifier() -> None:
    codec = classifier("no", 'y"es')
    arrays = {"prediction": np.array([1, 0]), "probabilities": np.array([[0.25, 0.75], [1.0, 0.0]])}
    several = json.loads(codec.encode(Response(arrays, 2, "r", "m", 3)))
    assert several == {
        "predictions": ['y"es', "no"],
        "probabilities": [{"no": 0.25, 'y"es': 0.75}, {"no": 1.0, 'y"es': 0.0}],
        "model": "m",
        "version": 3,
        "request_id": "r",
    }
    one = json.loads(codec.encode(Response({k: v[:1] for k, v in arrays.items()}, 1, "r", "m", 3, True)))
    assert (one["prediction"], one["probabilities"]) == ('y"es', {"no": 0.25, 'y"es': 0.75})


def test_labels_keep_their_type() -> None:
    arrays = {"prediction": np.array([1]), "probabilities": np.array([[0.0, 1.0]])}
    assert json.loads(classifier(3, 7).encode(Response(arrays, 1, "r", "m", 1, True)))["prediction"] == 7
    answer = json.loads(classifier(False, True).encode(Response(arrays, 1, "r", "m", 1, True)))
    assert answer["prediction"] is True
    assert answer["probabilities"] == {"false": 0.0, "true": 1.0}


def test_what_is_no_number_becomes_null() -> None:
    codec = NativeCodec(signature(VALUE))
    answer = codec.encode(Response({"prediction": np.array([math.nan, math.inf, 1.5])}, 3, "r", "m", 1))
    assert json.loads(answer, parse_constant=pytest.fail)["predictions"] == [None, None, 1.5]


def test_models_of_unknown_task_answer_with_their_outputs() -> None:
    codec = NativeCodec(signature(VALUE, task="transform"))
    one = Response({"y": np.array([[1.0, 2.0]])}, 1, "r", "m", 1, True)
    assert json.loads(codec.encode(one))["prediction"] == [1.0, 2.0]
    two = Response({"a": np.array([1, 2]), "b": np.array([[3], [4]])}, 2, "r", "m", 1)
    assert json.loads(codec.encode(two))["predictions"] == [{"a": 1, "b": [3]}, {"a": 2, "b": [4]}]


def test_errors_have_one_shape() -> None:
    body = json.loads(NativeCodec(MIXED).encode_error(RequestMalformed("Bad."), "r"))
    assert body == {
        "error": {"code": "malformed_request", "message": "Bad.", "request_id": "r", "details": []}
    }


# ---------------------------------------------------------------- properties

NAMES = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",)), min_size=1, max_size=8)
NUMBERS = st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53)


@st.composite
def fields(draw: st.DrawFn, name: str) -> tuple[Field, st.SearchStrategy[Any]]:
    dtype = draw(st.sampled_from(["float64", "int64", "bool", "str", "datetime"]))
    missing = draw(st.booleans())
    kinds: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
        "float64": ("number", NUMBERS),
        "int64": ("number", st.integers(-(2**53), 2**53)),
        "bool": ("boolean", st.booleans()),
        "str": ("text", st.text(st.characters(exclude_categories=("Cs",)), max_size=5)),
        "datetime": ("date", st.datetimes().map(lambda moment: moment.isoformat()) | NUMBERS),
    }
    kind, values = kinds[dtype]
    if dtype == "str" and draw(st.booleans()):
        known = draw(st.lists(st.text("abcé", min_size=1, max_size=4), min_size=1, max_size=4, unique=True))
        field = Field(
            name=name, kind="category", dtype="str", values=tuple(known), unknown="refuse", missing=missing
        )
        values = st.sampled_from(known)
    else:
        field = Field(name=name, kind=kind, dtype=dtype, missing=missing)  # type: ignore[arg-type]  # drawn from above
    return field, (values | st.none()) if missing else values


@st.composite
def tables(draw: st.DrawFn) -> tuple[Signature, list[list[Any]]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    drawn = [draw(fields(name)) for name in names]
    rows = draw(st.lists(st.tuples(*(values for _, values in drawn)).map(list), min_size=1, max_size=4))
    return signature(*(field for field, _ in drawn)), rows


def same(one: Request, other: Request) -> bool:
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
    return one.rows == other.rows


@settings(max_examples=examples(150), deadline=None)
@given(tables())
def test_every_fitting_row_is_read_alike_in_every_form(table: tuple[Signature, list[list[Any]]]) -> None:
    model, rows = table
    codec = NativeCodec(model)
    objects = [dict(zip((field.name for field in model.inputs), row, strict=True)) for row in rows]
    whole = decode(codec, {"inputs": rows})
    assert same(whole, decode(codec, {"inputs": objects}))
    sparse = [{key: value for key, value in row.items() if value is not None} for row in objects]
    assert same(whole, decode(codec, {"inputs": sparse}))
    for index, row in enumerate(objects):
        one = decode(codec, {"input": row})
        for name, array in one.arrays.items():
            np.testing.assert_array_equal(array[0], whole.arrays[name][index])


WRONG: dict[str, list[Any]] = {
    "float64": ["1", True, [], {}, "nan"],
    "int64": ["1", False, [1], 2**70],
    "bool": ["true", 1, 0.0, []],
    "str": [1, True, ["a"], 0.5],
    "datetime": ["yesterday", True, [], "2020-02-31"],
}


@settings(max_examples=examples(150), deadline=None)
@given(tables(), st.data())
def test_every_corruption_is_named_by_its_path(
    table: tuple[Signature, list[list[Any]]], data: st.DataObject
) -> None:
    model, rows = table
    codec = NativeCodec(model)
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(model.inputs) - 1))
    wrong = data.draw(st.sampled_from(WRONG[model.inputs[column].dtype]))
    rows[row][column] = wrong
    assert list(problems(codec, {"inputs": rows})) == [f"inputs[{row}][{column}]"]
    objects = [dict(zip((field.name for field in model.inputs), values, strict=True)) for values in rows]
    with pytest.raises(RequestInvalid) as caught:
        decode(codec, {"inputs": objects})
    (problem,) = caught.value.problems
    name = model.inputs[column].name
    assert problem.path.startswith(f"inputs[{row}].{name}" if name.isidentifier() else f'inputs[{row}]["')


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_bytes_escape_the_errors(body: bytes) -> None:
    with contextlib.suppress(RequestMalformed, RequestInvalid):
        NativeCodec(MIXED).decode(body, "id")


@settings(max_examples=examples(60), deadline=None)
@given(tables())
def test_the_example_always_fits(table: tuple[Signature, list[list[Any]]]) -> None:
    model, _ = table
    assert decode(NativeCodec(model), {"input": example_row(model)}).rows == 1


def test_versions_with_equal_signatures_share_what_was_compiled() -> None:
    known = signature(VALUE)
    codec = native_codec(known)
    other_example = signature(VALUE, example={VALUE.name: 7.0})
    assert native_codec(other_example) is codec
    assert native_codec(known, max_rows=3) is not codec
    renamed = Field(name="renamed", kind="number", dtype="float64")
    assert decode(native_codec(signature(renamed)), {"input": {"renamed": 1.0}}).rows == 1
    assert decode(codec, {"input": {VALUE.name: 1.0}}).rows == 1
