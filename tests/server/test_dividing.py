"""Limits that several servers of a registry hold together, with clocks of ours and a real registry."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from servable.errors import LimitReached, RateLimited
from servable.registry.home import open_home
from servable.registry.shares import LASTING_S
from servable.security.callers import EVERYBODY, Caller
from servable.security.limits import Limits, Rate
from servable.server.allowances import Ticket
from servable.server.dividing import SharedDivision
from servable.server.limit_area import LimitArea
from servable.server.limits import Limiter
from servable.settings import ServerSettings

AWAY = "192.0.2.7"


class Time:
    """Both clocks; they move when they are told to."""

    def __init__(self) -> None:
        self.s = 1_728_000_000.0

    def ns(self) -> int:
        return int(self.s * 1_000_000_000)

    def seconds(self) -> float:
        return self.s


class Server:
    """One of several servers of a home, whose shares are taken when a test says so."""

    def __init__(self, home: Path, time: Time, area: LimitArea | None = None, **more: Any) -> None:
        settings, area = ServerSettings(home=str(home), **more), area or LimitArea()
        self.division = SharedDivision(settings, area, time.seconds)
        self.limiter = Limiter(settings, area, time.ns, time.seconds, self.division)

    async def passes(self, key: Caller) -> Ticket | None:
        """A ticket that is granted; None where the request is refused."""
        try:
            ticket = self.limiter.enter(key, AWAY)
            await ticket.granted()
        except LimitReached:
            return None
        return ticket

    async def answered(self, key: Caller, tries: int) -> int:
        return sum([await self.passes(key) is not None for _ in range(tries)])


Course = Callable[[Callable[[], Server], Time], Awaitable[None]]


def run(course: Course, home: Path, **settings: Any) -> None:
    with open_home(home):
        pass
    time, servers = Time(), list[Server]()

    def start() -> Server:
        servers.append(Server(home, time, **settings))
        return servers[-1]

    async def inside() -> None:
        try:
            await course(start, time)
        finally:
            for server in servers:
                await server.limiter.close()

    asyncio.run(inside())


async def settle(time: Time, *servers: Server, times: int = 1) -> None:
    """A second later, once or several times."""
    for _ in range(times):
        time.s += 1
        for server in servers:
            await server.division.settle()


def caller(rate: Rate | None = None, concurrency: int = 0, name: str = "ci") -> Caller:
    return Caller(name, (), Limits(rate, 0, concurrency))


def test_one_server_alone_has_the_whole_limit_exactly(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        server, key = start(), caller(Rate(7, 3600))
        assert await server.answered(key, 20) == 7
        await settle(time, server, times=3)
        assert await server.answered(key, 20) == 0
        # The first request alone waited for the registry.
        with pytest.raises(RateLimited, match="This key may send 7 requests an hour"):
            server.limiter.enter(key, AWAY)

    run(course, home)


def test_two_servers_answer_the_rate_together(home: Path) -> None:
    rate = 100

    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other, key = start(), start(), caller(Rate(rate, 1))
        found = []
        for _ in range(12):
            # In tenths of a second, half of the requests at each, and far too many.
            count = 0
            for _ in range(10):
                count += await one.answered(key, 30) + await other.answered(key, 30)
                time.s += 0.1
            found.append(count)
            time.s -= 1
            await settle(time, one, other)
        # A window's worth may come at once and then the rate; the server that came had half of both on top,
        # for one second.
        assert found[0] <= 2 * rate + 2 * (rate // 2)
        assert all(0.95 * rate <= count <= rate for count in found[4:])
        assert sum(found) <= rate * len(found) + rate + 2 * (rate // 2)

    run(course, home)


def test_two_servers_answer_the_rate_of_an_address_together(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other = start(), start()
        for server in (one, other):
            assert await server.passes(EVERYBODY) is not None
        # Once they know of each other, each has what was asked of it, and both together the rate.
        for _ in range(6):
            count = await one.answered(EVERYBODY, 150) + await other.answered(EVERYBODY, 150)
            await settle(time, one, other)
        assert 90 <= count <= 100

    run(course, home, rate_per_address="100/s")


def test_an_address_has_one_quota_at_all_servers_and_is_named_nowhere(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other = start(), start()
        # What one of them holds of a block and did not use the other does not have.
        assert 25 <= await one.answered(EVERYBODY, 20) + await other.answered(EVERYBODY, 20) <= 30

    run(course, home, quota_per_address="30/day")
    with open_home(home) as opened:
        (name,) = opened.quotas.used(1_728_000_000 // 86_400)
        assert name.startswith("address:")
        assert AWAY not in name
        # The next address of a later day takes it away.
        opened.quotas.take("address:other", 1_728_000_000 // 86_400 + 1, 5)
        assert opened.quotas.used(1_728_000_000 // 86_400) == {}


def test_shares_follow_the_requests(home: Path) -> None:
    rate = 200

    async def second(server: Server, key: Caller, time: Time) -> int:
        count = 0
        for _ in range(20):
            count += await server.answered(key, 16)
            time.s += 0.05
        time.s -= 1
        return count

    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other, key = start(), start(), caller(Rate(rate, 1))
        assert await other.answered(key, 1) == 1
        found = []
        for _ in range(8):
            found.append(await second(one, key, time))
            await settle(time, one, other)
        # The other one has its part of the fifth that is divided evenly, until nobody asked it for a minute.
        assert found[-1] >= 0.85 * rate
        await settle(time, one, other, times=61)
        await one.answered(key, 1)
        await settle(time, one, other, times=3)
        assert await second(one, key, time) >= rate

    run(course, home)


def test_the_share_of_a_server_that_was_killed_comes_back(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other, key = start(), start(), caller(Rate(100, 1))
        for _ in range(4):
            await one.answered(key, 50)
            await other.answered(key, 50)
            await settle(time, one, other)
        assert await one.answered(key, 200) <= 60
        # The other one says nothing any more.
        for _ in range(int(LASTING_S) + 1):
            await one.answered(key, 50)
            await settle(time, one)
        time.s += 1
        assert await one.answered(key, 200) == 100

    run(course, home)


def test_a_server_that_ends_gives_back_at_once(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other, key = start(), start(), caller(Rate(100, 1))
        for _ in range(3):
            await one.answered(key, 50)
            await other.answered(key, 50)
            await settle(time, one, other)
        await other.limiter.close()
        await settle(time, one)
        time.s += 1
        assert await one.answered(key, 200) == 100

    run(course, home)


def test_what_is_used_up_at_one_server_is_so_at_another_that_comes(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        one, key = start(), caller(Rate(60, 3600))
        assert await one.answered(key, 100) == 60
        await settle(time, one)
        servers = [start() for _ in range(5)]
        assert sum([await server.answered(key, 100) for server in servers]) == 0
        for _ in range(10):
            await settle(time, one, *servers)
            await asyncio.gather(*(server.answered(key, 5) for server in servers))
        assert sum([await server.answered(key, 100) for server in servers]) <= 1

    run(course, home)


def test_requests_at_once_at_two_servers(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other, key = start(), start(), caller(concurrency=8)
        held = [await one.passes(key) for _ in range(8)]
        assert all(held)
        assert await one.passes(key) is None
        # It comes with its even share on top, and afterwards has what the first one does not answer.
        late = [ticket for ticket in [await other.passes(key) for _ in range(8)] if ticket]
        assert len(late) == 4
        for ticket in late:
            ticket.release()
        await settle(time, one, other, times=3)
        assert await other.passes(key) is None
        for done in held[:6]:
            assert done is not None
            done.release()
        await settle(time, one, other, times=3)
        both = [await other.answered(key, 8), await one.answered(key, 8)]
        assert both[0] > both[1]
        # One may be on its way from one to the other.
        assert 5 <= sum(both) <= 6

    run(course, home)


def test_a_rate_smaller_than_the_number_of_servers_is_where_it_is_asked(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        servers = [start() for _ in range(3)]
        key = caller(Rate(1, 1))
        for server in servers:
            await server.answered(key, 1)
        found = 0
        for _ in range(20):
            await settle(time, *servers)
            found += await servers[2].answered(key, 3)
        assert 15 <= found <= 21

    run(course, home)


def test_processes_of_one_server_have_one_share(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        area = LimitArea.create(2)
        same = LimitArea(os.dup(area.shared), 2, 1)
        assert area.server == same.server != LimitArea().server
        one, two, key = Server(home, time, area), Server(home, time, same), caller(Rate(50, 3600))
        assert await one.answered(key, 30) + await two.answered(key, 60) == 50
        await settle(time, one, two, times=3)
        other = start()
        assert await other.answered(key, 60) == 0
        for each in (one, two):
            await each.limiter.close()
        same.close()
        area.close()

    run(course, home)


def test_a_process_goes_on_with_the_share_that_one_that_ended_took(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        area = LimitArea.create(2)
        same = LimitArea(os.dup(area.shared), 2, 1)
        one, two, key = Server(home, time, area), Server(home, time, same), caller(Rate(100, 1))
        assert await one.answered(key, 1) + await two.answered(key, 1) == 2
        for _ in range(int(LASTING_S) + 2):
            await two.answered(key, 10)
            await settle(time, two)
        # Nobody has what it holds: who comes has an even share, and not everything.
        assert await start().answered(key, 200) == 50
        for each in (one, two):
            await each.limiter.close()
        same.close()
        area.close()

    run(course, home)


def test_without_the_registry_limits_hold_at_each_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def inside() -> None:
        time = Time()
        server = Server(tmp_path / "none", time)
        assert await server.answered(caller(Rate(5, 60)), 20) == 5
        await settle(time, server, times=10)
        await server.limiter.close()

    asyncio.run(inside())
    assert caplog.messages.count("limits cannot be divided with other servers") == 1
    assert not (tmp_path / "none").exists()


def test_a_server_that_loses_the_registry_keeps_an_even_share_at_most(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        one, other, key = start(), start(), caller(Rate(100, 1))
        await other.answered(key, 1)
        for _ in range(6):
            await one.answered(key, 300)
            await settle(time, one, other)
        time.s += 1
        assert await one.answered(key, 300) >= 85
        (home / "registry.db").rename(home / "away.db")
        await settle(time, one, times=int(LASTING_S) + 2)
        assert await one.answered(key, 300) == 50
        (home / "away.db").rename(home / "registry.db")
        await settle(time, one, times=3)
        assert await one.answered(key, 300) == 100

    run(course, home)


def test_a_request_whose_client_left_while_it_waited_is_over(home: Path) -> None:
    async def course(start: Callable[[], Server], time: Time) -> None:
        server, key = start(), caller(concurrency=1)
        ticket = server.limiter.enter(key, AWAY)
        assert ticket.waits
        ticket.release()
        await ticket.granted()
        assert await server.passes(key) is not None
        assert await server.passes(key) is None

    run(course, home)
