"""Who makes room: the least recently used, never more than needed, never in vain."""

from hypothesis import given
from hypothesis import strategies as st

from servable.runtime.footprint import give_back, resident_bytes
from servable.runtime.memory import Resident, Room, larger_than_budget, make_room

MIB = 2**20


@st.composite
def many(draw: st.DrawFn) -> list[Resident]:
    count = draw(st.integers(0, 12))
    used = draw(st.permutations(range(count)))
    return [
        Resident(
            f"m{number}", draw(st.integers(0, 50)), used[number], draw(st.booleans()), draw(st.booleans())
        )
        for number in range(count)
    ]


budgets = st.integers(0, 300)
needs = st.integers(0, 120)


def total(residents: list[Resident], room: Room) -> int:
    return sum(resident.size for resident in residents if resident.key not in room.unload)


@given(many(), needs, budgets)
def test_what_fits_keeps_the_budget(residents: list[Resident], needed: int, budget: int) -> None:
    room = make_room(needed, residents, budget)
    if room.fits:
        assert total(residents, room) + needed <= budget
        assert room.ever
    else:
        assert room.unload == ()
        free = sum(each.size for each in residents if each.free and not each.pinned)
        assert sum(each.size for each in residents) - free + needed > budget


@given(many(), needs, budgets)
def test_only_those_go_that_may(residents: list[Resident], needed: int, budget: int) -> None:
    going = [each for each in residents if each.key in make_room(needed, residents, budget).unload]
    assert all(each.free and not each.pinned for each in going)


@given(many(), needs, budgets)
def test_nobody_goes_in_vain(residents: list[Resident], needed: int, budget: int) -> None:
    room = make_room(needed, residents, budget)
    left = total(residents, room) + needed
    for each in residents:
        if each.key in room.unload:
            assert left + each.size > budget


@given(many(), needs, budgets)
def test_who_stays_although_used_before_one_who_goes_would_not_have_been_enough(
    residents: list[Resident], needed: int, budget: int
) -> None:
    room = make_room(needed, residents, budget)
    if not room.unload:
        return
    latest = max(each.used for each in residents if each.key in room.unload)
    older = [each for each in residents if each.free and not each.pinned and each.used < latest]
    # All that were used before the last to go do not make enough room without it.
    freed = sum(each.size for each in older)
    assert sum(each.size for each in residents) - freed + needed > budget


@given(many(), needs, budgets)
def test_ever_means_beside_the_pinned(residents: list[Resident], needed: int, budget: int) -> None:
    idle = [each._replace(free=True) for each in residents]
    assert make_room(needed, residents, budget).ever == make_room(needed, idle, budget).fits


def test_the_oldest_of_equals_goes() -> None:
    residents = [Resident("a", 10, 3), Resident("b", 10, 1), Resident("c", 10, 2, free=False)]
    assert make_room(5, residents, 30) == Room(("b",), True, True)
    assert make_room(20, residents, 30) == Room(("b", "a"), True, True)
    assert make_room(21, residents, 30) == Room((), False, True)
    assert make_room(31, residents, 30) == Room((), False, False)


def test_a_small_one_stays_when_a_large_one_must_go() -> None:
    residents = [Resident("small", 1, 1), Resident("large", 50, 2)]
    assert make_room(40, residents, 60).unload == ("large",)


def test_the_sentence_about_a_model_that_never_fits() -> None:
    assert larger_than_budget("a:1", 3 * MIB, MIB) == (
        "a:1 needs 3.0 MiB of memory and the budget of all models is 1.0 MiB; raise --memory"
    )


def test_memory_that_was_freed_goes_back() -> None:
    held = [b"x" * (64 * 1024) for _ in range(1600)]
    full = resident_bytes()
    held.clear()
    give_back()
    assert full - resident_bytes() > 80 * MIB
