"""Pictures of how versions fared over time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from servable.training.change_figures import Line, Mark, over_time
from servable.training.figures import dated_axis
from thoroughness import examples

BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def drawn(lines: list[Line], **more: object) -> str:
    return over_time(lines, title="Accuracy over time", unit=lambda value: f"{value:g}!", **more)  # type: ignore[arg-type]


@settings(max_examples=examples(200), deadline=None)
@given(st.floats(-3, 9.5))
def test_whatever_the_span_an_axis_of_moments_has_some_marks(power: float) -> None:
    axes = Figure().add_subplot()
    dated_axis(axes)
    axes.set_xlim(date2num(BEGAN), date2num(BEGAN + timedelta(seconds=10**power)))
    # Warnings are errors: it may not say that it found no interval.
    assert 2 <= len(axes.xaxis.get_major_locator()()) <= 9


def test_lines_marks_and_units_are_there() -> None:
    at = [BEGAN + timedelta(minutes=minute) for minute in range(8)]
    values = [0.1, 0.2, None, 0.4, 0.5, 0.5, 0.5, 0.5]
    svg = drawn(
        [Line("version 1", 7, at, values), Line("new <b>", 0, at, values, [0.0] * 8, [1.0] * 8, [True] * 8)],
        marks=[Mark(at[3], "v7"), Mark(at[3] + timedelta(days=9), "v8")],
        span=(at[0], at[-1]),
    )
    assert 'role="img" aria-label="Accuracy over time"' in svg
    assert {"version 1", "new &lt;b&gt;", "v7"} <= set(texts(svg))
    assert "v8" not in texts(svg)
    assert any(text.endswith("!") for text in texts(svg))
    assert "var(--c0)" in svg
    assert "var(--c7)" in svg
    assert "#1000" not in svg


def test_the_first_wide_intervals_do_not_make_the_rest_small() -> None:
    at = [BEGAN + timedelta(minutes=minute) for minute in range(40)]
    line = Line("new", 0, at, [0.5] * 40, [0.0] * 5 + [0.49] * 35, [1.0] * 5 + [0.51] * 35)
    marks = [float(text.removesuffix("!")) for text in texts(drawn([line])) if text.endswith("!")]
    assert marks
    assert all(0.48 < mark < 0.52 for mark in marks)


@pytest.mark.parametrize("known", [([0.4], [0.6]), ([None], [0.6]), ([], [])])
def test_a_single_moment_is_drawn(known: tuple[list[float | None], list[float | None]]) -> None:
    svg = drawn([Line("new", 0, [BEGAN], [0.5], *known)], marks=[Mark(BEGAN, "v1")], span=(BEGAN, BEGAN))
    assert "v1" in texts(svg)


def test_nothing_known_is_drawn_empty() -> None:
    assert "<svg" in drawn([Line("new", 0, [BEGAN, BEGAN + timedelta(days=1)], [None, None])])


def texts(svg: str) -> list[str]:
    """The texts of a picture, as they stand in the page."""
    return [part.split("</text>")[0].split(">")[-1].strip() for part in svg.split("<text")[1:]]
