"""A model that several servers share: one process, everybody's own answers, nobody harmed by a neighbour."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.graphs import LOOP, RAISE, make_package
from runtime.keeping import WATCHED, Kept, kept, shared, stranger
from runtime.test_process import held, rows, run, total, until
from servable.errors import ArtifactTampered, ModelFailed, PoisonRequest
from servable.monitoring.metrics import Meter
from servable.runtime.asking import ask
from servable.runtime.batcher import Batcher
from servable.runtime.executor import run_batch
from servable.runtime.framing import Frame, FrameBuffer, Kind, Load, Share, encode
from servable.runtime.mailbox import Ended, mailbox, take_over
from servable.runtime.packing import Packed
from servable.runtime.process import ChildSpec, ProcessExecutor
from servable.runtime.shared import Ask, together


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ChildSpec:
    return make_package(tmp_path_factory.mktemp("shared") / "package")


def children() -> list[int]:
    return [int(pid) for pid in held()[2]]


def batchers(executors: Sequence[ProcessExecutor]) -> list[Batcher]:
    return [Batcher(executor, name="sum", meter=Meter("sum", 1)) for executor in executors]


# ---------------------------------------------------------------------- who runs together

ASKS = st.lists(
    st.builds(Ask, st.integers(1, 20), st.sampled_from([("a",), ("b",)]), st.booleans()),
    min_size=1,
    max_size=12,
)


@given(ASKS, st.integers(1, 40))
def test_who_runs_together(waiting: list[Ask], most: int) -> None:
    places = together(waiting, most)
    chosen = [waiting[place] for place in places]
    assert places[0] == 0
    assert list(places) == sorted(set(places))
    assert len({each.form for each in chosen}) == 1
    if len(chosen) > 1:
        assert not any(each.alone for each in chosen)
        assert sum(each.rows for each in chosen) <= most
    # Nobody is passed over by a later one of the same form.
    alike = [
        place
        for place, each in enumerate(waiting)
        if not each.alone and each.form == waiting[0].form and not waiting[0].alone
    ]
    if not waiting[0].alone:
        assert list(places) == alike[: len(places)]
        if len(places) < len(alike):
            assert sum(each.rows for each in chosen) + waiting[alike[len(places)]].rows > most


# ---------------------------------------------------------------------- sharing


def test_several_servers_use_one_process(spec: ChildSpec) -> None:
    async def work() -> None:
        before = children()
        async with kept() as one, shared(one, spec, 3) as executors:
            assert len(children()) == len(before) + 1
            assert all(executor.statistics().processes == 1 for executor in executors)
            assert all(0 < executor.example_seconds < executor.load_seconds for executor in executors)
            assert all(executor.memory_bytes > 2**20 for executor in executors)

            async def ask_often(executor: ProcessExecutor, number: int) -> None:
                for turn in range(100):
                    assert await total(executor, float(turn), float(number)) == turn + number

            await asyncio.gather(*(ask_often(each, number) for number, each in enumerate(executors)))

    run(work())


def test_what_waits_for_the_process_runs_together(spec: ChildSpec) -> None:
    async def work() -> None:
        async with kept() as one, shared(one, spec, 8) as executors:
            before = one.keeper.statistics()["sum"].runs
            # The first keeps the process busy while the others arrive.
            large = np.ones((2_000_000, 2))
            asked = [run_batch(executors[0], {"numbers": large})]
            asked += [run_batch(executor, rows(float(i), 1.0)) for i, executor in enumerate(executors[1:])]
            answers = await asyncio.gather(*asked)
            assert np.all(answers[0]["prediction"] == 2.0)
            assert [each["prediction"].tolist() for each in answers[1:]] == [[i + 1.0] for i in range(7)]
            assert one.keeper.statistics()["sum"].runs - before < 8

    run(work())


def test_what_says_that_its_rows_influence_each_other_never_runs_together(spec: ChildSpec) -> None:
    async def work() -> None:
        async with kept() as one, shared(one, spec, 8, mixes=True) as executors:
            before = one.keeper.statistics()["sum"].runs
            asked = [run_batch(executors[0], {"numbers": np.ones((2_000_000, 2))})]
            asked += [run_batch(executor, rows(float(i), 1.0)) for i, executor in enumerate(executors[1:])]
            await asyncio.gather(*asked)
            assert one.keeper.statistics()["sum"].runs - before == 8

    run(work())


@pytest.mark.parametrize("count", [1, 1025, 200_000])
def test_batches_of_every_size_come_back(spec: ChildSpec, count: int) -> None:
    async def work() -> None:
        async with kept() as one, shared(one, spec, 2, processes=2) as executors:
            for number, executor in enumerate(executors * 2):
                numbers = np.random.default_rng(number).random((count, 2))
                answers = await asyncio.gather(
                    run_batch(executor, {"numbers": numbers}), run_batch(executor, {"numbers": -numbers})
                )
                assert np.allclose(answers[0]["prediction"], numbers.sum(axis=1))
                assert np.allclose(answers[1]["prediction"], -numbers.sum(axis=1))

    run(work())


def test_a_model_that_no_server_wants_any_more_is_let_go(spec: ChildSpec) -> None:
    async def work() -> None:
        before = children()
        async with kept() as one:
            first, second = one.server(spec), one.server(spec)
            await first.open()
            await second.open()
            await first.close()
            assert await total(second, 1.0, 1.0) == 2.0
            await second.close()
            await until(lambda: children() == before)
            opening = asyncio.ensure_future(one.server(spec).open())
            await until(lambda: children() != before)
            opening.cancel()
            await asyncio.wait([opening])
            await until(lambda: children() == before)

    run(work())


def test_a_model_that_cannot_be_loaded_is_said_to_everybody(spec: ChildSpec) -> None:
    async def work() -> None:
        async with kept() as one:
            for _ in range(2):
                executors = [one.server(spec._replace(digest="0" * 64)) for _ in range(2)]
                came = await asyncio.gather(*(each.open() for each in executors), return_exceptions=True)
                assert all(isinstance(error, ArtifactTampered) for error in came), came

    run(work())


# ---------------------------------------------------------------------- faults


def test_a_row_that_fails_fails_alone(spec: ChildSpec) -> None:
    async def work() -> None:
        async with kept() as one, shared(one, spec, 4) as executors:
            for _ in range(20):
                values = [1.0, RAISE, 2.0, 3.0]
                asked = [
                    total(executor, value, 0.0) for executor, value in zip(executors, values, strict=True)
                ]
                came = await asyncio.gather(*asked, return_exceptions=True)
                assert isinstance(came.pop(1), ModelFailed)
                assert came == [1.0, 2.0, 3.0]
            assert one.replacements() == 0

    run(work())


def test_poison_costs_two_processes_and_no_neighbour(spec: ChildSpec) -> None:
    async def work() -> None:
        async with kept() as one:
            executors = [one.server(spec, run_s=0.4) for _ in range(3)]
            await asyncio.gather(*(executor.open() for executor in executors))
            asked: list[Any] = []
            servers = batchers(executors)
            for number, batcher in enumerate(servers):
                values = [float(i) for i in range(10)]
                if number == 1:
                    values[3] = LOOP
                asked += [ask(batcher, rows(value, float(number)), 1) for value in values]
            came = await asyncio.gather(*asked, return_exceptions=True)
            for place, answer in enumerate(came):
                if place == 13:
                    assert isinstance(answer, PoisonRequest)
                else:
                    assert isinstance(answer, dict), answer
                    assert answer["prediction"].tolist() == [place % 10 + place // 10]
            assert one.replacements() == 2
            # Each was told to one server, so that the sum over all is right.
            assert sum(executor.statistics().replacements for executor in executors) == 2
            await asyncio.gather(*(batcher.close() for batcher in servers))

    run(work())


def test_requests_survive_the_death_of_the_process_and_of_the_keeper(spec: ChildSpec) -> None:
    async def work() -> None:
        async with kept() as one:
            known = children()
            executors = [one.server(spec) for _ in range(2)]
            await asyncio.gather(*(executor.open() for executor in executors))
            servers = batchers(executors)
            over = asyncio.Event()
            right = 0

            async def caller(batcher: Batcher, number: int) -> None:
                nonlocal right
                while not over.is_set():
                    answer = await ask(batcher, rows(float(number), 1.0), 1)
                    assert answer["prediction"].tolist() == [number + 1.0]
                    right += 1
                    await asyncio.sleep(0.001)

            callers = [asyncio.ensure_future(caller(servers[i % 2], i)) for i in range(16)]
            for turn in range(4):
                goal = right + 100
                await until(lambda goal=goal: right > goal)
                if turn % 2:
                    await one.kill()
                    one.begin()
                else:
                    (pid,) = set(children()) - set(known)
                    os.kill(pid, signal.SIGKILL)
            goal = right + 100
            await until(lambda: right > goal)
            over.set()
            await asyncio.gather(*callers)
            await asyncio.gather(*(batcher.close() for batcher in servers))

    run(work(), 90)


def test_a_server_that_vanishes_disturbs_nobody(spec: ChildSpec) -> None:
    async def work() -> None:
        async with kept() as one, shared(one, spec, 1) as (stays,):
            for _ in range(5):
                ours = await speaker(one, spec)
                ours.sendall(run_frame(np.ones((1000, 2))))
                ours.close()
                assert await total(stays, 1.0, 2.0) == 3.0
            assert one.replacements() == 0

    run(work())


async def speaker(one: Kept, spec: ChildSpec) -> socket.socket:
    """The socket of a server that has just been told that its model is ready."""
    load = Load(str(spec.folder), spec.digest, spec.variant, WATCHED.memory_bytes, tuple(sys.path))
    meta = msgspec.msgpack.encode(msgspec.structs.replace(load, share=Share("sum")))
    ours = stranger(one, encode(Frame(Kind.LOAD, 0, meta, b"")))
    buffer = FrameBuffer()
    ours.setblocking(False)
    while (frame := buffer.take()) is None:
        buffer.received(await asyncio.get_running_loop().sock_recv_into(ours, buffer.room()))
    assert frame.kind is Kind.READY
    return ours


def run_frame(numbers: np.ndarray) -> bytes:
    packed = Packed({"numbers": numbers})
    return encode(Frame(Kind.RUN, 1, packed.meta, packed.payload()))


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, b"SVFR\x01\x03\x00\x00" + bytes(24), b"SVFR\x01\x01\x00\x00" + bytes(24)]
)
def test_nonsense_ends_its_own_conversation(spec: ChildSpec, data: bytes) -> None:
    async def work() -> None:
        async with kept() as one, shared(one, spec, 1) as (executor,):
            ours = stranger(one, data)
            ours.setblocking(False)
            if data:
                loop = asyncio.get_running_loop()
                assert await loop.sock_recv(ours, 100) == b""
            assert await total(executor, 1.0, 2.0) == 3.0
            ours.close()

    run(work())


def test_the_mailbox_takes_conversations_and_nothing_else() -> None:
    keepers, servers = mailbox()
    assert take_over(keepers) is None
    servers.send(b"hello")
    assert take_over(keepers) is None
    servers.close()
    with pytest.raises(Ended):
        take_over(keepers)
    keepers.close()


def test_a_keeper_ends_with_the_last_server(spec: ChildSpec) -> None:
    async def work() -> None:
        one = Kept()
        executor = one.server(spec)
        await executor.open()
        await executor.close()
        await asyncio.wait_for(one.close(), 5.0)

    run(work())


def test_a_package_that_moves_away_is_said_later(tmp_path: Path) -> None:
    async def work() -> None:
        spec = make_package(tmp_path / "package")
        async with kept() as one, shared(one, spec, 2) as executors:
            moved = spec.folder.rename(tmp_path / "moved")
            (pid,) = set(children())
            os.kill(pid, signal.SIGKILL)
            for executor in executors:
                with pytest.raises(Exception, match=r"no package|ended by SIGKILL|ended while"):
                    await total(executor, 1.0, 1.0)
            moved.rename(spec.folder)
            await until(lambda: one.keeper.statistics()["sum"].processes == 1)
            assert [await total(executor, 1.0, 1.0) for executor in executors] == [2.0, 2.0]

    run(work())
