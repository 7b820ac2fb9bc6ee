"""How steps of a network are computed: the choice, and that nothing of it stays behind."""

import statistics

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")

from hypothesis import given
from hypothesis import strategies as st

from servable.training.tasks.network import turns_in
from servable.training.tasks.pace import Pace, chosen, paces, quickest

pytestmark = pytest.mark.frameworks

SECONDS = st.floats(1e-6, 1e3)
FOUND = st.dictionaries(st.builds(Pace, st.integers(1, 64), st.booleans()), SECONDS, min_size=1, max_size=6)


@given(FOUND)
def test_nothing_is_much_faster_than_what_is_chosen(found: dict[Pace, float]):
    assert 0.9 * found[chosen(found)] <= min(found.values())


@given(FOUND)
def test_the_preferred_one_is_left_only_for_a_gain(found: dict[Pace, float]):
    first = next(iter(found))
    assert chosen(found) == first or found[chosen(found)] < 0.9 * found[first]


def test_the_quickest_is_found_and_the_process_left_as_it_was():
    usual = torch.get_num_threads()
    now = 0.0

    def step() -> None:
        nonlocal now
        now += 1.0 if torch.is_autocast_enabled("cpu") else 5.0
        now += torch.get_num_threads()

    found = quickest(step, lambda: now)
    assert found == Pace(1, narrow=True)
    assert torch.get_num_threads() == usual
    assert not torch.is_autocast_enabled("cpu")
    assert found in paces()


def test_weights_that_change_meanwhile_are_seen():
    layer, rows = torch.nn.Linear(8, 8), torch.ones(2, 8)
    with Pace(1, narrow=True).applied():
        before = layer(rows)
        assert before.dtype == torch.bfloat16
        with torch.no_grad():
            layer.weight.add_(1.0)
        after = layer(rows)
    assert (after - before).float().min() > 7.0


TURNS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40)


@given(TURNS, st.floats(-1e3, 1e5), st.integers(3, 60))
def test_turns_fit_into_the_time_that_is_left(seconds: list[float], left: float, epochs: int):
    turns = turns_in(left, seconds, epochs)
    assert turns >= max(3, len(seconds))
    if turns > max(3, len(seconds)):
        assert turns <= epochs
        assert (turns - len(seconds)) * statistics.median(seconds[1:] or seconds) <= left * (1 + 1e-9)


def test_a_slow_first_turn_costs_no_later_ones():
    assert turns_in(150.0, [40.0], 32) == 4
    assert turns_in(140.0, [40.0, 10.0], 32) == 16
    assert turns_in(1e6, [40.0, 10.0], 32) == 32
    assert turns_in(-1.0, [40.0, 10.0, 10.0, 10.0], 32) == 4
