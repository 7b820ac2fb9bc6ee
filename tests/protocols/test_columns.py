"""Columns of Arrow: the same values as from JSON, problems named by column and row, answers as columns."""

import datetime
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestTooLarge
from servable.protocols.column_values import Texts
from servable.protocols.columns import ColumnReader, answer_columns
from servable.protocols.native import NativeCodec
from thoroughness import examples

VALUE = Field(name="value", kind="number", dtype="float64")
TABLE = Signature(
    task="regression",
    inputs=(
        Field(name="age", kind="number", dtype="int64"),
        Field(name="income", kind="number", dtype="float64", missing=True),
        Field(
            name="job", kind="category", dtype="str", values=("cook", "nurse"), unknown="refuse", missing=True
        ),
        Field(name="town", kind="category", dtype="str", values=("Ulm",)),
        Field(name="member", kind="boolean", dtype="bool", missing=True),
        Field(name="since (UTC)", kind="date", dtype="datetime", missing=True),
        Field(name="grade", kind="category", dtype="int64", values=(1, 2), unknown="refuse"),
        Field(name="note", kind="text", dtype="str"),
    ),
    outputs=(VALUE,),
)
GOOD = {
    "age": 40,
    "income": 1.5,
    "job": "cook",
    "town": "Ulm",
    "member": True,
    "since (UTC)": "2020-01-01",
    "grade": 1,
    "note": "hi",
}
PICTURES = Signature(
    task="regression",
    inputs=(
        Field(name="image", kind="tensor", dtype="float32", shape=(2, -1)),
        Field(name="mask", kind="tensor", dtype="uint8", shape=(2,)),
    ),
    outputs=(VALUE,),
)

moments = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
dates = st.one_of(
    moments.map(lambda moment: moment.isoformat()),
    moments.map(lambda moment: moment.replace(tzinfo=datetime.UTC).isoformat()),
    st.dates().map(str),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
rows = st.fixed_dictionaries(
    {
        "age": st.integers(-(2**62), 2**62),
        "income": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "job": st.sampled_from(["cook", "nurse", "", None]),
        "town": texts.filter(bool),
        "member": st.none() | st.booleans(),
        "since (UTC)": st.none() | dates,
        "grade": st.sampled_from([1, 2]),
        "note": texts,
    }
)


def table(content: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(content)


def native(signature: Signature, content: list[dict[str, Any]]) -> dict[str, Any]:
    return NativeCodec(signature).decode(json.dumps({"inputs": content}).encode(), "id").arrays


def same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype, name
        assert array.shape == right[name].shape, name
        if array.dtype == object:
            assert array.tolist() == right[name].tolist(), name
        else:
            np.testing.assert_array_equal(array, right[name])


def problems(reader: ColumnReader, columns: pa.Table, first_row: int = 0) -> dict[str, tuple[str, str]]:
    with pytest.raises(RequestInvalid) as caught:
        reader.read(columns, first_row)
    return {problem.path: (problem.expected, problem.got) for problem in caught.value.problems}


@given(st.lists(rows, min_size=1, max_size=6))
@settings(max_examples=examples(60), deadline=None)
def test_the_same_rows_as_json_and_as_arrow_are_the_same_arrays(content: list[dict[str, Any]]) -> None:
    same(ColumnReader(TABLE).read(table(content)), native(TABLE, content))


@given(st.lists(rows, min_size=1, max_size=6))
@settings(max_examples=examples(40), deadline=None)
def test_typed_columns_and_chunks_make_no_difference(content: list[dict[str, Any]]) -> None:
    plain = table(content)
    parts = pa.concat_tables([plain.slice(row, 1) for row in range(len(content))])
    coded = parts.set_column(
        parts.schema.get_field_index("town"), "town", parts.column("town").dictionary_encode()
    )
    same(ColumnReader(TABLE).read(coded), native(TABLE, content))


@given(st.integers(1, 4), st.integers(1, 3), st.data())
@settings(max_examples=examples(30), deadline=None)
def test_tensors_as_lists_are_the_same_arrays(count: int, width: int, data: st.DataObject) -> None:
    cell = st.floats(width=32, allow_nan=False, allow_infinity=False)
    line = st.lists(cell, min_size=width, max_size=width)
    row = st.fixed_dictionaries(
        {
            "image": st.lists(line, min_size=2, max_size=2),
            "mask": st.lists(st.integers(0, 255), min_size=2, max_size=2),
        }
    )
    content = data.draw(st.lists(row, min_size=count, max_size=count))
    columns = table(content)
    same(ColumnReader(PICTURES).read(columns), native(PICTURES, content))
    fixed = columns.drop_columns("mask").append_column("mask", columns["mask"].cast(pa.list_(pa.uint8(), 2)))
    if count > 1:
        same(ColumnReader(PICTURES).read(fixed.slice(1)), native(PICTURES, content[1:]))


@given(st.lists(rows, min_size=1, max_size=6))
@settings(max_examples=examples(40), deadline=None)
def test_texts_are_read_as_what_the_field_is(content: list[dict[str, Any]]) -> None:
    clean = [row | {"town": "Ulm", "note": "n"} for row in content]
    said = [
        {
            name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in row.items()
        }
        for row in clean
    ]
    schema = pa.schema([(name, pa.string()) for name in GOOD])
    read = ColumnReader(TABLE, texts=Texts()).read(pa.Table.from_pylist(said, schema))
    same(read, native(TABLE, clean))


def test_dates_of_every_type_are_seconds() -> None:
    moment = datetime.datetime(2020, 1, 1, 12)
    signature = Signature(
        task="regression", inputs=(Field(name="at", kind="date", dtype="datetime"),), outputs=(VALUE,)
    )
    reader = ColumnReader(signature)
    for kind in (pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("ms", "Asia/Tokyo")):
        column = pa.array([moment.replace(tzinfo=datetime.UTC)], kind)
        assert reader.read(pa.table({"at": column}))["numbers"].tolist() == [[1577880000.0]], kind
    for kind in (pa.date32(), pa.date64()):
        assert reader.read(pa.table({"at": pa.array([moment.date()], kind)}))["numbers"].tolist() == [
            [1577836800.0]
        ]
    assert reader.read(pa.table({"at": [1577836800]}))["numbers"].tolist() == [[1577836800.0]]


def test_every_value_that_does_not_fit_is_named_by_column_and_row() -> None:
    content = [dict(GOOD) for _ in range(5)]
    content[1] |= {"age": None, "job": "cock"}
    content[3] |= {"grade": 3, "income": math.inf, "since (UTC)": "yesterday", "note": None}
    found = problems(ColumnReader(TABLE), table(content), 10)
    assert found == {
        "age[11]": ("a number", "null"),
        "job[11]": ('one of "cook", "nurse" or null; did you mean "cook"?', "a text of 4 characters"),
        "grade[13]": ("one of 1, 2", "a whole number"),
        "income[13]": ("a number or null", "infinity"),
        '["since (UTC)"][13]': (
            "a date (ISO 8601 text, or seconds since 1970) or null",
            "a text of 9 characters",
        ),
        "note[13]": ("a text", "null"),
    }


def test_columns_that_are_missing_twice_or_of_another_type_are_named() -> None:
    content = table([GOOD])
    reader = ColumnReader(TABLE)
    lacking = content.rename_columns(["Age", *content.column_names[1:]])
    assert problems(reader, lacking) == {
        "age": ('a number; did you mean "Age"?', "nothing (there is no such column)")
    }
    assert problems(reader, content.append_column("age", [[1]]))["age"][1] == "2 of them"
    texts = content.set_column(0, "age", [["40"]])
    assert problems(reader, texts) == {"age": ("a number", "a column of type string")}
    assert reader.read(content.drop_columns(["income", "job"]))["strings"].tolist() == [["", "Ulm", "hi"]]


def test_rows_beyond_the_limit_and_none_at_all_are_refused() -> None:
    content = table([GOOD] * 3)
    with pytest.raises(RequestTooLarge):
        ColumnReader(TABLE, 2).read(content)
    assert "inputs" in problems(ColumnReader(TABLE), content.slice(0, 0))


def test_tensors_that_do_not_fit_are_named() -> None:
    good = {"image": [[1.0], [2.0]], "mask": [1, 2]}
    reader = ColumnReader(PICTURES)
    bad = [good, {"image": [[1.0], [2.0, 3.0]], "mask": [1, 256]}, {"image": None, "mask": [1]}]
    assert set(problems(reader, table(bad))) == {"image[2]", "mask[2]"}
    assert set(problems(reader, table(bad[:2]))) == {"image[1]", "mask[1]"}
    assert set(problems(reader, table([{"image": [1.0, 2.0], "mask": ["a", "b"]}]))) == {"image", "mask"}


def test_the_elements_of_one_tensor_may_be_columns() -> None:
    signature = Signature(
        task="regression",
        inputs=(Field(name="x", kind="tensor", dtype="float32", shape=(2,)),),
        outputs=(VALUE,),
    )
    reader = ColumnReader(signature)
    assert reader.read(pa.table({"a": [1, 2], "b": [3.0, 4.0]}))["x"].tolist() == [[1, 3], [2, 4]]
    assert reader.read(pa.table({"x": [[1.0, 2.0]]}))["x"].tolist() == [[1, 2]]
    assert problems(reader, pa.table({"a": [1]}))["x"][1] == "1 columns"


def test_texts_of_other_dialects() -> None:
    signature = Signature(
        task="regression",
        inputs=(
            Field(name="price", kind="number", dtype="float64", missing=True),
            Field(name="day", kind="date", dtype="datetime", missing=True),
            Field(name="flag", kind="boolean", dtype="bool", missing=True),
        ),
        outputs=(VALUE,),
    )
    reader = ColumnReader(signature, texts=Texts(decimal_comma=True, dates={"day": "%d.%m.%Y"}))
    columns = pa.table(
        {"price": [" 3,14", "-", "2"], "day": ["02.01.2020", "", "?"], "flag": ["Yes", "0", "NA"]}
    )
    np.testing.assert_array_equal(
        reader.read(columns)["numbers"],
        [[3.14, 1577923200.0, 1], [math.nan, math.nan, 0], [2, math.nan, math.nan]],
    )
    assert set(
        problems(reader, pa.table({"price": ["1.2.3"], "day": ["01/02/2020"], "flag": ["perhaps"]}))
    ) == {
        "price[0]",
        "day[0]",
        "flag[0]",
    }


def test_numbers_become_texts_as_in_training() -> None:
    signature = Signature(
        task="regression",
        inputs=(Field(name="code", kind="category", dtype="str", missing=True),),
        outputs=(VALUE,),
    )
    reader = ColumnReader(signature)
    for column, expected in (([1, 2], ["1", "2"]), ([1.0, None, 2.5], ["1", "", "2.5"]), ([True], ["True"])):
        assert reader.read(pa.table({"code": column}))["strings"][:, 0].tolist() == expected


def test_answers_of_a_classifier_are_labels_and_a_column_for_each_class() -> None:
    answer = Field(name="kind", kind="category", dtype="str", values=("no", "yes"))
    signature = Signature(task="classification", inputs=(VALUE,), outputs=(answer,), probabilities=True)
    arrays = {"prediction": np.array([1, 0]), "probabilities": np.array([[0.25, 0.75], [1, 0]], np.float32)}
    assert answer_columns(signature, arrays).to_pydict() == {
        "prediction": ["yes", "no"],
        "probability_no": [0.25, 1.0],
        "probability_yes": [0.75, 0.0],
    }


def test_answers_of_several_numbers_are_lists_or_columns() -> None:
    signature = Signature(task="transform", inputs=(VALUE,), outputs=(VALUE,))
    arrays = {"out": np.arange(4.0).reshape(2, 2)}
    assert answer_columns(signature, arrays).to_pydict() == {"out": [[0, 1], [2, 3]]}
    assert answer_columns(signature, arrays, flat=True).to_pydict() == {"out_0": [0, 2], "out_1": [1, 3]}


def test_importing_imports_no_arrow() -> None:
    code = "import servable.protocols.columns, sys; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("int64", [2**53 + 1, -(2**63)], [1.5, None, "x"]),
        ("uint8", [0, 255], [256, -1, 2.5]),
        ("float32", [1.5, -3e38], [1e39, None]),
        ("bool", [True, False], [2, None]),
    ],
)
def test_elements_of_a_tensor_in_columns_of_their_own(dtype: str, good: list[Any], bad: list[Any]) -> None:
    signature = Signature(
        task="regression",
        inputs=(Field(name="x", kind="tensor", dtype=dtype, shape=(2,)),),
        outputs=(VALUE,),
    )
    reader = ColumnReader(signature, texts=Texts())
    array = reader.read(pa.table({"a": good, "b": good[::-1]}))["x"]
    assert array.dtype == np.dtype(dtype)
    assert array.tolist() == np.array([good, good[::-1]], dtype).T.tolist()
    for value in bad:
        column = pa.array([str(good[0]), value] if isinstance(value, str) else [0, value])
        with pytest.raises(RequestInvalid) as raised:
            reader.read(pa.table({"a": good, "b": column}))
        assert raised.value.problems[0].path == "b[1]"
