"""Limits of callers as a server keeps them: by key and by address, over processes, with a clock of ours."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import (
    ConcurrencyLimited,
    LimitReached,
    QuotaExhausted,
    RateLimited,
    SettingInvalid,
    TooManyFailures,
    UnavailableError,
)
from servable.registry.home import open_home
from servable.security.callers import EVERYBODY, Caller
from servable.security.limits import NO_LIMITS, Limits, Rate
from servable.server.allowances import FREE
from servable.server.limit_area import LimitArea
from servable.server.limits import Limiter, network_of
from servable.settings import ServerSettings

SECOND_NS = 1_000_000_000
DAY_S = 86_400
AWAY = "192.0.2.7"


class Time:
    """Both clocks; they move when they are told to."""

    def __init__(self) -> None:
        self.s = 20_000.25 * DAY_S

    def ns(self) -> int:
        return int(self.s * SECOND_NS)

    def seconds(self) -> float:
        return self.s


@pytest.fixture
def time() -> Time:
    return Time()


def limiter(time: Time, area: LimitArea | None = None, **settings: Any) -> Limiter:
    return Limiter(ServerSettings(**settings), area or LimitArea(), time.ns, time.seconds)


def caller(limits: Limits, name: str = "ci") -> Caller:
    return Caller(name, (), limits)


@pytest.fixture
def areas() -> Iterator[tuple[LimitArea, LimitArea]]:
    """The same memory as two processes have it."""
    first = LimitArea.create(2)
    second = LimitArea(os.dup(first.shared), 2, 1)
    yield first, second
    second.close()
    first.close()


def passes(limits: Limiter, who: Caller, address: str = AWAY) -> bool:
    try:
        limits.enter(who, address)
    except LimitReached:
        return False
    return True


def test_a_key_without_limits_is_never_refused(time: Time) -> None:
    limits = limiter(time, rate_per_address="1/h", concurrency_per_address=1)
    assert all(limits.enter(caller(NO_LIMITS), AWAY) is FREE for _ in range(100))


def test_a_rate_and_what_is_said_of_it(time: Time) -> None:
    limits, key = limiter(time), caller(Limits(Rate(3, 60)))
    assert [passes(limits, key) for _ in range(5)] == [True, True, True, False, False]
    with pytest.raises(RateLimited, match="This key may send 3 requests a minute") as refused:
        limits.enter(key, AWAY)
    assert (refused.value.retry_after_s, refused.value.amount, refused.value.window_s) == (20, 3, 60)
    time.s += 20
    assert [passes(limits, key), passes(limits, key)] == [True, False]
    # Others have their own.
    assert passes(limits, caller(Limits(Rate(3, 60)), "other"))


def test_keys_of_one_name_share_what_is_left(time: Time) -> None:
    limits = limiter(time)
    old, new = caller(Limits(Rate(2, 1))), caller(Limits(Rate(2, 1)))
    assert [passes(limits, who) for who in (old, new, old, new)] == [True, True, False, False]


def test_processes_count_together(time: Time, areas: tuple[LimitArea, LimitArea]) -> None:
    one, other = limiter(time, areas[0]), limiter(time, areas[1])
    key = caller(Limits(Rate(5, 60)))
    assert sum(passes(each, key) for each in (one, other) * 6) == 5


def test_requests_at_once(time: Time, areas: tuple[LimitArea, LimitArea]) -> None:
    one, other = limiter(time, areas[0]), limiter(time, areas[1])
    key = caller(Limits(concurrency=3))
    first, second, third = one.enter(key, AWAY), other.enter(key, AWAY), other.enter(key, AWAY)
    for each in (one, other):
        with pytest.raises(ConcurrencyLimited, match="may have 3 requests at once") as refused:
            each.enter(key, AWAY)
        assert (refused.value.amount, refused.value.window_s) == (3, 0)
        # A message of a stream that is one of them is none more.
        each.enter(key, AWAY, within=True)
    first.release()
    first.release()
    assert [passes(one, key), passes(one, key)] == [True, False]
    second.release()
    third.release()
    # A process that has ended answers nothing.
    areas[0].left(0)
    assert sum(passes(other, key) for _ in range(5)) == 3


def test_a_refused_request_takes_nothing(time: Time) -> None:
    limits, key = limiter(time), caller(Limits(Rate(2, 60), concurrency=1))
    ticket = limits.enter(key, AWAY)
    assert not any(passes(limits, key) for _ in range(10))
    ticket.release()
    limits.enter(key, AWAY).release()
    with pytest.raises(RateLimited):
        limits.enter(key, AWAY)
    time.s += 30
    limits.enter(key, AWAY).release()


@given(st.lists(st.tuples(st.sampled_from(["enter", "release", "left"]), st.integers(0, 1)), max_size=60))
def test_there_are_never_more_at_once_than_allowed(steps: list[tuple[str, int]]) -> None:
    time, first = Time(), LimitArea.create(2)
    both = (first, LimitArea(os.dup(first.shared), 2, 1))
    limiters = [limiter(time, area) for area in both]
    key, held = caller(Limits(concurrency=4)), ([], [])  # type: tuple[Caller, tuple[list[Any], list[Any]]]
    for step, place in steps:
        if step == "enter":
            if sum(map(len, held)) < 4:
                held[place].append(limiters[place].enter(key, AWAY))
            else:
                assert not passes(limiters[place], key)
        elif step == "release" and held[place]:
            held[place].pop().release()
        elif step == "left":
            both[place].left(place)
            held[place].clear()
    for area in reversed(both):
        area.close()


def test_whoever_shows_no_key_is_limited_by_the_address(time: Time) -> None:
    limits = limiter(time, rate_per_address="2/min", concurrency_per_address=2)
    assert [passes(limits, EVERYBODY) for _ in range(3)] == [True, True, False]
    assert passes(limits, EVERYBODY, "192.0.2.8")
    assert passes(limits, EVERYBODY, "::1")
    # A network of IPv6 is one customer.
    assert [passes(limits, EVERYBODY, f"2001:db8::{at}") for at in (1, 2, 3)] == [True, True, False]
    # Who has none, as at a socket of the file system, is on this machine.
    assert all(passes(limits, EVERYBODY, "") for _ in range(10))


def test_without_settings_nobody_is_limited_by_the_address(time: Time) -> None:
    limits = limiter(time)
    assert all(limits.enter(EVERYBODY, AWAY) is FREE for _ in range(1000))


def test_keys_that_are_not_valid(time: Time) -> None:
    limits = limiter(time, failures_per_address="3/min")
    for _ in range(3):
        limits.failed(AWAY)
    with pytest.raises(TooManyFailures, match="came from this address") as refused:
        limits.failed(AWAY)
    assert refused.value.retry_after_s == 20
    limits.failed("192.0.2.8")
    for near in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        for _ in range(10):
            limits.failed(near)
    # A valid key behind the same address is answered all the same.
    assert passes(limits, caller(Limits(Rate(1, 1))))


def test_a_setting_that_is_no_quota(time: Time) -> None:
    with pytest.raises(SettingInvalid, match="The setting quota_per_address: 'often' is no quota"):
        limiter(time, quota_per_address="often")


@pytest.mark.parametrize("setting", ["rate_per_address", "failures_per_address"])
def test_a_setting_that_is_no_rate(time: Time, setting: str) -> None:
    with pytest.raises(SettingInvalid, match=f"The setting {setting}: 'often' is no rate"):
        limiter(time, **{setting: "often"})


def test_addresses_beyond_the_memory_push_out_those_that_are_longest_idle(time: Time) -> None:
    limits = limiter(time, rate_per_address="1/s")
    for number in range(20_000):
        time.s += 0.001
        assert passes(limits, EVERYBODY, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert not passes(limits, EVERYBODY, "10.0.78.31")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("somewhere", "somewhere"),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


# ---------------------------------------------------------------------- quotas

Course = Callable[[Limiter], Awaitable[None]]


def run(course: Course, limits: Limiter) -> None:
    async def inside() -> None:
        try:
            await course(limits)
        finally:
            await limits.close()

    asyncio.run(inside())


@pytest.fixture
def place(home: Path) -> Path:
    with open_home(home):
        return home


async def answered(limits: Limiter, key: Caller, tries: int) -> int:
    """How many of so many requests at once are answered."""

    async def one() -> bool:
        try:
            await limits.enter(key, AWAY).granted()
        except QuotaExhausted:
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(tries))))


def used(home: Path, time: Time) -> int:
    with open_home(home) as found:
        return found.quotas.used(int(time.s // DAY_S)).get("ci", 0)


def test_a_quota_is_answered_whole_and_no_more(place: Path, time: Time) -> None:
    async def course(limits: Limiter) -> None:
        key = caller(Limits(quota=64))
        assert await answered(limits, key, 40) == 40
        assert await answered(limits, key, 60) == 24
        # Told at once, without another look.
        with pytest.raises(QuotaExhausted, match="64 requests a day") as refused:
            limits.enter(key, AWAY)
        assert refused.value.retry_after_s == DAY_S * 0.75
        time.s += DAY_S * 0.75
        assert await answered(limits, key, 70) == 64

    run(course, limiter(time, home=str(place)))


def test_a_quota_outlives_the_server(place: Path, time: Time) -> None:
    key = caller(Limits(quota=100))

    async def course(limits: Limiter) -> None:
        assert await answered(limits, key, 45) == 45

    run(course, limiter(time, home=str(place)))
    # What was taken and not used was given back.
    assert used(place, time) == 45

    async def again(limits: Limiter) -> None:
        assert await answered(limits, key, 100) == 55

    run(again, limiter(time, home=str(place)))


def test_servers_share_a_quota(place: Path, time: Time) -> None:
    key = caller(Limits(quota=100))

    async def course(one: Limiter) -> None:
        other = limiter(time, home=str(place))
        both = await asyncio.gather(answered(one, key, 70), answered(other, key, 70))
        assert sum(both) <= 100
        await other.close()
        time.s += 2
        assert sum(both) + await answered(one, key, 70) == 100

    run(course, limiter(time, home=str(place)))


def test_processes_of_one_server_share_a_block(
    place: Path, time: Time, areas: tuple[LimitArea, LimitArea]
) -> None:
    key = caller(Limits(quota=100_000))

    async def course(one: Limiter) -> None:
        other = limiter(time, areas[1], home=str(place))
        assert await answered(one, key, 10) == 10
        assert all(other.enter(key, AWAY) is FREE for _ in range(700))
        assert used(place, time) == 1000

    run(course, limiter(time, areas[0], home=str(place)))
    assert used(place, time) == 710


def test_a_quota_that_cannot_be_counted_is_none(tmp_path: Path, time: Time) -> None:
    async def course(limits: Limiter) -> None:
        for _ in range(2):
            with pytest.raises(UnavailableError, match="cannot be counted now"):
                await limits.enter(caller(Limits(quota=5)), AWAY).granted()

    run(course, limiter(time, home=str(tmp_path / "none")))
