"""Whether it is worth while to wait in place, by how that went before."""

from hypothesis import given
from hypothesis import strategies as st

from servable.runtime.patience import Patience


def waits(patience: Patience, came: list[bool]) -> list[bool]:
    """For each batch whether it was waited for, where an answer comes in time or not as listed."""
    found = []
    for each in came:
        found.append(patience.worth())
        if found[-1]:
            patience.waited(each)
    return found


def test_whoever_waits_in_vain_waits_half_as_often_each_time() -> None:
    found = waits(Patience(), [False] * 20)
    assert [place for place, waited in enumerate(found) if waited] == [0, 3, 8, 17]


def test_what_never_comes_in_time_is_waited_for_once_in_a_thousand() -> None:
    found = waits(Patience(), [False] * 30_000)
    assert sum(found[10_000:]) == 20


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 50))
def test_once_it_came_in_time_every_one_is_waited_for(came: list[bool], more: int) -> None:
    patience = Patience()
    waits(patience, came)
    while not patience.worth():
        pass
    patience.waited(True)
    assert all(waits(patience, [True] * more))


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_no_more_are_left_out_than_were_waited_for_in_vain_doubled(came: list[bool]) -> None:
    patience, in_vain, left_out = Patience(), 0, 0
    for each in came:
        if patience.worth():
            patience.waited(each)
            in_vain = 0 if each else in_vain + 1
            left_out = 0
        else:
            left_out += 1
            assert left_out <= 2**in_vain
