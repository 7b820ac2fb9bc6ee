"""The batcher's decisions: how large, who, in what order, who not."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import DeadlineExceeded, ModelDied, ModelFailed, ModelNotReady, Overloaded
from servable.runtime.admission import Admission
from servable.runtime.batch_line import Line, by_form
from servable.runtime.batch_policy import (
    ALONE,
    BatchLimits,
    Cap,
    after_failure,
    batch_cap,
    expected_wait,
    is_over,
    retry_after,
    rows_within,
    shared_out,
    tell_hurry,
    wished_run,
)
from servable.runtime.cost import CostCurve
from servable.runtime.waiting import OVER, QUEUED, RUNNING, Part, Waiting
from servable.tensors import row_count

WIDE = Cap(1000, 1000)


def curve_of(fixed_s: float, row_s: float, largest: int = 1024) -> CostCurve:
    curve = CostCurve()
    for rows in [1, 8, largest] * 10:
        curve.observe(rows, fixed_s + row_s * rows)
    return curve


def waiting(
    rows: int = 1, *, weight: float = 1.0, deadline: float = math.inf, width: int = 2, dtype: Any = float
) -> Waiting:
    return Waiting({"numbers": np.zeros((rows, width), dtype=dtype)}, rows, deadline, weight)


def line_of(*members: Waiting) -> Line:
    line = Line()
    for each in members:
        line.add(each)
    return line


# The cap.


def test_a_batch_ends_within_the_wished_run() -> None:
    assert batch_cap(curve_of(1e-3, 1e-4), BatchLimits(), 0.005).rows in (39, 40)


def test_a_run_in_the_event_loop_is_short() -> None:
    assert [wished_run(BatchLimits(), kind) for kind in ("inline", "thread", "process")] == [
        0.005,
        0.25,
        0.25,
    ]
    assert wished_run(BatchLimits(run_s=1.0), "inline") == 1.0


def test_a_batch_ends_before_the_tightest_deadline() -> None:
    assert batch_cap(curve_of(1e-3, 1e-4), BatchLimits(), 0.005, slack_s=0.002).rows in (9, 10)


def test_there_is_at_least_one_row() -> None:
    assert batch_cap(curve_of(1.0, 1.0), BatchLimits(), 0.005, slack_s=0.0001) == Cap(1, 1)


def test_a_model_whose_cost_is_all_per_row_is_run_one_request_at_a_time() -> None:
    assert batch_cap(curve_of(0.0, 1e-3), BatchLimits(), 0.25) == Cap(250, 1)


def test_a_model_whose_cost_is_all_fixed_takes_all() -> None:
    assert batch_cap(curve_of(1e-3, 0.0), BatchLimits(max_rows=512), 0.25) == Cap(512, 512)


def test_more_rows_are_not_added_where_they_bring_nothing() -> None:
    cap = batch_cap(curve_of(95e-6, 100e-6), BatchLimits(), 0.25)
    assert cap.enough == pytest.approx(19, abs=1)
    assert cap.rows > 500


def test_the_line_is_not_trusted_far_beyond_what_was_measured() -> None:
    assert batch_cap(CostCurve(), BatchLimits(), 0.005) == Cap(8, 8)
    assert batch_cap(curve_of(1e-3, 0.0, largest=16), BatchLimits(), 0.25).rows == 64


@given(
    st.lists(st.tuples(st.integers(1, 8), st.floats(0.3, 30)), max_size=20),
    st.floats(20e-6, 1e-3),
    st.integers(0, 1000),
)
def test_unlucky_first_runs_do_not_make_batches_small_for_ever(
    unlucky: list[tuple[int, float]], fixed_s: float, seed: int
) -> None:
    chance = random.Random(seed)
    curve = CostCurve()
    row_s = fixed_s / 100

    def ran(rows: int, luck: float) -> None:
        curve.observe(rows, (fixed_s + row_s * rows) * luck)

    for rows, luck in unlucky:
        ran(rows, luck)
    for _ in range(500):
        ran(min(32, batch_cap(curve, BatchLimits(), 0.25).enough), chance.uniform(0.95, 1.05))
    assert batch_cap(curve, BatchLimits(), 0.25).enough >= 32


def test_a_model_whose_cost_is_all_per_row_is_seldom_tried_with_more() -> None:
    curve = CostCurve()
    tried = []
    for _ in range(1000):
        rows = min(32, batch_cap(curve, BatchLimits(), 0.25).enough)
        curve.observe(rows, rows * 0.010)
        tried.append(rows)
    assert sum(rows > 1 for rows in tried[20:]) < 50
    assert max(tried[20:]) <= 3


def test_what_is_not_batchable_runs_alone_and_whole() -> None:
    assert batch_cap(curve_of(1e-3, 1e-3), BatchLimits(batchable=False), 0.005) == ALONE
    line = line_of(waiting(5000), waiting(1))
    assert [each.rows for each in line.take(ALONE)] == [5000]
    assert [each.rows for each in line.take(ALONE)] == [1]


@given(st.floats(0, 1), st.floats(0, 0.1), st.integers(1, 5000), st.floats(1e-4, 1), st.floats(0, 1))
def test_every_cap_is_sensible(
    fixed_s: float, row_s: float, max_rows: int, run_s: float, slack_s: float
) -> None:
    curve = curve_of(fixed_s, row_s)
    cap = batch_cap(curve, BatchLimits(max_rows=max_rows), run_s, slack_s)
    assert 1 <= cap.enough <= cap.rows <= max_rows
    if cap.rows > 1 and curve.row_s > 0:
        assert curve.seconds(cap.rows) <= min(run_s, slack_s) * (1 + 1e-6)


def test_free_slots_share_the_queue() -> None:
    curve = curve_of(1e-6, 1e-3)
    assert shared_out(WIDE, curve, 100, 4) == Cap(1000, 25)
    assert shared_out(WIDE, curve, 100, 1) == WIDE
    # Where the fixed cost is what counts one batch is as fast as four.
    assert shared_out(WIDE, curve_of(1e-3, 1e-6), 100, 4).enough > 100


# Admission.


def test_the_wait_is_counted_in_batches_over_slots() -> None:
    curve = curve_of(1e-3, 1e-4)
    cap = Cap(40, 40)
    assert expected_wait(curve, cap, 80, 1) == pytest.approx(2.5 * 5e-3, rel=0.05)
    assert expected_wait(curve, cap, 80, 2) == pytest.approx(1.25 * 5e-3, rel=0.05)
    assert expected_wait(CostCurve(), cap, 80, 2) == 0.0


def test_rows_are_bounded_by_the_longest_wait() -> None:
    curve = curve_of(1e-3, 1e-4)
    assert rows_within(curve, Cap(40, 40), 0.5, 2) == pytest.approx(8000, rel=0.05)
    assert rows_within(CostCurve(), Cap(40, 40), 0.5, 2) == math.inf
    assert rows_within(curve_of(100.0, 0.0), Cap(4, 4), 0.5, 2) == 8


def test_the_retry_lies_between_its_bounds() -> None:
    assert (retry_after(0.0), retry_after(4.0), retry_after(1e9)) == (0.1, 2.0, 30.0)


def test_a_full_queue_refuses_by_count_and_by_rows() -> None:
    door = Admission("m", BatchLimits(queue_requests=2, queue_s=1.0), 1)
    line = line_of(waiting(), waiting())
    with pytest.raises(Overloaded, match="2 requests wait for m") as first:
        door.examine(line, math.inf, 0.0, busy=True)
    assert first.value.retry_after_s == 1.0
    door.learn(curve_of(0.1, 0.1), Cap(10, 10))
    door.most_requests = 100
    line = line_of(waiting(4000))
    with pytest.raises(Overloaded) as second:
        door.examine(line, math.inf, 0.0, busy=True)
    assert second.value.retry_after_s == 30.0
    assert door.refused == 2


def test_a_deadline_is_weighed_against_the_wait() -> None:
    door = Admission("m", BatchLimits(queue_s=60.0), 1)
    line = line_of(waiting(50))
    door.examine(line, 100.01, 100.0, busy=True)
    door.learn(curve_of(0.1, 0.1), Cap(10, 10))
    with pytest.raises(DeadlineExceeded, match="A run of m takes longer"):
        door.examine(line, 100.1, 100.0, busy=True)
    # Waiting may take half of the time that there is, no more.
    for deadline in (101.0, 110.0):
        with pytest.raises(Overloaded, match="too long for the time of this one") as caught:
            door.examine(line, deadline, 100.0, busy=True)
        assert caught.value.retry_after_s > 1.0
    door.examine(line, 120.0, 100.0, busy=True)
    # An idle executor tries it: only so can a wrong estimate mend itself.
    door.examine(Line(), 100.01, 100.0, busy=False)
    with pytest.raises(DeadlineExceeded, match="was over when it arrived"):
        door.examine(Line(), 100.0, 100.0, busy=False)


@given(st.floats(1e-6, 1.0), st.floats(0.0, 0.1), st.integers(0, 3000), st.integers(1, 8))
def test_whoever_passes_the_quick_look_would_not_be_refused(
    fixed_s: float, row_s: float, rows: int, slots: int
) -> None:
    limits = BatchLimits()
    curve = curve_of(fixed_s, row_s)
    door = Admission("m", limits, slots)
    door.learn(curve, batch_cap(curve, limits, 0.25))
    line = line_of(waiting(rows)) if rows else Line()
    if rows <= door.most_rows:
        deadline = 100.0 + 1.0001 * (door.near_s + rows * door.row_wait_s) + 1e-9
        door.examine(line, deadline, 100.0, busy=True)


# Deadlines.


def test_who_is_over_and_when_the_next_will_be() -> None:
    members = [waiting(deadline=deadline) for deadline in (5.0, 3.0, math.inf, 7.0)]
    over, soonest = is_over(members, 5.0)
    assert over == members[:2]
    assert soonest == 7.0
    assert is_over([], 5.0) == ([], math.inf)


def test_the_urgent_go_first_and_the_hopeless_are_told() -> None:
    curve = curve_of(1e-3, 0.0)
    calm, tight, tighter, late = (
        waiting(deadline=deadline) for deadline in (math.inf, 10.003, 10.002, 10.0001)
    )
    hurry = tell_hurry([calm, tight, tighter, late], curve, 10.0, 0.005)
    assert hurry.urgent == [tighter, tight]
    assert hurry.hopeless == [late]
    assert hurry.slack_s == pytest.approx(0.002)
    assert tell_hurry([calm], curve, 10.0, 0.005) == ([], [], math.inf)
    line = line_of(calm, tight, tighter)
    assert line.take(Cap(2, 2), [tighter, tight]) == [tighter, tight]
    assert line.take(Cap(2, 2)) == [calm]


# The queue.


def test_arrival_is_the_order() -> None:
    members = [waiting(rows) for rows in (1, 2, 3, 4)]
    line = line_of(*members)
    assert (line.requests, line.rows) == (4, 10)
    assert line.take(Cap(6, 6)) == members[:3]
    assert (line.requests, line.rows) == (1, 4)
    assert line.take(Cap(6, 6)) == members[3:]
    assert line.take(Cap(6, 6)) == []


def test_one_that_does_not_fit_waits_and_nobody_overtakes_it() -> None:
    line = line_of(waiting(4), waiting(5), waiting(1))
    assert [each.rows for each in line.take(Cap(6, 6))] == [4]
    assert [each.rows for each in line.take(Cap(6, 6))] == [5, 1]


def test_a_large_request_goes_in_parts_and_takes_turns() -> None:
    numbers = np.arange(50.0).reshape(25, 2)
    large = Waiting({"numbers": numbers}, 25)
    small = [waiting(), waiting()]
    line = line_of(large, *small)
    (first,) = line.take(Cap(10, 10))
    assert isinstance(first, Part)
    assert np.array_equal(first.arrays["numbers"], numbers[:10])
    assert np.shares_memory(first.arrays["numbers"], numbers)
    assert (line.requests, line.rows, large.state) == (3, 17, QUEUED)
    assert line.take(Cap(10, 10)) == small
    (second,) = line.take(Cap(10, 10))
    assert large.state == QUEUED
    late = waiting()
    line.add(late)
    third, neighbour = line.take(Cap(10, 10))
    assert np.array_equal(third.arrays["numbers"], numbers[20:])
    assert neighbour is late
    assert (line.requests, line.rows, large.state) == (0, 0, RUNNING)
    split = large.split
    assert split is not None
    answers = {part: {"prediction": part.arrays["numbers"][:, 0]} for part in (first, second, third)}
    assert not split.answered(third, answers[third])  # type: ignore[arg-type] - Part, seen above
    assert not split.answered(first, answers[first])
    assert split.answered(second, answers[second])  # type: ignore[arg-type] - likewise
    assert np.array_equal(split.joined()["prediction"], numbers[:, 0])


@pytest.mark.parametrize("answers", [[{"a": np.zeros(2)}, {}], [{"a": np.zeros(2)}, {"a": np.zeros(3)}]])
def test_parts_that_do_not_answer_row_for_row_are_no_answer(answers: list[dict[str, Any]]) -> None:
    large = waiting(4)
    line = line_of(large)
    parts = [line.take(Cap(2, 2))[0], line.take(Cap(2, 2))[0]]
    split = large.split
    assert split is not None
    for part, arrays in zip(parts, answers, strict=True):
        assert isinstance(part, Part)
        split.answered(part, arrays)
    with pytest.raises(ModelFailed, match="row for row"):
        split.joined()


def test_who_left_is_passed_over_and_let_go() -> None:
    members = [waiting() for _ in range(1000)]
    line = line_of(*members)
    for each in members[:999]:
        line.drop(each)
    assert (line.requests, line.rows) == (1, 1)
    assert list(line) == members[999:]
    assert line.take(WIDE) == members[999:]


def test_only_equal_forms_share_a_batch() -> None:
    mixed = [
        waiting(width=2),
        waiting(width=3),
        waiting(dtype=np.float32),
        waiting(width=2),
        waiting(width=3),
    ]
    line = Line()
    line.heed_forms()
    for each in mixed:
        line.add(each)
    assert line.take(WIDE) == [mixed[0], mixed[3]]
    assert line.take(WIDE) == [mixed[1], mixed[4]]
    assert line.take(WIDE) == [mixed[2]]
    assert by_form(mixed) == [[mixed[0], mixed[3]], [mixed[1], mixed[4]], [mixed[2]]]


def test_forms_are_heeded_for_those_who_wait_already() -> None:
    mixed = [waiting(width=2), waiting(width=3), waiting(width=2)]
    line = line_of(*mixed)
    line.heed_forms()
    assert line.take(WIDE) == [mixed[0], mixed[2]]


@pytest.mark.parametrize("weights", [(1.0, 3.0), (0.5, 2.0), (1.0, 10.0)])
def test_weights_share_rows_and_nobody_starves(weights: tuple[float, float]) -> None:
    line = Line()
    served = dict.fromkeys(weights, 0)
    for _ in range(2000):
        while line.requests < 40:
            for weight in weights:
                line.add(waiting(weight=weight))
        for each in line.take(Cap(4, 4)):
            served[each.weight] += 1
        # Both lanes stay filled to the same number, so that only the weights decide.
        for weight in weights:
            while sum(each.weight == weight for each in line) < 20:
                line.add(waiting(weight=weight))
    light, heavy = weights
    assert served[heavy] / served[light] == pytest.approx(heavy / light, rel=0.1)


def test_a_lane_cannot_save_up_what_it_did_not_use() -> None:
    line = line_of(*[waiting() for _ in range(500)])
    for _ in range(100):
        line.take(Cap(4, 4))
    for _ in range(50):
        line.add(waiting(weight=2.0))
    batch = [each.weight for _ in range(6) for each in line.take(Cap(4, 4))]
    assert 6 <= batch.count(1.0) <= 10


def test_odd_weights_are_held_within_bounds() -> None:
    line = line_of(*[waiting(weight=weight) for weight in (0.0, -1.0, math.nan, math.inf, 1.0)])
    assert len(line.take(WIDE)) == 5


def test_many_weights_do_not_pile_up() -> None:
    line = Line()
    for turn in range(2000):
        line.add(waiting(weight=1.0 + turn / 10_000))
        assert len(line.take(WIDE)) == 1


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from([1.0, 2.0, 0.25]), st.integers(1, 2), st.booleans()),
        max_size=40,
    ),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
)
def test_every_row_leaves_once_in_order_within_the_cap(
    members: list[tuple[int, float, int, bool]], most: int, enough: int, urgent: bool
) -> None:
    line = Line()
    line.heed_forms()
    kept: list[Waiting] = []
    for rows, weight, width, leaves in members:
        each = waiting(rows, weight=weight, width=width)
        line.add(each)
        if leaves:
            line.drop(each)
        else:
            kept.append(each)
    cap = Cap(most, min(enough, most))
    taken: dict[int, int] = {}
    batches = 0
    while line.requests:
        batch = line.take(cap, kept[-3:] if urgent else ())
        assert batch
        assert len({row_form(each) for each in batch}) == 1
        assert 1 <= sum(each.rows for each in batch) <= most
        for each in batch:
            whole = each.whole if isinstance(each, Part) else each
            assert whole in kept
            assert row_count(each.arrays) == each.rows
            taken[id(whole)] = taken.get(id(whole), 0) + each.rows
        batches += 1
    assert line.rows == 0
    assert batches <= sum(each.rows for each in kept)
    assert taken == {id(each): each.rows for each in kept}


def row_form(each: Waiting) -> tuple[int, ...]:
    return tuple(each.arrays["numbers"].shape[1:])


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=200), st.integers(1, 16))
def test_the_order_of_arrival_is_kept_within_a_weight(members: list[tuple[int, bool]], most: int) -> None:
    weights = {True: 1.0, False: 3.0}
    line = line_of(*[waiting(min(rows, most), weight=weights[heavy]) for rows, heavy in members])
    arrived = {weight: [each for each in line if each.weight == weight] for weight in weights.values()}
    left: list[Waiting] = []
    while line.requests:
        left += line.take(Cap(most, most))
    for weight in weights.values():
        assert [each for each in left if each.weight == weight] == arrived[weight]


# Failures.


def running(count: int) -> list[Waiting]:
    members = [waiting() for _ in range(count)]
    for each in members:
        each.state = RUNNING
    return members


def test_a_failed_batch_is_halved_until_one_is_alone() -> None:
    batch = running(5)
    fault = after_failure(batch, ModelFailed("no"))
    assert fault == ([batch[:3], batch[3:]], [], [])
    assert after_failure(batch[:1], ModelFailed("no")) == ([], batch[:1], [])


def test_who_is_left_of_a_failed_batch_is_tried_alone_before_it_is_blamed() -> None:
    batch = running(2)
    batch[0].state = OVER
    assert after_failure(batch, ModelFailed("no")).again == [[batch[1]]]


def test_a_state_of_the_server_is_everybodys() -> None:
    batch = running(3)
    assert after_failure(batch, ModelNotReady("not yet")) == ([], batch, [])


def test_a_death_is_forgiven_once() -> None:
    batch = running(3)
    assert after_failure(batch, ModelDied("it died")) == ([[each] for each in batch], [], [])
    assert after_failure(batch[1:2], ModelDied("it died")) == ([], [], batch[1:2])
