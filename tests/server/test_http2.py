"""One HTTP/2 connection against a fake application, a fake transport and a real peer. Nobody waits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import zttp
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.server.connection import Connection
from servable.server.http2 import RETIRE_AFTER, Http2Connection
from servable.server.reader import PREFACE
from servable.server.shared import Shared
from servable.settings import ServerSettings
from servable.testing.transports import RecordedTransport
from server.scenes import Application, played, turns
from thoroughness import examples

SETTINGS = ServerSettings(
    body_grace_s=10, min_body_rate=1000, write_timeout_s=30, keep_alive_s=75, max_header_bytes=2048,
    max_headers=20, max_body_bytes=100_000,
)  # fmt: skip
_NOTHING = (zttp.NEED_DATA, zttp.CONNECTION_CLOSED)


class Scene:
    """A client of zttp on the other side of a recorded transport."""

    def __init__(self, application: Application | None = None) -> None:
        self.application = application or Application("2")
        self.shared = Shared(self.application, SETTINGS, ("127.0.0.1", 1))
        self.shared.now = 1.0
        first = Connection(self.shared)
        self.transport = RecordedTransport(first)
        first.connection_made(self.transport)
        self._unread = b""
        self.client = zttp.Connection(zttp.CLIENT, zttp.HTTP2)
        self.client.initiate_connection()
        self.say(self.client.data_to_send())
        self.hear()

    @property
    def connection(self) -> Any:
        return self.transport.get_protocol()

    def say(self, data: bytes) -> None:
        self._unread += data
        if self._unread and self.transport.reading:
            data, self._unread = self._unread, b""
            self.connection.data_received(data)

    def go(self) -> None:
        """What the client has to say is said."""
        self.say(self.client.data_to_send())

    def ask(self, target: bytes, body: bytes = b"", *, end: bool = True, more: Any = ()) -> Any:
        stream = self.client.send_request(b"POST", target, b"2", [(b"host", b"a"), *more])
        if body:
            stream.send_data(body)
        if end:
            stream.end_message()
        self.go()
        return stream

    def hear(self) -> list[Any]:
        """What the client hears; it acknowledges by itself."""
        self.client.receive_data(self.transport.take())
        events = []
        while (event := self.client.next_event()) not in _NOTHING:
            events.append(event)
        self.go()
        return events

    def look(self, now: float) -> None:
        self.shared.now = now
        self.connection.look(now)


def play(course: Callable[[Scene], Awaitable[None]]) -> None:
    played(course, Scene)


def bodies(events: list[Any]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, zttp.Data):
            found[event.stream_id] = found.get(event.stream_id, b"") + event.data
    return found


def statuses(events: list[Any]) -> list[int]:
    return [event.status_code for event in events if isinstance(event, zttp.Response)]


def goaways(events: list[Any]) -> list[tuple[int, int]]:
    return [(event.error_code, event.last_stream_id) for event in events if isinstance(event, zttp.GoAway)]


@pytest.mark.parametrize("cuts", [(), (1,), (3, 14), (16,), (18, 20), (23,), tuple(range(1, 24))])
def test_the_preface_may_come_in_pieces(cuts: tuple[int, ...]) -> None:
    async def course(_: Scene) -> None:
        application = Application("2")
        shared = Shared(application, SETTINGS, None)
        connection = Connection(shared)
        transport = RecordedTransport(connection)
        connection.connection_made(transport)
        client = zttp.Connection(zttp.CLIENT, zttp.HTTP2)
        client.send_request(b"POST", b"/now", b"2", [(b"host", b"a")]).end_message()
        data = client.data_to_send()
        assert data.startswith(PREFACE)
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            transport.get_protocol().data_received(data[start:end])
        await turns()
        client.receive_data(transport.take())
        events = []
        while (event := client.next_event()) not in _NOTHING:
            events.append(event)
        assert bodies(events) == {1: b"now"}
        assert len(shared.connections) == 1

    play(course)


def test_a_preface_after_a_request_is_refused() -> None:
    async def course(_: Scene) -> None:
        application = Application("2")
        shared = Shared(application, SETTINGS, None)
        connection = Connection(shared)
        transport = RecordedTransport(connection)
        connection.connection_made(transport)
        connection.data_received(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n" + PREFACE)
        assert transport.get_protocol() is connection
        assert application.refused == ["malformed_request"]

    play(course)


def test_answers_leave_as_they_come_and_together() -> None:
    async def course(scene: Scene) -> None:
        for target in (b"/1", b"/2", b"/3"):
            scene.ask(target)
        first, second, third = scene.application.exchanges
        third.answer(b"three")
        first.answer(b"one")
        assert scene.transport.take() == b""
        await turns()
        assert bodies(scene.hear()) == {5: b"three", 1: b"one"}
        second.answer(b"two")
        await turns()
        assert bodies(scene.hear()) == {3: b"two"}

    play(course)


def test_an_asgi_answer_in_pieces() -> None:
    async def course(scene: Scene) -> None:
        scene.ask(b"/asgi")
        await turns(20)
        events = scene.hear()
        assert statuses(events) == [200]
        assert bodies(events) == {1: b"first second"}
        assert isinstance(events[-1], zttp.EndOfMessage)

    play(course)


def test_a_client_that_resets_takes_its_request_back() -> None:
    async def course(scene: Scene) -> None:
        stream = scene.ask(b"/1")
        stream.reset(8)
        scene.go()
        (exchange,) = scene.application.exchanges
        assert exchange.cancelled
        exchange.answer()
        await turns()
        assert bodies(scene.hear()) == {}

    play(course)


def test_a_client_that_leaves_takes_everything_back() -> None:
    async def course(scene: Scene) -> None:
        scene.ask(b"/1")
        scene.ask(b"/2")
        scene.connection.connection_lost(None)
        assert [exchange.cancelled for exchange in scene.application.exchanges] == [True, True]
        assert not scene.shared.connections

    play(course)


def test_limits_end_a_stream_and_not_the_connection() -> None:
    async def course(scene: Scene) -> None:
        scene.ask(b"/1", b"x" * 100_001)
        for _ in range(9):
            scene.hear()
        scene.ask(b"/2", more=[(b"a%d" % index, b"b") for index in range(30)])
        scene.ask(b"/3", more=[(b"a", b"b" * 3000)])
        scene.ask(b"/4", more=[(b"content-type", b"a"), (b"content-type", b"b")])
        scene.ask(b"/now")
        await turns()
        assert scene.application.refused == [
            "request_too_large", "headers_too_large", "headers_too_large", "malformed_request",
        ]  # fmt: skip
        assert bodies(scene.hear())[9] == b"now"

    play(course)


def test_what_comes_after_a_refusal_is_thrown_away_for_a_moment() -> None:
    async def course(scene: Scene) -> None:
        stream = scene.ask(b"/1", more=[(b"content-type", b"a"), (b"content-type", b"b")], end=False)
        assert statuses(scene.hear()) == [400]
        stream.send_data(b"x" * 1000)
        scene.go()
        scene.look(2.0)
        assert scene.hear() == []
        scene.look(4.0)
        await turns()
        assert [event.error_code for event in scene.hear()] == [0]

    play(course)


def test_a_body_that_drips_is_refused() -> None:
    async def course(scene: Scene) -> None:
        scene.ask(b"/1", b"x" * 100, end=False)
        scene.look(10.0)
        assert not scene.application.refused
        scene.look(12.0)
        await turns()
        assert scene.application.refused == ["request_timeout"]
        assert statuses(scene.hear()) == [408]

    play(course)


def test_a_connection_retires_and_nothing_is_lost() -> None:
    async def course(scene: Scene) -> None:
        heard: list[Any] = []
        for _ in range(RETIRE_AFTER):
            scene.ask(b"/now")
            await turns(1)
            heard += scene.hear()
        # The acknowledgement of the ping has come by now.
        await turns()
        heard += scene.hear()
        assert goaways(heard) == [(0, 2**31 - 1), (0, 2 * RETIRE_AFTER - 1)]
        assert len(bodies(heard)) == RETIRE_AFTER
        assert scene.transport.ended
        scene.look(2.0)
        scene.look(4.5)
        assert scene.transport.aborted

    play(course)


def test_what_was_on_its_way_is_answered_and_what_came_later_is_not_begun() -> None:
    async def course(scene: Scene) -> None:
        scene.ask(b"/1")
        scene.shared.draining = True
        scene.look(1.25)
        await turns()
        # The client does not know yet: its next request is still answered.
        scene.client.send_request(b"POST", b"/2", b"2", [(b"host", b"a")]).end_message()
        scene.go()
        scene.look(3.0)
        await turns()
        scene.client.send_request(b"POST", b"/3", b"2", [(b"host", b"a")]).end_message()
        scene.go()
        assert [exchange.request.target for exchange in scene.application.exchanges] == [b"/1", b"/2"]
        for exchange in scene.application.exchanges:
            exchange.answer()
        await turns()
        assert scene.transport.ended
        events = scene.hear()
        assert goaways(events) == [(0, 2**31 - 1), (0, 3)]
        assert bodies(events) == {1: b"{}", 3: b"{}"}

    play(course)


def test_an_idle_connection_is_ended_politely() -> None:
    async def course(scene: Scene) -> None:
        scene.look(70.0)
        assert scene.transport.take() == b""
        scene.look(77.0)
        await turns()
        assert goaways(scene.hear()) == [(0, 2**31 - 1)]
        await turns()
        assert scene.transport.ended

    play(course)


def test_end_closes_what_nobody_waits_for() -> None:
    async def course(scene: Scene) -> None:
        scene.connection.end()
        assert scene.transport.ended
        other = Scene()
        other.ask(b"/1")
        other.connection.end()
        assert not other.transport.ended
        other.application.exchanges[0].answer()
        await turns()
        other.hear()
        await turns()
        assert other.transport.ended

    play(course)


def _frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "frame",
    [_frame(6, 0, 0, b"12345678"), _frame(4, 0, 0, b"\0\4\0\0\xff\xff"), _frame(8, 0, 0, b"\0\0\0\1")],
    ids=["ping", "settings", "window"],
)
def test_floods_of_control_frames_end_the_connection(frame: bytes) -> None:
    async def course(scene: Scene) -> None:
        for _ in range(20):
            scene.say(frame * 600)
            if scene.transport.ended:
                break
        assert goaways(scene.hear())[-1][0] == 11
        assert scene.transport.ended

    play(course)


def test_rapid_resets_end_the_connection_before_they_cost_much() -> None:
    async def course(scene: Scene) -> None:
        for _ in range(500):
            if scene.transport.ended:
                break
            scene.ask(b"/1", end=False).reset(8)
            scene.go()
        assert scene.transport.ended
        assert len(scene.application.exchanges) == 0
        assert goaways(scene.hear())[-1][0] == 11

    play(course)


def test_resets_at_an_ordinary_pace_are_taken() -> None:
    async def course(scene: Scene) -> None:
        for second in range(10):
            for _ in range(20):
                scene.ask(b"/1").reset(8)
                scene.go()
            scene.look(1.0 + second)
        scene.ask(b"/now")
        await turns()
        assert b"now" in bodies(scene.hear()).values()

    play(course)


def test_a_client_that_grants_no_window_is_dropped() -> None:
    async def course(scene: Scene) -> None:
        scene.say(_frame(4, 0, 0, b"\0\4\0\0\0\0"))
        scene.ask(b"/1")
        scene.application.exchanges[0].answer(b"x" * 1000)
        await turns()
        scene.look(2.0)
        scene.look(31.0)
        assert not scene.transport.aborted
        scene.look(33.0)
        assert scene.transport.aborted

    play(course)


def test_large_answers_wait_for_the_window() -> None:
    async def course(scene: Scene) -> None:
        scene.ask(b"/1")
        scene.application.exchanges[0].answer(b"x" * 1_000_000)
        heard: list[Any] = []
        for _ in range(100):
            await turns(2)
            heard += scene.hear()
        assert len(bodies(heard)[1]) == 1_000_000
        scene.look(40.0)
        scene.look(75.0)
        assert not scene.transport.aborted

    play(course)


def test_nothing_is_read_while_the_client_does_not_read() -> None:
    async def course(scene: Scene) -> None:
        scene.connection.pause_writing()
        assert not scene.transport.reading
        scene.connection.resume_writing()
        assert scene.transport.reading

    play(course)


def test_bodies_that_arrive_together_have_a_limit() -> None:
    async def course(scene: Scene) -> None:
        streams = [scene.ask(b"/1", b"x" * 60_000, end=False) for _ in range(7)]
        for _ in range(20):
            scene.hear()
        assert streams
        assert scene.application.refused == ["overloaded"]

    play(course)


def test_the_first_client_waits_until_calls_are_ready_and_loses_nothing() -> None:
    async def course(_: Scene) -> None:
        application = Application("2")
        application.prepared = asyncio.get_running_loop().create_future()
        scene = Scene(application)
        assert not scene.transport.reading
        application.prepared.set_result(None)
        await turns()
        assert scene.transport.reading
        scene.ask(b"/now")
        await turns()
        assert bodies(scene.hear()) == {1: b"now"}

    play(course)


@settings(max_examples=examples(60))
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_ends_the_connection_and_nothing_else(pieces: list[bytes]) -> None:
    async def course(scene: Scene) -> None:
        for piece in pieces:
            scene.say(piece)
        await turns()
        for code, _ in goaways(scene.hear()):
            assert code != 2
        scene.look(2.0)
        scene.look(4.5)
        assert isinstance(scene.connection, Http2Connection)

    play(course)


def test_whoever_is_not_let_in_is_told_before_the_body_comes() -> None:
    async def course(scene: Scene) -> None:
        scene.ask(b"/not-let-in", end=False)
        events = scene.hear()
        assert statuses(events) == [401]
        assert scene.application.exchanges == []
        # The connection goes on.
        scene.ask(b"/now")
        assert statuses(scene.hear()) == [200]

    play(course)
