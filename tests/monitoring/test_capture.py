"""What is captured of requests, by the kind of each field and what its signature allows."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature, with_captures
from servable.errors import SettingInvalid
from servable.monitoring.capture import PredictionTable, column_of, hasher
from servable.monitoring.capture_pages import Page
from servable.monitoring.capture_scope import Taken, scope_of

KEY = b"k" * 32
MIXED = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64", missing=True),
        Field(name="visits", kind="number", dtype="int64", missing=True),
        Field(name="member", kind="boolean", dtype="bool", missing=True),
        Field(name="joined", kind="date", dtype="datetime", missing=True),
        Field(name="plan", kind="category", dtype="str", missing=True),
        Field(name="zone", kind="category", dtype="int64", missing=True),
        Field(name="note", kind="text", dtype="str", missing=True),
        Field(name="window", kind="tensor", dtype="float32", shape=(-1,)),
    ),
    outputs=(Field(name="churned", kind="category", dtype="bool", values=(False, True)),),
    probabilities=True,
)


def taken(rows: int = 2, *, code: str = "ok", request_id: str = "r", width: int = 3) -> Taken:
    numbers = np.array([[30.5, 4, 1, 1_700_000_000, 7], [np.nan] * 5])[:rows]
    strings = np.array([["gold", "call me"], ["", ""]], object)[:rows]
    arrays = {"numbers": numbers, "strings": strings, "window": np.ones((rows, width), np.float32)}
    answers = {
        "prediction": np.array([1, 0])[:rows],
        "probabilities": np.array([[0.2, 0.8], [0.7, 0.3]])[:rows],
    }
    return Taken(arrays, rows, request_id, answers if code == "ok" else None, code, 0.25, 1_700_000_000.5, 0)


def table(signature: Signature, *given: Taken) -> pa.Table:
    """Of requests on their own; where all were answered, those in columns must make the same of it."""
    alone, together = Page(scope_of(signature), 0.1), Page(scope_of(signature), 0.1)
    alone.others.extend(given)
    made = PredictionTable(signature, 3, KEY).of(alone)
    if all(each.answers is not None and each.places is None for each in given):
        for each in given:
            assert each.answers is not None
            columns = together.columns or together.learn(each.arrays, each.answers, each.rows)
            if not columns.add(each.arrays, each.answers, each.request_id, each.rows, each.seconds, each.at):
                together.others.append(each)
        assert PredictionTable(signature, 3, KEY).of(together).equals(made)
    return made


def test_every_field_is_kept_in_its_own_type() -> None:
    found = table(with_captures(MIXED, {"note": "keep"}), taken())
    moment = pa.timestamp("us", "UTC")
    assert {field.name: field.type for field in found.schema} == {
        "request_id": pa.string(), "row": pa.int32(), "at": moment, "version": pa.int32(),
        "code": pa.string(), "seconds": pa.float64(),
        "in.age": pa.float64(), "in.visits": pa.int64(), "in.member": pa.bool_(), "in.joined": moment,
        "in.plan": pa.string(), "in.zone": pa.string(), "in.note": pa.string(),
        "in.window": pa.list_(pa.float64()), "out.prediction": pa.string(),
        "out.probabilities": pa.list_(pa.float64()), "sampled": pa.float64(),
    }  # fmt: skip
    first, second = found.to_pylist()
    assert first["at"] == datetime(2023, 11, 14, 22, 13, 20, 500_000, UTC)
    assert (first["request_id"], first["row"], second["row"], first["version"]) == ("r", 0, 1, 3)
    assert [first[f"in.{field.name}"] for field in MIXED.inputs] == [
        30.5, 4, True, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), "gold", "7", "call me",
        [1.0, 1.0, 1.0],
    ]  # fmt: skip
    assert [second[f"in.{field.name}"] for field in MIXED.inputs][:-1] == [None] * 7
    assert (first["out.prediction"], second["out.prediction"]) == ("true", "false")
    assert first["out.probabilities"] == [0.2, 0.8]
    assert (first["code"], first["seconds"], first["sampled"]) == ("ok", 0.25, 0.1)


def test_texts_are_hashed_unless_it_is_said_otherwise() -> None:
    first, second = table(MIXED, taken()).to_pylist()
    assert first["in.note"] == hasher(KEY)("call me")
    assert len(first["in.note"]) == 32
    assert second["in.note"] is None
    assert hasher(b"another" * 5)("call me") != first["in.note"]


def test_what_is_private_is_hashed_or_not_there() -> None:
    private = {
        "age": "drop",
        "plan": "hash",
        "zone": "hash",
        "window": "hash",
        "churned": "drop",
        "visits": "hash",
    }
    found = table(with_captures(MIXED, private), taken(), taken(request_id="again"))
    assert {"in.age", "out.prediction", "out.probabilities"}.isdisjoint(found.column_names)
    rows = found.to_pylist()
    assert "gold" not in repr(rows)
    assert rows[0]["in.plan"] == rows[2]["in.plan"] == hasher(KEY)("gold")
    assert rows[0]["in.visits"] == hasher(KEY)("4")
    assert rows[1]["in.plan"] is None
    assert rows[0]["in.window"] == rows[1]["in.window"]


def test_a_failed_request_has_its_inputs_and_no_answer() -> None:
    found = table(MIXED, taken(code="model_failed"), taken(1), taken(code="model_failed"))
    assert found["code"].to_pylist() == ["model_failed"] * 2 + ["ok"] + ["model_failed"] * 2
    assert found["out.prediction"].to_pylist() == [None, None, "true", None, None]
    assert found["out.probabilities"].to_pylist() == [None, None, [0.2, 0.8], None, None]
    assert found["in.age"].to_pylist()[0] == 30.5
    assert "out.prediction" not in table(MIXED, taken(code="overloaded")).column_names


def test_the_pieces_of_a_request_say_where_their_rows_stand() -> None:
    pieces = [taken()._replace(places=[4, 9]), taken(1), taken()._replace(places=[0, 1])]
    assert table(MIXED, *pieces)["row"].to_pylist() == [4, 9, 0, 0, 1]


def test_a_tensor_that_was_too_large_is_null() -> None:
    large = taken()
    del large[0]["window"]  # type: ignore[attr-defined]  # a dict here
    found = table(MIXED, large, taken(1, width=2))
    assert found["in.window"].to_pylist() == [None, None, [1.0, 1.0]]


def test_outputs_of_any_model_come_under_their_own_names() -> None:
    signature = Signature(
        task="transform",
        inputs=(Field(name="x", kind="number", dtype="float64"),),
        outputs=(
            Field(name="vector", kind="tensor", dtype="float32", shape=(2,)),
            Field(name="words", kind="text", dtype="str"),
        ),
    )
    answers = {"vector": np.ones((1, 2), np.float16), "words": np.array(["hello"], object)}
    one = Taken({"numbers": np.ones((1, 1))}, 1, "r", answers, "ok", 0.1, 1.0, 0)
    (row,) = table(signature, one).to_pylist()
    assert row["out.vector"] == [1.0, 1.0]
    assert row["out.words"] == hasher(KEY)("hello")


@given(
    shapes=st.lists(st.none() | st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=6),
    flat=st.booleans(),
)
def test_arrays_of_several_requests_become_one_column(shapes: list[Any], flat: bool) -> None:
    rows = np.array([2 if shape is None else shape[0] for shape in shapes])
    parts = [
        None
        if shape is None
        else np.arange(shape[0] * (1 if flat else shape[1]), dtype=np.int64).reshape(
            shape[0] if flat else shape
        )
        for shape in shapes
    ]
    expected = [
        value for part, count in zip(parts, rows, strict=True)
        for value in ([None] * count if part is None else part.tolist())
    ]  # fmt: skip
    assert column_of(parts, rows).to_pylist() == expected


def test_choices_are_checked() -> None:
    with pytest.raises(SettingInvalid, match=r"no column 'agee' to keep private; did you mean age\?"):
        with_captures(MIXED, {"agee": "drop"})
    with pytest.raises(SettingInvalid, match="age is one of keep, hash, drop, encrypt, not 'burn'"):
        with_captures(MIXED, {"age": "burn"})
