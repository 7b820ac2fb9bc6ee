"""What comes as a table or an array goes back as one, and what is not used is not imported."""

import io
import math
import subprocess
import sys

import httpx
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from servable.client import Client, Prediction, Predictions
from servable.client.tables import array, library
from servable.errors import DependencyMissing, RequestInvalid

CHANCES = ({"no": 0.75, "yes": 0.25}, {"no": None, "yes": 0.5})
FOUND = Predictions(predictions=("no", "yes"), probabilities=CHANCES, model="m", version=1)


def asked(rows, content=None, **options):
    """The answer of a client, and the request that it made."""
    seen = []
    told = content or {
        "predictions": ["no", "yes"],
        "probabilities": list(CHANCES),
        "model": "m",
        "version": 1,
        "request_id": "r",
    }

    def handler(request):
        seen.append(request)
        return httpx.Response(200, json=told)

    with Client("http://x", transport=httpx.MockTransport(handler)) as client:
        return client.predict("m", rows, **options), seen[0]


def test_pandas_in_and_out_keeps_the_index():
    frame = pd.DataFrame({"age": [1, 2]}, index=["first", "second"])
    answers, _ = asked(frame)
    table = answers.to_pandas()
    assert list(table.index) == ["first", "second"]
    assert list(table.columns) == ["prediction", "probability_no", "probability_yes"]
    assert table.prediction.tolist() == ["no", "yes"]
    assert math.isnan(table.probability_no["second"])
    pd.testing.assert_frame_equal(answers.to_frame(), table)
    assert frame.join(table).shape == (2, 4)


def test_polars_in_and_out():
    answers, request = asked(pl.DataFrame({"age": [1, None]}))
    assert request.content == b'{"inputs":[{"age":1},{"age":null}]}'
    table = answers.to_frame()
    assert isinstance(table, pl.DataFrame)
    assert table.to_dict(as_series=False) == {
        "prediction": ["no", "yes"],
        "probability_no": [0.75, None],
        "probability_yes": [0.25, 0.5],
    }
    assert isinstance(answers.to_pandas(), pd.DataFrame)


def test_arrow_in():
    answers, request = asked(pa.table({"age": [1, None]}))
    assert request.content == b'{"inputs":[{"age":1},{"age":null}]}'
    assert len(answers) == 2


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", ">f8"])
def test_arrays_of_numbers_go_as_they_are(dtype):
    rows = np.arange(6).reshape(2, 3).astype(dtype)
    answers, request = asked(np.asfortranarray(rows))
    assert request.headers["content-type"] == "application/x-npy"
    sent = np.load(io.BytesIO(request.content), allow_pickle=False)
    np.testing.assert_array_equal(sent, rows)
    assert answers.to_numpy().tolist() == ["no", "yes"]
    np.testing.assert_array_equal(answers.to_numpy(probabilities=True), [[0.75, 0.25], [math.nan, 0.5]])


@pytest.mark.parametrize(
    "rows",
    [
        np.array([[True], [False]]),
        np.array([["a"], ["b"]]),
        np.array([[1], ["b"]], dtype=object),
        np.array([["2026-01-31"], ["NaT"]], dtype="datetime64[D]"),
        np.ones((2, 1), dtype=np.longdouble),
        [np.ones(1), np.ones(1)],
    ],
    ids=["bool", "text", "object", "date", "long", "list"],
)
def test_other_arrays_go_as_json(rows):
    _, request = asked(rows)
    assert request.headers["content-type"] == "application/json"


def test_one_row_as_an_array():
    one = {"prediction": "no", "model": "m", "version": 1, "request_id": "r"}
    answer, request = asked(np.ones(3), one)
    assert isinstance(answer, Prediction)
    assert request.headers["content-type"] == "application/json"
    answer, request = asked(np.ones((2, 2)), one, single=True)
    assert isinstance(answer, Prediction)
    assert request.headers["content-type"] == "application/x-npy"
    with pytest.raises(RequestInvalid, match="one row"):
        asked(np.ones((2, 2)), single=True)
    # An image without the axis of the rows: only the server knows that it is one row.
    answers, _ = asked(np.ones((2, 2)), one)
    assert [each.prediction for each in answers] == ["no"]


@pytest.mark.parametrize(
    ("values", "dtype", "found"),
    [
        ((1.5, None), "float64", [1.5, math.nan]),
        ((1, 2), "int64", [1, 2]),
        (([1.0, None], [2.0, 3.0]), "float64", [[1.0, math.nan], [2.0, 3.0]]),
        ((True, False), "bool", [True, False]),
        (("a", None), "object", ["a", None]),
        (([1.0], [1.0, 2.0]), "object", [[1.0], [1.0, 2.0]]),
        (({"a": 1},), "object", [{"a": 1}]),
        ((), "float64", []),
    ],
)
def test_answers_as_arrays(values, dtype, found):
    made = array(values)
    assert made.dtype == dtype
    assert repr(made.tolist()) == repr(found)


def test_several_outputs_are_columns():
    answers = Predictions(predictions=({"a": 1, "b": [1.0]}, {"a": 2, "b": [2.0]}))
    assert answers.to_pandas().columns.tolist() == ["a", "b"]
    assert answers.to_polars().columns == ["a", "b"]
    assert Predictions().to_pandas().columns.tolist() == ["prediction"]


def test_answers_are_equal_whatever_the_rows_were():
    from_frame, _ = asked(pd.DataFrame({"age": [1, 2]}))
    from_rows, _ = asked([{"age": 1}, {"age": 2}])
    assert from_frame == from_rows
    assert msgspec.json.encode(from_frame) == msgspec.json.encode(from_rows)
    assert "source" not in repr(from_frame)
    assert repr(FOUND.to_numpy()) == repr(from_rows.to_numpy())


def test_a_library_that_is_not_there():
    with pytest.raises(DependencyMissing, match="pip install no_such_library"):
        library("no_such_library")


def test_plain_rows_import_no_table_or_array_library():
    program = (
        "import sys, httpx, servable\n"
        "def handler(request):\n"
        "    good = {'model': 'm', 'version': 1, 'request_id': 'r'}\n"
        "    key = 'prediction' if b'\"input\"' in request.content else 'predictions'\n"
        "    return httpx.Response(200, json={key: [1] if key == 'predictions' else 1, **good})\n"
        "with servable.Client('http://x', transport=httpx.MockTransport(handler)) as client:\n"
        "    client.predict('m', {'age': 42})\n"
        "    client.predict('m', [[1.5]]).predictions\n"
        "    list(client.predict_stream('m', [[1.5]]))\n"
        "heavy = ('numpy', 'pandas', 'polars', 'pyarrow', 'onnxruntime')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "[]", ran.stderr
