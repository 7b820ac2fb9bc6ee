"""Refusals on their way to the audit log: each counts once, and a flood takes little room."""

from hypothesis import given
from hypothesis import strategies as st

from servable.server.denials import (
    ADDRESSES,
    EACH,
    EACH_LIMIT,
    NAMED,
    TOGETHER,
    WINDOW_S,
    Denial,
    Denials,
    Limited,
    address_of,
    limit_of,
    network_of,
)


class Wall:
    """A wall clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def denial(address: str) -> Denial:
    return Denial(1_000.0, address, "unauthenticated", "", "", b"POST", b"/predict", "", "")


def test_the_first_are_told_one_by_one_and_the_others_as_a_number() -> None:
    wall = Wall()
    denials = Denials(wall, address_of, EACH)
    for _ in range(12_345 + EACH):
        denials.add(denial("10.0.0.7"))
    denials.add(denial("10.0.0.8"))
    alone, more = denials.take()
    assert ([each.address for each in alone], more) == (["10.0.0.7"] * EACH + ["10.0.0.8"], [])
    denials.add(denial("10.0.0.7"))
    wall.now += WINDOW_S
    alone, more = denials.take()
    assert (alone, more) == ([], [("10.0.0.7", 12_346, 1_000.0)])
    # The next window begins anew.
    denials.add(denial("10.0.0.7"))
    assert len(denials.take()[0]) == 1


def test_a_clock_that_is_set_back_ends_the_window() -> None:
    wall = Wall()
    denials = Denials(wall, address_of, EACH)
    for _ in range(EACH + 1):
        denials.add(denial("10.0.0.7"))
    wall.now -= 500
    assert [each.number for each in denials.take()[1]] == [1]


@given(
    st.lists(st.tuples(st.integers(0, 3 * ADDRESSES), st.integers(1, 40)), max_size=60),
    st.integers(0, 2 * ADDRESSES),
)
def test_every_refusal_counts_once_and_records_are_few(some: list[tuple[int, int]], many: int) -> None:
    wall = Wall()
    denials = Denials(wall, address_of, EACH)
    sent = 0
    for number in range(many):
        denials.add(denial(f"10.1.{number // 256}.{number % 256}"))
        sent += 1
    for number, times in some:
        for _ in range(times):
            denials.add(denial(f"10.2.{number // 256}.{number % 256}"))
            sent += 1
    alone, more = denials.take()
    wall.now += WINDOW_S
    last, rest = denials.take()
    records = [*alone, *last]
    assert len(records) + sum(each.number for each in (*more, *rest)) == sent
    assert len(records) <= TOGETHER
    assert len(rest) <= NAMED + 1
    assert not more


def test_limits_are_told_once_and_then_by_caller_and_limit() -> None:
    wall = Wall()
    denials = Denials(wall, limit_of, EACH_LIMIT)

    def limited(caller: str, address: str, code: str = "rate_limited") -> Denial:
        return denial(address)._replace(caller=caller, code=code)

    for number in range(50):
        denials.add(limited("key:ci", f"10.0.0.{number}"))
    denials.add(limited("key:ci", "10.0.0.1", "quota_exhausted"))
    for number in range(8):
        denials.add(limited("anybody", f"10.0.1.{number % 2}"))
    assert [(each.caller, each.code, each.address) for each in denials.take()[0]] == [
        ("key:ci", "rate_limited", "10.0.0.0"),
        ("key:ci", "quota_exhausted", "10.0.0.1"),
        ("anybody", "rate_limited", "10.0.1.0"),
        ("anybody", "rate_limited", "10.0.1.1"),
    ]
    wall.now += WINDOW_S
    assert denials.take()[1] == [
        (Limited("key:ci", "rate_limited", ""), 49, 1_000.0),
        (Limited("anybody", "rate_limited", "10.0.1.0"), 3, 1_000.0),
        (Limited("anybody", "rate_limited", "10.0.1.1"), 3, 1_000.0),
    ]


def test_a_long_address_of_a_request_is_cut() -> None:
    denials = Denials(Wall(), address_of, EACH)
    denials.add(denial("10.0.0.7")._replace(target=b"/" + b"x" * 10_000))
    assert len(denials.take()[0][0].target) == 512


def test_callers_of_ipv6_are_told_by_their_network() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network_of("::ffff:10.0.0.7") == network_of("10.0.0.7") == "10.0.0.7"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    for odd in ("", "unix:", "x:y"):
        assert network_of(odd) == odd
