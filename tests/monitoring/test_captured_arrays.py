"""Lists of numbers in captured traffic become arrays again, row by row."""

import numpy as np
import pyarrow as pa
import pytest

from servable.artifact.signature import Field, Signature
from servable.monitoring import captured_arrays as module
from servable.monitoring.captured_arrays import captured_arrays, vectors_of
from servable.monitoring.reference import Key

SIGNATURE = Signature(
    task="transform",
    inputs=(Field(name="x", kind="tensor", dtype="float32", shape=(2, 2)),
            Field(name="secret", kind="tensor", dtype="float32", shape=(2,), capture="hash"),
            Field(name="age", kind="number", dtype="float64")),
    outputs=(Field(name="embedding", kind="tensor", dtype="float32", shape=(3,)),),
)  # fmt: skip


def test_inputs_and_answers_keep_the_places_of_their_rows() -> None:
    table = pa.table(
        {
            "in.x": pa.array([[1.0, 2, 3, 4], None, [5, 6, 7, 8], [9, 9]], pa.list_(pa.float64())),
            "in.secret": pa.array(["ab"] * 4),
            "in.age": pa.array([1.0] * 4),
            "out.embedding": pa.array([[1, 2, 3]] * 4, pa.list_(pa.int64())),
            "out.probabilities": pa.array([[0.5, 0.5]] * 4),
            "out.text": pa.array([["a"]] * 4),
            "out.nothing": pa.nulls(4),
        }
    )
    found = captured_arrays(SIGNATURE, table)
    assert set(found) == {Key("input", "x"), Key("output", "embedding")}
    vectors = found[Key("input", "x")]
    # Of rows of several lengths those of the most frequent one are compared.
    assert vectors.places.tolist() == [0, 2]
    assert vectors.values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert found[Key("output", "embedding")].values.shape == (4, 3)


def test_parts_of_several_segments_and_missing_numbers() -> None:
    parts = [[[1.0, None]], [], [[3.0, 4.0]]]
    column = pa.chunked_array([pa.array(part, pa.list_(pa.float64())) for part in parts])
    vectors = vectors_of(column.slice(0, 2))
    assert vectors is not None
    assert vectors.places.tolist() == [0, 1]
    assert np.array_equal(vectors.values, [[1, np.nan], [3, 4]], equal_nan=True)
    assert vectors_of(pa.chunked_array([pa.array([None], pa.list_(pa.float64()))])) is None


@pytest.mark.parametrize("kind", [pa.large_list(pa.float32()), pa.list_(pa.float64(), 2)])
def test_other_lists_are_arrays_as_well(kind: pa.DataType) -> None:
    vectors = vectors_of(pa.chunked_array([pa.array([[1.0, 2.0], None, [3.0, 4.0]], kind)]))
    assert vectors is not None
    assert vectors.places.tolist() == [0, 2]
    assert vectors.values.tolist() == [[1, 2], [3, 4]]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NUMBERS_HELD", 40)
    vectors = vectors_of(pa.chunked_array([pa.array([[float(each), 0.0] for each in range(100)])]))
    assert vectors is not None
    assert vectors.places.tolist() == list(range(0, 100, 5))
    assert vectors.values[:, 0].tolist() == list(range(0, 100, 5))
