"""Rows that killed a model are known: by one process, and by all that share an area of memory."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.runtime.poison import PoisonArea, PoisonMemory, own_memory
from servable.tensors import Arrays

#: As long as rows are remembered, in seconds.
AGE_S = 600.0


@pytest.fixture
def area() -> Iterator[PoisonArea]:
    made = PoisonArea.create()
    yield made
    made.close()


@pytest.fixture
def other(area: PoisonArea) -> Iterator[PoisonArea]:
    """The same area as another process sees it."""
    opened = PoisonArea(os.dup(area.descriptor))
    yield opened
    opened.close()


def row(number: float) -> Arrays:
    return {"numbers": np.array([[number, 1.0]])}


def test_what_one_process_learned_all_know_for_as_long(area: PoisonArea, other: PoisonArea) -> None:
    mine, theirs = area.of("iris/onnx"), other.of("iris/onnx")
    assert theirs.until == 0.0
    mine.add(row(1.0), 1000.0)
    assert theirs.until == 1000.0 + AGE_S
    assert theirs.has(row(1.0), 1000.0)
    assert theirs.has(row(1.0), 999.0 + AGE_S)
    assert not theirs.has(row(1.0), 1000.0 + AGE_S)
    assert not theirs.has(row(2.0), 1000.0)
    theirs.add(row(1.0), 1300.0)
    assert mine.has(row(1.0), 1200.0 + AGE_S)


def test_rows_that_killed_one_model_say_nothing_of_another(area: PoisonArea) -> None:
    area.of("iris/onnx").add(row(1.0), 0.0)
    assert not area.of("iris/trained").has(row(1.0), 0.0)
    assert not area.of("flowers/onnx").has(row(1.0), 0.0)


def test_strings_shapes_and_types_count(area: PoisonArea) -> None:
    poison = area.of("m")
    texts = {"strings": np.array([["a", "b"]], dtype=object)}
    poison.add(texts, 0.0)
    assert poison.has({"strings": np.array([["a", "b"]], dtype=object)}, 1.0)
    assert not poison.has({"strings": np.array([["a"], ["b"]], dtype=object)}, 1.0)
    poison.add(row(1.0), 0.0)
    assert not poison.has({"numbers": np.array([[1.0, 1.0]], dtype=np.float32)}, 1.0)


@given(st.lists(st.integers(0, 10_000), max_size=600))
def test_the_newest_is_always_known_and_nothing_else_is_made_up(numbers: list[int]) -> None:
    area = PoisonArea.create()
    try:
        poison = area.of("m")
        for moment, number in enumerate(numbers):
            poison.add(row(float(number)), float(moment))
            assert poison.has(row(float(number)), float(moment))
        assert not any(poison.has(row(number + 0.5), 0.0) for number in set(numbers))
        # An area is bounded; below its size nearly everything is known.
        known = sum(poison.has(row(float(number)), 0.0) for number in set(numbers))
        assert known <= 256
        assert known >= min(len(set(numbers)), 64) * 0.9
    finally:
        area.close()


def test_a_process_that_is_alone_remembers_by_itself() -> None:
    one, another = own_memory("m"), own_memory("m")
    one.add(row(1.0), 5.0)
    assert one.has(row(1.0), 5.0)
    assert one.until == 5.0 + AGE_S
    assert not another.has(row(1.0), 5.0)


def test_the_oldest_of_many_is_forgotten() -> None:
    memory = PoisonMemory()
    for number in range(300):
        memory.add(row(float(number)), float(number))
    assert not memory.has(row(0.0), 300.0)
    assert memory.has(row(299.0), 300.0)
