"""What workers and their parent say to each other: frames, late answers, shares, turns."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import ModelNotFound, Overloaded, ServableError, ServerStopping
from servable.monitoring.totals import Snapshot
from servable.server.messages import (
    Ask,
    Change,
    Changed,
    Channel,
    Others,
    Ready,
    Start,
    Stop,
    Tell,
    Told,
    ToParent,
    ToWorker,
)
from servable.server.turns import Acceptor, Board, Place
from servable.server.workers import NoLink, ParentLink, share
from servable.settings import ServerSettings

Course = Callable[[Channel, Channel], Awaitable[None]]


def talk(course: Course) -> None:
    """Run with both ends of a conversation: the parent's and the worker's."""

    async def both() -> None:
        ours, theirs = socket.socketpair()
        parent, worker = await Channel.over(ours, ToParent), await Channel.over(theirs, ToWorker)
        try:
            await course(parent, worker)
        finally:
            await parent.close()
            await worker.close()

    asyncio.run(both())


def test_messages_arrive_as_they_were_sent() -> None:
    settings = ServerSettings(home="/x", allowed_hosts=("a", "b"), memory=5)
    down = [
        Start(settings, ("iris",), "1.0", 0, 3, patient=True),
        Tell(1),
        Others(2, Snapshot(accepted=3)),
        Change(3, "iris", load=True),
        Changed(4, "overloaded", "No room."),
        Stop(True),
    ]
    up = [
        Ready(),
        Change(3, "iris", load=False),
        Changed(5),
        Told(0, Snapshot(rejected={"a": 1})),
        Ask(1, Snapshot()),
    ]

    async def course(parent: Channel, worker: Channel) -> None:
        for message in down:
            parent.send(message)
        for message in up:
            worker.send(message)
        assert [await worker.receive() for _ in down] == down
        assert [await parent.receive() for _ in up] == up
        await parent.close()
        assert await worker.receive() is None
        # Sending to nobody does nothing.
        worker.send(Ready())
        parent.send(Tell(2))

    talk(course)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0\0",
        struct.pack("!I", 10) + b"abc",
        struct.pack("!I", 2**32 - 1) + b"abc",
        struct.pack("!I", 3) + b"abc",
        struct.pack("!I", 1) + msgspec.msgpack.encode(None),
    ],
)
def test_anything_else_is_the_end(sent: bytes) -> None:
    async def course() -> None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, ToParent)
        theirs.sendall(sent)
        theirs.close()
        assert await channel.receive() is None
        await channel.close()

    asyncio.run(course())


def link(worker: Channel, wait_s: float = 5.0) -> ParentLink:
    return ParentLink(worker, Place(Board.create(1), 0), patient=False, wait_s=wait_s)


async def unchanged(reference: str, load: bool) -> None:
    raise ModelNotFound(f"No {reference}.")


def test_totals_are_the_others_and_ones_own() -> None:
    async def course(parent: Channel, worker: Channel) -> None:
        stops: list[bool] = []
        own = link(worker)
        following = asyncio.create_task(own.follow(lambda: Snapshot(accepted=1), stops.append, unchanged))
        asking = asyncio.create_task(own.totals(Snapshot(accepted=10)))
        while not isinstance(message := await parent.receive(), Ask):
            assert message == Told(0, Snapshot(accepted=1))
        assert message.snapshot == Snapshot(accepted=10)
        parent.send(Tell(7))
        while (told := await parent.receive()) != Told(7, Snapshot(accepted=1)):
            assert told == Told(0, Snapshot(accepted=1))
        # An answer to something that nobody asked is no answer.
        parent.send(Others(message.number + 1, Snapshot(accepted=5000)))
        parent.send(Others(message.number, Snapshot(accepted=100)))
        assert (await asking).accepted == 110
        parent.send(Stop(at_once=True))
        await parent.close()
        await following
        # What the parent said, and then that it is gone.
        assert stops == [True, False]

    talk(course)


def test_a_late_parent_means_the_last_known() -> None:
    async def course(parent: Channel, worker: Channel) -> None:
        own = link(worker, wait_s=0.1)
        following = asyncio.create_task(own.follow(Snapshot, lambda _: None, unchanged))
        assert (await own.totals(Snapshot(accepted=1))).accepted == 1
        asking = asyncio.create_task(own.totals(Snapshot(accepted=2)))
        while not (isinstance(message := await parent.receive(), Ask) and message.snapshot.accepted == 2):
            pass
        parent.send(Others(message.number, Snapshot(accepted=100)))
        assert (await asking).accepted == 102
        assert (await own.totals(Snapshot(accepted=3))).accepted == 103
        following.cancel()

    talk(course)


def test_a_change_goes_to_the_others_and_comes_from_them() -> None:
    async def course(parent: Channel, worker: Channel) -> None:
        own = link(worker)
        done: list[tuple[str, bool]] = []

        async def change(reference: str, load: bool) -> None:
            if reference == "nope":
                raise ModelNotFound("No nope.")
            done.append((reference, load))

        following = asyncio.create_task(own.follow(Snapshot, lambda _: None, change))
        parent.send(Change(7, "iris", load=True))
        parent.send(Change(8, "nope", load=False))
        said = []
        while len(said) < 2:
            if isinstance(message := await parent.receive(), Changed):
                said.append(message)
        assert said == [Changed(7), Changed(8, "model_not_found", "No nope.")]
        assert done == [("iris", True)]
        for answer, error in (
            (Changed(0), None),
            (Changed(0, "overloaded", "No room."), Overloaded),
            (Changed(0, "of tomorrow", "It is."), ServableError),
        ):
            asking = asyncio.create_task(own.change("iris", False))
            while not isinstance(message := await parent.receive(), Change):
                pass
            assert (message.reference, message.load) == ("iris", False)
            parent.send(Changed(message.number + 1, "overloaded", "Nobody asked."))
            parent.send(msgspec.structs.replace(answer, number=message.number))
            if error is None:
                await asking
            else:
                with pytest.raises(error, match=answer.message):
                    await asking
        asking = asyncio.create_task(own.change("iris", True))
        while not isinstance(await parent.receive(), Change):
            pass
        # Nobody is left to say whether it was done.
        await parent.close()
        await following
        with pytest.raises(ServerStopping):
            await asking

    talk(course)


def test_a_process_that_is_alone_is_its_own_sum() -> None:
    own = Snapshot(accepted=3)
    assert asyncio.run(NoLink().totals(own)) is own


@given(st.integers(1, 64), st.integers(1, 10_000), st.integers(0, 2**40))
def test_shares_keep_to_the_limits(workers: int, queue: int, memory: int) -> None:
    settings = ServerSettings(queue_requests=queue, max_connections=queue, memory=memory)
    part = share(settings, workers)
    shared = ("queue_requests", "max_connections", "memory", "capture_rows", "capture_memory")
    for name in shared:
        whole, each = getattr(settings, name), getattr(part, name)
        assert each >= min(1, whole)
        assert each * workers <= max(whole, workers)
        assert (each == 0) == (whole == 0)
    unshared = dict.fromkeys(shared, 1)
    assert msgspec.structs.replace(part, **unshared) == msgspec.structs.replace(settings, **unshared)


def test_whoever_has_fewest_goes_first() -> None:
    board = Board.create(4)
    places = [Place(board, number) for number in range(3)]
    assert places[0].first()
    for place in places:
        place.join()
    places[0].connected(2)
    places[1].connected(1)
    places[1].opening(1)
    places[2].connected(3)
    assert [place.first() for place in places] == [True, True, False]
    # One that leaves is waited for by nobody, and what it says later is not heard.
    places[0].leave()
    places[1].leave()
    places[1].connected(0)
    assert places[2].first()
    board.close()


def test_whoever_loads_leaves_clients_to_those_that_are_ready() -> None:
    board = Board.create(3)
    first, second = (Place(board, number) for number in range(2))
    first.load()
    second.load()
    # Connections say nothing before its process is ready.
    first.connected(4)
    assert [place.others_answer() for place in (first, second)] == [False, False]
    second.join()
    assert [place.others_answer() for place in (first, second)] == [True, False]
    assert second.first()
    second.leave()
    assert [place.others_answer() for place in (first, second)] == [False, False]
    first.join()
    assert [place.others_answer() for place in (first, second)] == [False, True]
    board.close()


def test_two_processes_share_what_comes() -> None:
    """Two acceptors on one socket, each with a board of its own over the same memory."""

    async def course() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        shared = Board.create(2)
        opened: list[list[Any]] = [[], []]
        acceptors = []
        for number in range(2):
            board = Board(os.dup(shared.descriptor), 2)
            place = Place(board, number)

            class Counted(asyncio.Protocol):
                mine, there = opened[number], place

                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    self.mine.append(transport)
                    self.there.connected(len(self.mine))

            # Readers of a loop go by descriptor, so each needs its own for the one socket.
            own = listening.dup()
            acceptors.append((Acceptor(own, Counted, place), board, own))
            acceptors[-1][0].ready()
        clients = [await asyncio.open_connection(*listening.getsockname()) for _ in range(21)]
        while len(opened[0]) + len(opened[1]) < 21:
            await asyncio.sleep(0.001)
        assert {len(opened[0]), len(opened[1])} == {10, 11}
        for acceptor, _, own in acceptors:
            acceptor.close()
            own.close()
        for transport in (*opened[0], *opened[1]):
            transport.close()
        for _, writer in clients:
            writer.close()
            await writer.wait_closed()
        for _, board, _ in acceptors:
            board.close()
        shared.close()
        listening.close()

    asyncio.run(course())
