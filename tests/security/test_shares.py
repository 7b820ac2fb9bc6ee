"""Limits that servers hold together: the parts are the whole, whatever servers do in whichever order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.security.shares import Amounts, Holder, Wish, alone, debt_after, divide, parts

WHOLE = Amounts(100, 10)
ASKED = st.lists(st.floats(0, 1e6), min_size=1, max_size=12)


@given(st.integers(0, 10**12), ASKED)
def test_parts_are_the_whole_and_everybody_has_one_where_there_are_enough(
    amount: int, asked: list[float]
) -> None:
    found = parts(amount, asked)
    assert sum(found) == amount
    assert min(found) >= (1 if amount >= len(asked) else 0)


@pytest.mark.parametrize(
    ("amount", "asked", "found"),
    [
        (100, [5], [100]),
        (100, [0, 0], [50, 50]),
        (100, [1000, 0], [89, 11]),
        (100, [300, 100], [70, 30]),
        (1, [0.0, 3], [0, 1]),
        (7, [1, 1, 1], [3, 2, 2]),
        (0, [1, 2], [0, 0]),
    ],
)
def test_more_goes_where_more_is_asked(amount: int, asked: list[float], found: list[int]) -> None:
    assert parts(amount, asked) == found


def wish(held: Amounts | None, asked: int = 1, busy: int = 0, whole: Amounts = WHOLE) -> Wish:
    return Wish("ci", whole, held, busy, asked, 0.0)


def test_the_only_server_has_everything() -> None:
    share = divide("a", wish(None), [])
    assert (share.held, share.debt, share.holders) == (WHOLE, None, 1)


def test_a_server_that_comes_has_an_even_share_at_once_and_others_grow_by_what_is_free_alone() -> None:
    first = Holder("a", WHOLE, 0, 50.0, 0.25)
    share = divide("b", wish(None), [first])
    assert (share.held, share.debt, share.holders) == (Amounts(50, 5), 0.25, 2)
    both = [first, Holder("b", Amounts(50, 5), 0, 50.0, 0.25)]
    # Nothing is free as long as the first has not given it up.
    assert divide("b", wish(Amounts(50, 5), 5000), both).held == Amounts(50, 5)
    assert divide("a", wish(WHOLE, 50), both).held == Amounts(50, 5)


def test_what_is_being_answered_is_not_given_up() -> None:
    known = [Holder("a", WHOLE, 8, 0.0, 0.0), Holder("b", Amounts(1, 1), 0, 900.0, 0.0)]
    assert divide("a", wish(WHOLE, 0, busy=8), known).held.at_once == 9
    assert divide("a", wish(WHOLE, 0, busy=10), known).held.at_once == 10
    # Nor is there anything for another one then, not even what it had.
    full = [Holder("a", WHOLE, 10, 0.0, 0.0), known[1]]
    assert divide("b", wish(Amounts(1, 1)), full).held.at_once == 0


def test_limits_that_are_not_set_are_not_divided() -> None:
    assert divide("a", wish(None, whole=Amounts(0, 4)), []).held == Amounts(0, 4)
    assert divide("a", wish(Amounts(5, 0), whole=Amounts(5, 0)), []).held == Amounts(5, 0)


def test_a_smaller_limit_counts_at_once() -> None:
    known = [Holder("a", WHOLE, 0, 9.0, 0.0)]
    assert divide("a", wish(WHOLE, whole=Amounts(10, 2)), known).held == Amounts(10, 2)


@given(
    st.integers(1, 300),
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1000), st.sampled_from(["settle", "end"])), max_size=80
    ),
)
def test_shares_together_are_never_more_than_the_limit_and_what_comes_on_top(
    limit: int, steps: list[tuple[int, int, str]]
) -> None:
    """Servers come, ask and end in any order; what counts at one is what it was told last."""
    whole = Amounts(limit, 0)
    rows: dict[int, Holder] = {}
    held: dict[int, int] = {}
    on_top: dict[int, int] = {}
    for server, asked, step in steps:
        if step == "end":
            rows.pop(server, None)
            held.pop(server, None)
            on_top.pop(server, None)
            continue
        before = Amounts(held[server], 0) if server in held else None
        share = divide(str(server), wish(before, asked, whole=whole), list(rows.values()))
        free = max(0, limit - sum(row.held.requests for at, row in rows.items() if at != server))
        if before is None:
            on_top[server] = max(0, share.held.requests - free)
            assert on_top[server] <= max(1, limit // share.holders)
        now = share.held.requests
        # As the registry does: what became less is free for others with the next step alone.
        kept = max(now, before.requests) if before is not None else now
        rows[server] = Holder(str(server), Amounts(kept, 0), 0, share.asked, 0.0)
        held[server] = now
        assert sum(held.values()) <= limit + sum(on_top.values())
    # And what came on top goes, with everybody's second time.
    for _ in range(3):
        for server in sorted(held):
            share = divide(str(server), wish(Amounts(held[server], 0), whole=whole), list(rows.values()))
            kept = max(share.held.requests, held[server])
            rows[server] = Holder(str(server), Amounts(kept, 0), 0, share.asked, 0.0)
            held[server] = share.held.requests
    assert sum(held.values()) <= limit


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0, 1), st.floats(0, 1))
def test_a_share_that_moves_takes_with_it_what_is_left(
    before: int, now: int, own: float, others: float
) -> None:
    after = debt_after(before, now, own, others)
    left = now * (1 - after)
    assert left <= before * (1 - own) + max(0, now - before) * (1 - others) + 1e-9
    assert min(own, others) - 1e-9 <= after <= max(own, others) + 1e-9


def test_what_comes_from_nobody_is_as_used_up_as_ones_own() -> None:
    assert debt_after(50, 100, 0.5, None) == 0.5
    assert debt_after(100, 50, 0.5, 0.0) == 0.5


def test_a_server_without_the_registry_keeps_an_even_share_at_most() -> None:
    assert alone(100, 90, 2) == 50
    assert alone(100, 10, 2) == 10
    assert alone(100, 100, 1) == 100
    assert alone(1, 1, 3) == 1
