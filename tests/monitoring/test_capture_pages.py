"""Requests that look alike become columns, all others stay as they are, and no row is torn between both."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature, with_captures
from servable.monitoring.capture_pages import Columns, Page, columns_like
from servable.monitoring.capture_scope import MOST_ROW_BYTES, CaptureScope, Taken, scope_of
from servable.tensors import Arrays

TABLE = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64"),
        Field(name="plan", kind="category", dtype="str"),
        Field(name="window", kind="tensor", dtype="float32", shape=(-1,)),
    ),
    outputs=(Field(name="churned", kind="category", dtype="bool", values=(False, True)),),
    probabilities=True,
)
SCOPE = scope_of(TABLE)


def inputs(rows: int = 1, width: int = 3, dtype: Any = np.float32) -> dict[str, Any]:
    return {
        "numbers": np.full((rows, 1), float(rows)),
        "strings": np.full((rows, 1), "gold" * rows, object),
        "window": np.full((rows, width), 2, dtype),
    }


def answers(rows: int = 1, dtype: Any = np.int64) -> dict[str, Any]:
    return {"prediction": np.full(rows, rows % 2, dtype), "probabilities": np.full((rows, 2), 0.5)}


def columns(given: Arrays | None = None, answered: Arrays | None = None) -> Columns:
    return columns_like(SCOPE, given or inputs(), answered or answers(), 1)


def add(into: Columns, given: Arrays, answered: Arrays, rows: int = 1, request_id: str = "r") -> int:
    return into.add(given, answered, request_id, rows, 0.5, 7.0)


def test_requests_that_look_alike_follow_each_other() -> None:
    found = columns()
    assert add(found, inputs(), answers(), 1, "a") > 0
    assert add(found, inputs(2), answers(2), 2, "b") > 0
    assert (found.rows, found.ids, found.counts) == (3, ["a", "b"], [1, 2])
    assert (found.seconds, found.at) == ([0.5, 0.5], [7.0, 7.0])
    made = {**found.inputs(), **found.outputs()}
    for name, first in {**inputs(), **answers()}.items():
        second = {**inputs(2), **answers(2)}[name]
        assert made[name].dtype == first.dtype
        np.testing.assert_array_equal(made[name], np.concatenate([first, second]))


def test_a_view_of_a_batch_is_copied_as_it_stands() -> None:
    batch = np.arange(12.0).reshape(4, 3)
    given = {**inputs(), "numbers": batch[1:2, 2:3]}
    found = columns()
    add(found, given, {**answers(), "probabilities": np.asfortranarray(batch[:, :2])[2:3]})
    batch[:] = -1
    assert found.inputs()["numbers"].tolist() == [[5.0]]
    assert found.outputs()["probabilities"].tolist() == [[6.0, 7.0]]


OTHERS: dict[str, tuple[Arrays, Arrays]] = {
    "another width": (inputs(width=4), answers()),
    "another type of an input": (inputs(dtype=np.int32), answers()),
    "another type of the answer": (inputs(), answers(dtype=np.int32)),
    "one axis more": (inputs(), {**answers(), "prediction": np.zeros((1, 1), np.int64)}),
    "an input less": ({"numbers": np.zeros((1, 1)), "strings": np.full((1, 1), "", object)}, answers()),
    "an answer less": (inputs(), {"prediction": np.zeros(1, np.int64)}),
    "an answer more": (inputs(), {**answers(), "score": np.zeros(1)}),
    "more rows than it says": (inputs(2), answers(2)),
    "no text": ({**inputs(), "strings": np.full((1, 1), None, object)}, answers()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_request_that_looks_otherwise_leaves_nothing_behind(name: str) -> None:
    found = columns()
    add(found, inputs(), answers())
    given, answered = OTHERS[name]
    assert add(found, given, answered) == 0
    assert add(found, inputs(), answers(), 1, "after") > 0
    assert (found.rows, found.ids) == (2, ["r", "after"])
    assert {len(array) for array in (*found.inputs().values(), *found.outputs().values())} == {2}
    assert found.inputs()["strings"].tolist() == [["gold"], ["gold"]]


@given(kinds=st.lists(st.sampled_from(["alike", "rows", "undone", *OTHERS]), max_size=12))
def test_no_order_of_requests_tears_a_row(kinds: list[str]) -> None:
    found, kept = columns(), list[int]()
    for kind in kinds:
        rows = 3 if kind == "rows" else 1
        given, answered = OTHERS.get(kind, (inputs(rows), answers(rows)))
        size = add(found, given, answered, rows)
        assert bool(size) == (kind not in OTHERS)
        if kind == "undone":
            found.undo()
        elif size:
            kept += [rows] * rows
    assert found.rows == len(kept)
    assert found.inputs()["numbers"].ravel().tolist() == kept
    assert found.inputs()["strings"].ravel().tolist() == ["gold" * rows for rows in kept]
    assert found.outputs()["prediction"].tolist() == [rows % 2 for rows in kept]


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ({**inputs(), "window": np.zeros((1, 0), np.float32)}, answers()),
        ({**inputs(), "window": np.zeros((1, MOST_ROW_BYTES), np.float32)}, answers()),
        ({**inputs(), "window": np.full((1, 3), None)}, answers()),
        (inputs(), {**answers(), "prediction": np.array(["yes"])}),
        (inputs(), {**answers(), "words": np.array(["yes"], object)}),
        (inputs(), {**answers(), "mask": np.zeros((1, MOST_ROW_BYTES))}),
    ],
    ids=["empty", "too large", "of another type", "letters of free width", "objects", "too large an answer"],
)
def test_what_has_no_fixed_form_gets_no_columns(given: Arrays, answered: Arrays) -> None:
    found = columns(given, answered)
    assert add(found, given, answered) == 0
    assert add(found, inputs(), answers()) == 0
    assert found.rows == 0


def test_more_rows_and_longer_texts_take_more_bytes() -> None:
    found = columns()
    one, two = add(found, inputs(), answers()), add(found, inputs(2), answers(2), 2)
    long = add(found, {**inputs(), "strings": np.full((1, 1), "x" * 1000, object)}, answers())
    assert one < two < long
    assert one + 990 < long


def test_a_page_learns_from_its_first_answer() -> None:
    page = Page(SCOPE, 0.5)
    assert page.columns is None
    learned = page.learn(inputs(width=5), answers(), 1)
    assert page.columns is learned
    assert add(learned, inputs(width=5), answers()) > 0
    assert page.first == 7.0
    page.others.append(Taken(inputs(), 1, "r", None, "model_failed", 0.1, 6.0, 0))
    assert page.first == 6.0


def test_a_copy_holds_what_is_captured_and_no_memory_of_others() -> None:
    scope = CaptureScope(
        ("numbers",), (("window", np.dtype("float32")),), frozenset({"probabilities"}), frozenset()
    )
    given, answered = inputs(2), answers(2)
    taken = scope.copied(Taken(given, 2, "r", answered, "ok", 0.1, 1.0, 0))
    given["numbers"][:] = answered["prediction"][:] = 9
    assert taken.answers is not None
    assert (set(taken.arrays), set(taken.answers)) == ({"numbers", "window"}, {"prediction"})
    assert taken.arrays["numbers"].tolist() == [[2.0], [2.0]]
    assert taken.answers["prediction"].tolist() == [0, 0]
    assert taken.size > sum(array.nbytes for array in (*taken.arrays.values(), *taken.answers.values()))


def test_what_is_private_does_not_wait_in_memory() -> None:
    scope = scope_of(with_captures(TABLE, {"churned": "drop", "window": "drop"}))
    found = columns_like(scope, inputs(), answers(), 1)
    assert add(found, inputs(), answers()) > 0
    assert set(found.inputs()) == {"numbers", "strings"}
    assert found.outputs() == {}
