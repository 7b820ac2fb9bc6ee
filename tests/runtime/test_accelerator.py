"""What stays on a GPU: decided from sizes, a budget, and who may leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.frameworks.accelerators import DeviceMemory
from servable.runtime.accelerator import Seat, device_of, no_room, really, seat, usual_budget
from servable.runtime.memory import Resident

GIB = 1024**3


@st.composite
def resident_lists(draw: st.DrawFn) -> list[Resident]:
    count = draw(st.integers(0, 8))
    return [
        Resident(
            key, draw(st.integers(1, 20)), draw(st.integers(0, 5)), draw(st.booleans()), draw(st.booleans())
        )
        for key in range(count)
    ]


@given(st.integers(0, 60), resident_lists(), st.integers(0, 80))
def test_who_is_on_the_gpu_afterwards(needed: int, residents: list[Resident], budget: int) -> None:
    chosen = seat(needed, residents, budget)
    by_key = {resident.key: resident for resident in residents}
    going = [by_key[key] for key in chosen.unload]
    staying = [resident for resident in residents if resident.key not in chosen.unload]
    # Nobody leaves who is in use or pinned, and nobody in vain.
    assert all(resident.free and not resident.pinned for resident in going)
    if chosen.on_device:
        assert sum(resident.size for resident in staying) + needed <= budget
        for resident in going:
            assert sum(each.size for each in staying) + resident.size + needed > budget
    else:
        assert chosen.unload == ()
        held = sum(resident.size for resident in residents if not resident.free or resident.pinned)
        assert held + needed > budget


@given(st.integers(0, 60), resident_lists(), st.integers(0, 80), st.integers(0, 20))
def test_a_larger_budget_never_turns_one_away(
    needed: int, residents: list[Resident], budget: int, more: int
) -> None:
    if seat(needed, residents, budget).on_device:
        assert seat(needed, residents, budget + more).on_device


def test_the_least_recently_used_leaves_first() -> None:
    residents = [Resident("new", 4, used=9), Resident("old", 4, used=1), Resident("kept", 4, 0, pinned=True)]
    assert seat(4, residents, 12) == Seat(True, ("old",))
    assert seat(4, residents, 16) == Seat(True)
    assert seat(9, residents, 12) == Seat(False)


@given(st.integers(0, 2**40))
def test_a_reserve_stays_free(total: int) -> None:
    budget = usual_budget(total)
    assert 0 <= budget <= total
    assert total - budget >= min(total, GIB // 2, total)
    if total > 20 * GIB:
        assert budget >= total * 0.94


@pytest.mark.parametrize(
    ("wish", "device"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_the_gpu_of_a_wish(wish: str, device: str) -> None:
    assert device_of(wish) == device


def test_the_sentence_says_what_was_needed_and_what_there_was() -> None:
    said = no_room("cuda:0", 3 * GIB, 8 * GIB, 10 * GIB, 10 * GIB)
    assert "needs 3.00 GiB there and other models hold 8.00 GiB of the 10.00 GiB" in said
    assert "raise --accelerator-memory" in said
    crowded = no_room("cuda:1", GIB, 0, 10 * GIB, GIB // 2)
    assert "hold nothing of the 0.50 GiB that all may have; other programs hold the rest" in crowded


def test_other_programs_make_the_budget_smaller() -> None:
    assert really(10, 4, None) == 10
    assert really(10, 4, DeviceMemory(20, 4)) == 10
    assert really(10, 4, DeviceMemory(20, 17)) == 7
    assert really(10, 4, DeviceMemory(20, 25)) == 4
