"""Rows learned from and rows measured on never meet, whatever the window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import DataError
from servable.updating.window import Window, cut, recent, weights

WINDOWS = st.builds(
    Window,
    rows=st.integers(0, 500),
    half_life=st.integers(0, 500),
    held_out=st.floats(0, 1),
    fewest=st.integers(1, 200),
    most=st.integers(200, 1000),
)


@given(st.integers(1, 2000), st.integers(0, 2000), WINDOWS)
def test_what_is_measured_on_is_new_to_both(size: int, unseen: int, window: Window) -> None:
    unseen = min(unseen, size)
    try:
        parts = cut(size, unseen, window)
    except DataError:
        assert unseen < window.fewest or unseen == size
        return
    assert not set(parts.learn) & set(parts.held)
    # Neither version learned from them: they are the newest, and the champion never saw them.
    assert parts.held[-1] == size - 1
    assert parts.held[0] == parts.learn[-1] + 1
    assert parts.held[0] >= size - unseen
    assert window.fewest <= len(parts.held) <= window.most
    assert len(parts.learn) <= (window.rows or size)


def test_the_share_decides_within_its_limits() -> None:
    window = Window(held_out=0.25, fewest=100, most=300)
    assert len(cut(10_000, 1_000, window).held) == 250
    assert len(cut(10_000, 200, window).held) == 100
    assert len(cut(10_000, 5_000, window).held) == 300


def test_too_few_rows_are_said() -> None:
    with pytest.raises(DataError, match="99 labelled rows"):
        cut(1_000, 99, Window())
    with pytest.raises(DataError, match="none are left to learn from"):
        cut(100, 100, Window())


def test_a_window_keeps_the_newest() -> None:
    assert recent(np.arange(10), Window(rows=3)).tolist() == [7, 8, 9]
    assert recent(np.arange(10), Window()).tolist() == list(range(10))


def test_older_rows_count_half_after_the_half_life() -> None:
    found = weights(11, Window(half_life=5))
    assert found is not None
    assert found[[0, 5, 10]].tolist() == [0.25, 0.5, 1.0]
    assert weights(11, Window()) is None


@given(st.integers(1, 5000), st.integers(1, 50))
def test_no_row_counts_nothing_and_none_more_than_a_newer_one(count: int, half_life: int) -> None:
    found = weights(count, Window(half_life=half_life))
    assert found is not None
    assert (found > 0).all()
    assert (np.diff(found) >= 0).all()
    assert found[-1] == 1
