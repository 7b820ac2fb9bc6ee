"""Rows in memory, in every form that callers have them in."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

import servable
from servable.errors import DataError
from servable.workflows.rows import frame_of

NUMBERS = np.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
FRAME = pd.DataFrame(NUMBERS, columns=["a", "b"])


@pytest.mark.parametrize(
    "rows",
    [
        FRAME,
        NUMBERS,
        NUMBERS.astype(object),
        NUMBERS.tolist(),
        [tuple(row) for row in NUMBERS.tolist()],
        list(NUMBERS),
        FRAME.to_dict("records"),
        FRAME.to_dict("list"),
        sp.csr_matrix(NUMBERS),
        pa.Table.from_pandas(FRAME),
        np.asarray([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)], dtype=[("a", "f8"), ("b", "f8")]),
    ],
    ids=[
        "frame", "array", "objects", "lists", "tuples", "arrays", "records", "columns", "sparse", "arrow",
        "structured",
    ],
)  # fmt: skip
def test_every_form_is_the_same_table(rows: Any) -> None:
    pd.testing.assert_frame_equal(frame_of(rows, ["a", "b"]), FRAME)


def test_columns_without_names_get_some() -> None:
    assert list(frame_of(NUMBERS).columns) == ["x0", "x1"]
    # Names of another number of columns are no help.
    assert list(frame_of(NUMBERS, ["a"]).columns) == ["x0", "x1"]
    assert list(frame_of(["one", "two"], ["text"]).columns) == ["text"]
    assert list(frame_of(np.asarray([1.0, 2.0])).columns) == ["x0"]
    assert list(frame_of(FRAME["a"]).columns) == ["a"]
    assert list(frame_of(pd.Series([1.0]), ["b"]).columns) == ["b"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[1, 2], [3]], "as many values"),
        ([[1, 2], {"a": 1}], "all be lists"),
        ([1, {"a": 1}], "several forms"),
        ([1, {2, 3}], "several forms"),
        ([], "no rows"),
        (np.zeros((2, 2, 2)), r"shape \[2, 2, 2\]"),
        (np.zeros((0, 2)), r"shape \[0, 2\]"),
        (np.asarray(5.0), r"shape \[\]"),
        ({"a": [1, 2], "b": [1]}, "columns cannot be read"),
        ({"a": 1}, "columns cannot be read"),
        (5, "type int"),
        ((value for value in ()), "type generator"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(rows: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        frame_of(rows)


def test_a_model_is_added_with_an_array_as_its_sample(iris: pd.DataFrame, tmp_path: Any) -> None:
    rows = iris.drop(columns="species")
    named = LogisticRegression(max_iter=500).fit(rows, iris["species"])
    made = servable.add(named, name="named", sample=rows.to_numpy(), home=tmp_path)
    assert made.inputs == tuple(rows.columns)
    assert made.serving.startswith("onnx")
    plain = LogisticRegression(max_iter=500).fit(rows.to_numpy(), iris["species"])
    assert servable.add(plain, name="plain", sample=rows.to_numpy().tolist(), home=tmp_path).inputs == (
        "x0", "x1", "x2", "x3",
    )  # fmt: skip
    with pytest.raises(DataError, match="takes 4 columns, the sample has 3"):
        servable.add(plain, name="plain", sample=rows.to_numpy()[:, :3], home=tmp_path)
    told = [
        {**row, "species": label} for row, label in zip(rows.to_dict("records"), iris["species"], strict=True)
    ]
    assert servable.evaluate("named", told, target="species", home=tmp_path).metrics["accuracy"] > 0.9
