"""Windows, runs and seasons."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid
from servable.monitoring.windows import Length, Run, cut, length_of, runs, season


@given(
    rows=st.integers(0, 3000),
    size=st.integers(0, 400),
    least=st.integers(1, 200),
)
def test_windows_of_rows_hold_every_row_once(rows: int, size: int, least: int) -> None:
    windows = cut(rows, None, Length(rows=size), least)
    assert [place for window in windows for place in range(window.start, window.stop)] == list(range(rows))
    assert all(window.rows >= least for window in windows) or len(windows) <= 1


@given(
    gaps=st.lists(st.floats(0, 5000), min_size=1, max_size=200),
    seconds=st.sampled_from([60.0, 3600.0, 86_400.0]),
    least=st.integers(1, 20),
)
def test_windows_of_time_hold_every_row_once_and_begin_with_their_time(gaps, seconds, least) -> None:
    at = np.cumsum(gaps)
    windows = cut(len(at), at, Length(seconds=seconds), least)
    assert [place for window in windows for place in range(window.start, window.stop)] == list(range(len(at)))
    for before, after in pairwise(windows):
        assert at[before.stop - 1] // seconds < at[after.start] // seconds


def test_windows_of_time_need_times() -> None:
    with pytest.raises(SettingInvalid, match="--time"):
        cut(10, None, Length(seconds=60), 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("500", Length(rows=500)),
        ("6h", Length(seconds=21_600)),
        ("1d", Length(seconds=86_400)),
        ("30 min", Length(seconds=1800)),
        ("0.5h", Length(seconds=1800)),
        ("2w", Length(seconds=1_209_600)),
    ],
)
def test_lengths_are_read(text: str, found: Length) -> None:
    assert length_of(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [("7d", "1 week"), ("36h", "36 hours"), ("90s", "90 seconds"), ("1h", "1 hour"), ("5000", "5,000 rows")],
)
def test_lengths_are_said_in_their_largest_whole_unit(text: str, said: str) -> None:
    assert str(length_of(text)) == said


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "day", "5 fortnights", "1e9"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(SettingInvalid):
        length_of(text)


def test_one_quiet_window_ends_nothing_and_two_do() -> None:
    flags = [bool(int(sign)) for sign in "0110100011"]
    assert runs(flags) == (Run(1, 4, False), Run(8, 9, True))


def test_a_long_run_bridges_more() -> None:
    flags = [bool(int(sign)) for sign in "1" * 12 + "000" + "1"]
    assert runs(flags) == (Run(0, 15, True),)


@given(st.lists(st.booleans(), max_size=60))
def test_every_flag_is_in_a_run_and_runs_begin_and_end_with_flags(flags: list[bool]) -> None:
    found = runs(flags)
    inside = {place for run in found for place in range(run.first, run.last + 1)}
    assert {place for place, flag in enumerate(flags) if flag} <= inside
    assert all(flags[run.first] and flags[run.last] for run in found)
    assert not any(run.open for run in found[:-1])


def test_seasons_are_told_from_steps_and_noise() -> None:
    random = np.random.default_rng(0)
    week = np.tile([0, 0, 0, 0, 0, 1.0, 1.0], 8)
    assert season(week + random.normal(scale=0.05, size=56)) == 7
    assert season([0.0] * 30 + [1.0] * 30) == 0
    assert season(random.normal(size=60)) == 0
    assert season([]) == 0
    assert season([1.0] * 30) == 0
