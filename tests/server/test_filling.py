"""Large bodies are read straight into their place, over real sockets and the real loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from servable.server.connection import Connection
from servable.server.filling import BodyFiller, worth_lending
from servable.server.shared import Shared
from servable.settings import ServerSettings
from server.scenes import Application

LENGTH = 3_000_000
BODY = bytes(range(256)) * (LENGTH // 256) + b"z" * (LENGTH % 256)
HEAD = b"POST /now HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % LENGTH
SMALL = b"POST /now HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"

Story = Callable[[Application, Shared, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against_a_server(story: Story) -> None:
    """Run a story of one client against a connection on the loop that servers run on."""

    async def run() -> None:
        application = Application("1.1")
        shared = Shared(application, ServerSettings(max_body_bytes=4_000_000, min_body_rate=1_000_000), None)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(shared), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await asyncio.wait_for(story(application, shared, reader, writer), 20)
            writer.close()
            shared.empty.clear()
            for connection in tuple(shared.connections):
                connection.abort()
            if shared.connections:
                await shared.empty.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def answers(reader: asyncio.StreamReader, count: int) -> None:
    for _ in range(count):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(3) == b"now"


@pytest.mark.parametrize("first", [0, 20_000, 1_500_000, LENGTH - 1])
def test_a_large_body_between_small_ones(first: int) -> None:
    async def story(application: Application, shared: Shared, reader: Any, writer: Any) -> None:
        writer.write(SMALL + HEAD + BODY[:first])
        await writer.drain()
        await answers(reader, 1)
        writer.write(BODY[first:] + SMALL + SMALL)
        await writer.drain()
        await answers(reader, 3)
        bodies = [bytes(exchange.request.body) for exchange in application.exchanges]
        assert bodies == [b"hi", BODY, b"hi", b"hi"]

    against_a_server(story)


def test_several_large_bodies_one_after_another() -> None:
    async def story(application: Application, shared: Shared, reader: Any, writer: Any) -> None:
        writer.write((HEAD + BODY) * 3)
        await writer.drain()
        await answers(reader, 3)
        assert all(exchange.request.body == BODY for exchange in application.exchanges)

    against_a_server(story)


def test_the_client_waits_for_leave_to_send() -> None:
    async def story(application: Application, shared: Shared, reader: Any, writer: Any) -> None:
        writer.write(HEAD.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(BODY)
        await writer.drain()
        await answers(reader, 1)

    against_a_server(story)


def test_a_body_that_is_cut_off_reaches_nobody() -> None:
    async def story(application: Application, shared: Shared, reader: Any, writer: Any) -> None:
        writer.write(HEAD + BODY[: LENGTH - 1])
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == b""
        await shared.empty.wait()
        assert not application.exchanges

    against_a_server(story)


def test_a_body_that_comes_too_slowly_is_refused_and_the_rest_thrown_away() -> None:
    async def story(application: Application, shared: Shared, reader: Any, writer: Any) -> None:
        writer.write(HEAD + BODY[:2_000_000])
        await writer.drain()
        (connection,) = shared.connections
        while not application.refused:
            connection.look(20.0)
            await asyncio.sleep(0.001)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408")
        writer.write(BODY[2_000_000:] + SMALL)
        await writer.drain()
        assert application.refused == ["request_timeout"]
        assert not application.exchanges

    against_a_server(story)


def test_who_only_claims_a_large_body_gets_no_memory_for_it() -> None:
    assert not worth_lending(0, 60_000_000)
    assert not worth_lending(1_000, 1_000_000)
    assert worth_lending(20_000, 1_000_000)
    assert not worth_lending(20_000, 1_000)


def test_no_byte_is_read_beyond_the_body() -> None:
    sizes: list[int] = []
    filler = BodyFiller(
        Connection(Shared(Application("1.1"), ServerSettings(), None)), b"ab", 1_000_000, sizes.append
    )
    while not sizes or sizes[-1] < 1_000_000:
        place = filler.get_buffer(-1)
        assert 0 < len(place) <= 1 << 18
        place[:1] = b"c"
        filler.buffer_updated(len(place))
    assert bytes(filler.body[:3]) == b"abc"
