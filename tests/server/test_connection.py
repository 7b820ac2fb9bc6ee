"""One connection against a fake application and a fake transport: order, limits, ends. Nobody waits."""

from collections.abc import Awaitable, Callable

import pytest

from servable.server.connection import Connection
from servable.server.shared import Shared
from servable.settings import ServerSettings
from servable.testing.transports import RecordedTransport
from server.scenes import Application, played, turns

SETTINGS = ServerSettings(
    header_timeout_s=10, body_grace_s=10, min_body_rate=1000, write_timeout_s=30, keep_alive_s=75,
    max_header_bytes=2048, max_body_bytes=100_000, max_connections=3,
)  # fmt: skip


class Scene:
    def __init__(self) -> None:
        self.application = Application("1.1")
        self.shared = Shared(self.application, SETTINGS, ("127.0.0.1", 1))
        self.connection, self.transport = self.connect()

    def connect(self) -> tuple[Connection, RecordedTransport]:
        connection = Connection(self.shared)
        transport = RecordedTransport(connection)
        connection.connection_made(transport)
        return connection, transport

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def look(self, now: float) -> None:
        self.shared.now = now
        self.connection.look(now)


def play(course: Callable[[Scene], Awaitable[None]]) -> None:
    played(course, Scene)


def get(target: str, more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode()


def test_answers_leave_in_the_order_of_the_requests() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1") + get("/now") + get("/asgi") + get("/4"))
        assert scene.transport.take() == b""
        assert len(scene.application.exchanges) == 1
        scene.application.exchanges[0].answer(b"one")
        await turns(20)
        written = scene.transport.take()
        scene.application.exchanges[-1].answer(b"four")
        written += scene.transport.take()
        places = [written.index(word) for word in (b"one", b"now", b"first ", b"second", b"four")]
        assert places == sorted(places)
        assert not scene.transport.closed

    play(course)


def test_what_comes_between_two_answers_stays_behind_what_came_before() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1") + get("/2"))
        scene.application.exchanges[0].answer(b"one")
        scene.say(get("/3"))
        await turns()
        for exchange in scene.application.exchanges[1:]:
            exchange.answer(exchange.request.target)
        await turns()
        scene.application.exchanges[-1].answer(b"/3")
        written = scene.transport.take()
        assert written.index(b"one") < written.index(b"/2") < written.index(b"/3")

    play(course)


def test_an_answer_is_complete_http() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1"))
        scene.application.exchanges[0].answer(b'{"a":1}')
        head, _, body = scene.transport.take().partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 200 OK"
        assert b"content-type: application/json" in lines
        assert b"content-length: 7" in lines
        assert b"x-request-id: id" in lines
        assert any(line.startswith(b"date: ") and line.endswith(b"GMT") for line in lines)
        assert body == b'{"a":1}'

    play(course)


def test_reading_pauses_when_requests_run_ahead_and_goes_on() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/x") * 40)
        assert not scene.transport.reading
        for number in range(40):
            scene.application.exchanges[number].answer()
            await turns(2)
        assert scene.transport.reading
        assert len(scene.application.exchanges) == 40

    play(course)


def test_a_client_that_leaves_cancels_its_request() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1"))
        scene.transport.close()
        assert scene.application.exchanges[0].cancelled
        assert not scene.shared.connections

    play(course)


def test_a_client_that_stops_sending_is_still_answered() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1"))
        assert scene.connection.eof_received()
        scene.application.exchanges[0].answer(b"one")
        assert b"connection: close" in scene.transport.take()
        assert scene.transport.closed

    play(course)


def test_half_a_request_never_reaches_the_application() -> None:
    async def course(scene: Scene) -> None:
        scene.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert not scene.connection.eof_received()
        assert not scene.application.exchanges

    play(course)


@pytest.mark.parametrize("closing", ["Connection: close\r\n", ""])
def test_a_connection_ends_when_the_client_or_the_server_wants_it(closing: str) -> None:
    async def course(scene: Scene) -> None:
        scene.shared.draining = not closing
        scene.say(get("/now", closing))
        assert b"connection: close" in scene.transport.take()
        assert scene.transport.closed

    play(course)


def test_nonsense_is_answered_once_and_the_connection_ends_gently() -> None:
    async def course(scene: Scene) -> None:
        scene.say(b"nonsense\r\n\r\n", b"more nonsense")
        assert scene.transport.take().startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert scene.transport.ended
        assert not scene.transport.closed
        scene.look(3.0)
        assert scene.transport.aborted
        assert scene.application.refused == ["malformed_request"]

    play(course)


def test_nonsense_after_a_good_request_does_not_cost_its_answer() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1") + b"nonsense\r\n\r\n")
        scene.application.exchanges[0].answer(b"one")
        written = scene.transport.take()
        assert written.endswith(b"one")
        assert b"connection: close" in written
        assert scene.transport.closed

    play(course)


def test_slow_headers() -> None:
    async def course(scene: Scene) -> None:
        scene.say(b"GET / HT")
        scene.look(9.0)
        scene.say(b"TP/1.1\r\nHo")
        assert scene.transport.take() == b""
        scene.look(10.5)
        assert b"408" in scene.transport.take()

    play(course)


def test_slow_bodies() -> None:
    async def course(scene: Scene) -> None:
        scene.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
        scene.say(b"x" * 20_000)
        scene.look(19.0)
        assert scene.transport.take() == b""
        scene.look(21.0)
        assert b"408" in scene.transport.take()

    play(course)


def test_a_body_that_keeps_its_rate_is_left_alone() -> None:
    async def course(scene: Scene) -> None:
        scene.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
        for second in range(1, 60):
            scene.say(b"x" * 1500)
            scene.look(float(second))
        assert scene.transport.take() == b""
        assert not scene.transport.closed

    play(course)


def test_what_arrives_during_an_answer_is_watched_after_it() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1") + b"GET / HTTP/1.1\r\nHo")
        scene.look(50.0)
        assert not scene.transport.closed
        scene.application.exchanges[0].answer()
        scene.transport.take()
        scene.look(61.0)
        assert b"408" in scene.transport.take()

    play(course)


def test_an_idle_connection_ends_and_a_busy_one_does_not() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/1"))
        scene.look(1000.0)
        assert not scene.transport.closed
        scene.application.exchanges[0].answer()
        scene.look(1074.0)
        assert not scene.transport.closed
        scene.look(1076.0)
        assert scene.transport.closed

    play(course)


def test_a_reader_that_takes_nothing_is_dropped_and_a_slow_one_is_not() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/now"))
        scene.transport.unsent = 5000
        scene.look(10.0)
        scene.transport.unsent = 4000
        scene.look(35.0)
        scene.look(64.0)
        assert not scene.transport.closed
        scene.look(66.0)
        assert scene.transport.aborted

    play(course)


def test_no_request_is_taken_up_while_the_client_does_not_read() -> None:
    async def course(scene: Scene) -> None:
        scene.connection.pause_writing()
        scene.say(get("/1"))
        assert not scene.application.exchanges
        scene.connection.resume_writing()
        await turns()
        assert len(scene.application.exchanges) == 1

    play(course)


def test_a_client_that_waits_for_leave_gets_it() -> None:
    async def course(scene: Scene) -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: "
        scene.say(head + b"3\r\n\r\n")
        assert scene.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
        scene.say(b"abc")
        assert scene.application.exchanges[0].request.body == b"abc"
        _, transport = scene.connect()
        scene.connection, scene.transport = _, transport
        scene.say(head + b"100001\r\n\r\n")
        assert scene.transport.take().startswith(b"HTTP/1.1 413")

    play(course)


def test_there_are_no_more_connections_than_allowed() -> None:
    async def course(scene: Scene) -> None:
        others = [scene.connect() for _ in range(3)]
        assert [transport.aborted for _, transport in others] == [False, False, True]
        assert len(scene.shared.connections) == 3
        assert not scene.transport.closed

    play(course)


def test_an_answer_in_pieces_is_chunked_and_waits_for_the_client() -> None:
    async def course(scene: Scene) -> None:
        scene.connection.pause_writing()
        scene.connection.resume_writing()
        scene.application.go_on.clear()
        scene.say(get("/asgi"))
        await turns()
        begun = scene.transport.take()
        assert b"transfer-encoding: chunked" in begun
        assert begun.endswith(b"6\r\nfirst \r\n")
        scene.application.go_on.set()
        await turns()
        assert scene.transport.take() == b"6\r\nsecond\r\n0\r\n\r\n"
        assert not scene.transport.closed

    play(course)


def test_half_an_answer_ends_the_connection() -> None:
    async def course(scene: Scene) -> None:
        scene.application.breaks = True
        scene.say(get("/asgi"))
        await turns(10)
        assert scene.transport.aborted
        assert not scene.transport.take().endswith(b"0\r\n\r\n")

    play(course)


def test_a_client_that_leaves_an_answer_in_pieces() -> None:
    async def course(scene: Scene) -> None:
        scene.application.go_on.clear()
        scene.say(get("/asgi"))
        await turns()
        scene.transport.close()
        scene.application.go_on.set()
        await turns(10)
        assert not scene.transport.take().endswith(b"0\r\n\r\n")

    play(course)


def test_whoever_is_not_let_in_gets_no_place_for_a_body() -> None:
    async def course(scene: Scene) -> None:
        scene.say(b"POST /not-let-in HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n")
        assert scene.transport.take().startswith(b"HTTP/1.1 401")
        assert scene.application.exchanges == []
        scene.say(b"x" * 50_000)
        assert scene.transport.take() == b""
        other, transport = scene.connect()
        other.data_received(
            b"POST /not-let-in HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        assert transport.take().startswith(b"HTTP/1.1 401")

    play(course)


def test_whoever_is_not_let_in_stays_when_nothing_more_is_to_come() -> None:
    async def course(scene: Scene) -> None:
        scene.say(get("/not-let-in") + get("/now"))
        await turns()
        written = scene.transport.take()
        assert written.startswith(b"HTTP/1.1 401")
        assert written.endswith(b"now")
        assert scene.application.refused == ["unauthenticated"]

    play(course)
