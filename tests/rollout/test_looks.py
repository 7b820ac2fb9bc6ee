"""Which moments of a rollout are kept for its pictures."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.registry.rollout_records import Course, read_course, stored
from servable.rollout.evidence import Comparison
from servable.rollout.looks import MOST_LOOKS, due, with_look
from servable.rollout.sequential import Interval

SEEN = Comparison(
    measure="error rate", unit="share",
    champion=0.0123456789, champion_interval=Interval(0.01, 0.02),
    challenger=0.5, challenger_interval=Interval(0.25, math.inf),
)  # fmt: skip


def test_a_look_keeps_both_versions_with_their_intervals() -> None:
    course = with_look(Course(step=2), (SEEN,), 1000.0)
    (look,) = course.looks
    assert (look.at, look.step) == (1000.0, 2)
    assert look.measures == {"error rate": (0.012346, 0.01, 0.02, 0.5, 0.25, None)}
    assert read_course(stored(course)) == course


def test_the_share_of_an_answer_is_named_and_may_lack_everything() -> None:
    outputs = Comparison(measure="outputs", of="yes", challenger=0.5)
    (look,) = with_look(Course(), (outputs,), 0.0).looks
    assert look.measures == {"outputs of 'yes'": (None, None, None, 0.5, None, None)}


def test_nothing_known_is_no_look() -> None:
    course = Course()
    assert with_look(course, (), 5.0) is course


@pytest.mark.parametrize(("after", "kept"), [(0.5, False), (29, False), (30, True)])
def test_a_twentieth_of_a_step_lies_between_two_looks(after: float, kept: bool) -> None:
    course = with_look(Course(), (SEEN,), 1000.0)
    assert due(Course(), 600, 1000.0)
    assert due(course, 600, 1000.0 + after) is kept


def test_steps_of_a_moment_are_not_looked_at_more_often_than_each_second() -> None:
    course = with_look(Course(), (SEEN,), 1000.0)
    assert not due(course, 0.1, 1000.9)
    assert due(course, 0.1, 1001.0)


@given(
    every_s=st.floats(0.1, 86_400), lasts=st.floats(1, 1_000_000), apart=st.floats(0.2, 500),
)  # fmt: skip
def test_however_long_it_lasts_few_looks_are_kept_in_order(
    every_s: float, lasts: float, apart: float
) -> None:
    course, now = Course(), 0.0
    for _ in range(min(int(lasts / apart), 2000)):
        now += apart
        if due(course, every_s, now):
            course = with_look(course, (SEEN,), now)
    moments = [look.at for look in course.looks]
    assert len(moments) <= MOST_LOOKS
    assert moments == sorted(set(moments))
    if moments:
        # The last one is never older than what lies between two looks of so long a course, and one more.
        assert now - moments[-1] <= max(every_s / 20, (now - moments[0]) / 60, 1.0) * 2 + apart
