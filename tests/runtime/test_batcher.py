"""The batcher as a whole: on a fake clock, against an executor that ends batches when told."""

import asyncio
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batching import BAD, DEADLY, FINE, Asking, HeldExecutor, Scene, play
from servable.errors import DeadlineExceeded, ModelFailed, Overloaded, PoisonRequest, ServerStopping
from servable.monitoring.metrics import Meter
from servable.runtime.asking import ask
from servable.runtime.batch_policy import BatchLimits
from servable.runtime.batcher import Batcher
from servable.runtime.executor import InlineExecutor, ThreadExecutor
from servable.testing import FakePredictor
from thoroughness import examples


def askings(count: int, first: int = 0) -> list[Asking]:
    return [Asking(first + number) for number in range(count)]


def test_what_came_with_one_poll_is_one_batch_and_the_next_forms_meanwhile() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        first, second = askings(3), askings(4, first=10)
        scene.submit(*first)
        assert scene.executor.started == []
        await scene.turn()
        assert scene.executor.started == [[0, 1, 2]]
        scene.submit(*second)
        await scene.turn()
        assert scene.executor.running == 1
        assert scene.meter.queued == 4
        await scene.finish()
        assert scene.executor.started[1:] == [[10, 11, 12, 13]]
        assert scene.order == first
        await scene.finish()
        assert scene.order == first + second
        assert all(each.answered for each in first + second)

    play(scene, part)
    statistics = scene.batcher.statistics()
    assert (statistics.batches, statistics.rows, statistics.requests) == (2, 7, 7)
    assert (scene.meter.batches, scene.meter.batch_rows) == (2, 7)
    assert sum(scene.meter.wait_buckets) == 7


def test_a_lone_request_goes_through_untouched() -> None:
    scene = Scene(HeldExecutor())
    seen: list[object] = []

    async def part(scene: Scene) -> None:
        lone = Asking(5, rows=3)
        start = scene.executor.start
        scene.executor.start = lambda arrays, done: (seen.append(arrays), start(arrays, done))[1]  # type: ignore[method-assign] - a tap
        scene.submit(lone)
        await scene.finish_all()
        assert seen == [lone.arrays]
        assert seen[0] is lone.arrays
        assert lone.answered

    play(scene, part)


def test_requests_of_several_rows_get_their_own() -> None:
    scene = Scene(HeldExecutor(), BatchLimits(max_rows=64))

    async def part(scene: Scene) -> None:
        members = [Asking(first, rows) for first, rows in ((0, 1), (10, 3), (20, 2), (30, 1))]
        scene.submit(*members)
        await scene.finish_all()
        assert len(scene.executor.started) == 1
        assert all(each.answered for each in members)
        views = [each.outcomes[0][0]["prediction"] for each in members]  # type: ignore[index] - answered
        assert all(view.base is not None for view in views)

    play(scene, part)


def test_a_large_request_is_put_together_again() -> None:
    scene = Scene(HeldExecutor(slots=2), BatchLimits(max_rows=4))

    async def part(scene: Scene) -> None:
        large, small = Asking(0, rows=11), Asking(100)
        scene.submit(large, small)
        await scene.turn()
        assert scene.executor.started == [[0, 1, 2, 3], [100]]
        scene.executor.finish(1)
        await scene.turn()
        assert scene.executor.started[2:] == [[4, 5, 6, 7]]
        scene.executor.finish(1)
        await scene.turn()
        scene.executor.finish(1)
        assert scene.order == [small]
        await scene.finish_all()
        assert large.answered
        assert scene.executor.most == 4

    play(scene, part)


def test_a_failing_part_ends_its_request_alone() -> None:
    scene = Scene(HeldExecutor(), BatchLimits(max_rows=4))

    async def part(scene: Scene) -> None:
        large, small = Asking(0, rows=12), Asking(100)
        large.arrays["numbers"][1, 1] = BAD
        scene.submit(large, small)
        await scene.finish_all()
        assert isinstance(large.error, ModelFailed)
        assert small.answered
        assert scene.executor.started == [[0, 1, 2, 3], [100]]

    play(scene, part)


def test_a_failing_request_fails_alone() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        members = [Asking(number, does=BAD if number == 5 else FINE) for number in range(8)]
        scene.submit(*members)
        await scene.finish_all()
        assert isinstance(members[5].error, ModelFailed)
        assert all(each.answered for each in members if each.first != 5)
        # Three halvings, and each time both halves.
        assert len(scene.executor.started) == 7

    play(scene, part)


def test_poison_costs_two_processes_and_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        members = [Asking(number, does=DEADLY if number == 2 else FINE) for number in range(6)]
        scene.submit(*members)
        await scene.turn()
        scene.submit(late := Asking(100))
        await scene.finish_all()
        assert isinstance(members[2].error, PoisonRequest)
        assert all(each.answered for each in [*members[:2], *members[3:], late])
        assert scene.executor.deaths == [[0, 1, 2, 3, 4, 5], [2]]
        assert scene.executor.started[1:7] == [[0], [1], [2], [3], [4], [5]]
        with pytest.raises(PoisonRequest, match="ended two processes of m"):
            scene.submit(Asking(2, does=DEADLY))
        scene.submit(other := Asking(2))
        await scene.finish_all()
        assert other.answered
        assert len(scene.executor.deaths) == 2
        # Somebody else may have killed the process: after a while it is tried again.
        await scene.advance(601.0)
        scene.submit(again := Asking(2, does=DEADLY))
        await scene.finish_all()
        assert isinstance(again.error, PoisonRequest)
        assert len(scene.executor.deaths) == 4
        said = [record for record in caplog.records if record.message == "rows are refused as poison"]
        assert [vars(record)["servable_fields"]["model"] for record in said] == ["m", "m"]
        assert all(vars(record)["servable_fields"]["last"] for record in said)

    play(scene, part)


def test_cancelling_one_changes_nothing_for_its_neighbours() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        running, queued = askings(3), askings(3, first=10)
        scene.submit(*running)
        await scene.turn()
        scene.submit(*queued)
        scene.batcher.cancel(running[1])
        scene.batcher.cancel(queued[1])
        assert scene.meter.abandoned == 1
        assert scene.meter.queued == 2
        await scene.finish_all()
        scene.batcher.cancel(running[0])
        assert scene.executor.started == [[0, 1, 2], [10, 12]]
        assert scene.order == [running[0], running[2], queued[0], queued[2]]
        assert all(each.answered for each in scene.order)

    play(scene, part)


def test_one_who_left_is_not_tried_again() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        members = [Asking(0, does=DEADLY), Asking(1), Asking(2)]
        scene.submit(*members)
        await scene.turn()
        scene.batcher.cancel(members[0])
        await scene.finish()
        scene.batcher.cancel(members[2])
        await scene.finish_all()
        assert scene.executor.started == [[0, 1, 2], [1]]
        assert members[1].answered
        assert [each.outcomes for each in (members[0], members[2])] == [[], []]

    play(scene, part)


def test_a_deadline_ends_the_wait_whether_queued_or_running() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        now = scene.clock.monotonic()
        running, queued, calm = Asking(0, deadline=now + 1), Asking(1, deadline=now + 2), Asking(2)
        scene.submit(running)
        await scene.turn()
        scene.submit(queued, calm)
        await scene.advance(0.99)
        assert scene.order == []
        await scene.advance(0.02)
        assert isinstance(running.error, DeadlineExceeded)
        await scene.advance(1.0)
        assert isinstance(queued.error, DeadlineExceeded)
        assert scene.meter.expired == 1
        await scene.finish_all()
        assert scene.executor.started == [[0], [2]]
        assert calm.answered
        assert len(running.outcomes) == 1

    play(scene, part)


def test_nothing_starts_after_its_deadline() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        with pytest.raises(DeadlineExceeded, match="was over when it arrived"):
            scene.submit(Asking(0, deadline=scene.clock.monotonic()))
        late = Asking(1, deadline=scene.clock.monotonic() + 0.5)
        scene.submit(late)
        # The clock moves before the loop turns.
        await scene.advance(0.5)
        assert scene.executor.started == []
        assert isinstance(late.error, DeadlineExceeded)

    play(scene, part)


def test_the_urgent_go_first() -> None:
    scene = Scene(HeldExecutor(), BatchLimits(max_rows=2))

    async def part(scene: Scene) -> None:
        for number in range(12):
            scene.submit(Asking(number))
            await scene.turn()
            await scene.finish(0.1)
        scene.submit(Asking(20))
        await scene.turn()
        calm = [Asking(30), Asking(31), Asking(32)]
        urgent = Asking(40, deadline=scene.clock.monotonic() + 0.45)
        scene.submit(calm[0], urgent, *calm[1:])
        # The run takes longer than expected, so the deadline has come near.
        await scene.finish(0.25)
        assert scene.executor.started[-1][0] == 40
        await scene.finish(0.1)
        assert urgent.answered
        await scene.finish_all()
        assert all(each.answered for each in calm)

    play(scene, part)


def test_a_full_queue_refuses_at_once() -> None:
    scene = Scene(HeldExecutor(), BatchLimits(queue_requests=3))

    async def part(scene: Scene) -> None:
        scene.batcher.admit()
        scene.submit(Asking(0))
        await scene.turn()
        scene.submit(*askings(3, first=10))
        for refuse in (scene.batcher.admit, lambda: scene.submit(Asking(20))):
            with pytest.raises(Overloaded, match="3 requests wait for m") as caught:
                refuse()
            assert caught.value.retry_after_s > 0
        await scene.finish()
        scene.batcher.admit()
        await scene.finish_all()
        assert len(scene.order) == 4

    play(scene, part)
    assert scene.batcher.statistics().refused == 2


def test_a_queue_that_would_take_too_long_refuses_at_once() -> None:
    scene = Scene(HeldExecutor(), BatchLimits(queue_s=1.0, max_rows=1))

    async def part(scene: Scene) -> None:
        for number in range(10):
            scene.submit(Asking(number))
            await scene.turn()
            await scene.finish(0.1)
        with pytest.raises(Overloaded, match="too long for the time of this one"):
            scene.submit(*askings(5, first=100), Asking(300, deadline=scene.clock.monotonic() + 0.5))
        with pytest.raises(Overloaded) as caught:
            scene.submit(*askings(100, first=200))
        assert 0.4 <= caught.value.retry_after_s <= 0.7
        assert 9 <= scene.batcher.statistics().queued_requests <= 12
        await scene.finish_all()

    play(scene, part)


def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        first, second = askings(2), askings(2, first=10)
        scene.submit(*first)
        await scene.turn()
        scene.submit(*second)
        closing = asyncio.ensure_future(scene.batcher.close())
        await scene.turn()
        for refuse in (scene.batcher.admit, lambda: scene.submit(Asking(20))):
            with pytest.raises(ServerStopping, match="m is being unloaded"):
                refuse()
        assert not scene.executor.closed
        await scene.finish_all()
        await closing
        assert all(each.answered for each in first + second)

    play(scene, part)


def test_closing_does_not_wait_for_who_left() -> None:
    scene = Scene(HeldExecutor(), BatchLimits(max_rows=1))

    async def part(scene: Scene) -> None:
        scene.submit(first := Asking(0))
        await scene.turn()
        scene.submit(second := Asking(1))
        closing = asyncio.ensure_future(scene.batcher.close())
        await scene.turn()
        scene.batcher.cancel(second)
        await scene.finish_all()
        await closing
        assert first.answered
        assert scene.executor.started == [[0]]

    play(scene, part)


def test_one_that_raises_when_settled_does_not_lose_the_others(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        members = askings(3)
        members[1].raises = RuntimeError("its connection is gone")
        lone = Asking(10)
        lone.raises = RuntimeError("its connection is gone")
        scene.submit(*members)
        await scene.finish_all()
        scene.submit(lone)
        await scene.finish_all()
        assert all(each.answered for each in [*members, lone])

    play(scene, part)
    assert [record.message for record in caplog.records] == ["an answer could not be given"] * 2


def test_requests_of_different_forms_do_not_share_a_batch() -> None:
    scene = Scene(HeldExecutor())

    async def part(scene: Scene) -> None:
        members = askings(6)
        for each in members[1::2]:
            each.arrays = {"numbers": np.hstack([each.arrays["numbers"], np.zeros((1, 1))])}
        other = Asking(50)
        other.arrays = {"numbers": other.arrays["numbers"].astype(np.float32)}
        more = Asking(60)
        more.arrays = {**more.arrays, "flag": np.ones((1, 1))}
        for _ in range(2):
            await scene.finish_all()
        scene.submit(*members, other, more)
        await scene.finish_all()
        assert scene.executor.started == [[0, 2, 4], [1, 3, 5], [50], [60]]
        later = askings(4, first=70)
        later[2].arrays = members[1].arrays
        later[2].first = 1
        scene.submit(*later)
        await scene.finish_all()
        assert scene.executor.started[4:] == [[70, 71, 73], [1]]
        assert all(each.answered for each in [*members, other, more, *later])

    play(scene, part)


class Summing:
    """Answers a batch with one row, whatever it has."""

    concurrent = True

    def predict(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"prediction": arrays["numbers"].sum(keepdims=True)[0]}

    def close(self) -> None:
        """Nothing to do."""


def test_a_model_that_does_not_answer_row_for_row_is_not_batched(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        batcher = Batcher(InlineExecutor(Summing()), name="m", meter=Meter("m", 1))
        for _ in range(2):
            answers = await asyncio.gather(
                *[ask(batcher, {"numbers": np.array([[float(number)]])}, 1) for number in range(5)]
            )
            assert [answer["prediction"].tolist() for answer in answers] == [
                [0.0],
                [1.0],
                [2.0],
                [3.0],
                [4.0],
            ]
        assert (await ask(batcher, {"numbers": np.ones((50, 1))}, 50))["prediction"].tolist() == [50.0]
        await batcher.close()

    asyncio.run(main())
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", ["inline", "thread"])
def test_real_executors_answer_everybody(kind: str) -> None:
    async def main() -> None:
        predictor = FakePredictor(poison=-1.0)
        executor = InlineExecutor(predictor) if kind == "inline" else ThreadExecutor(predictor, "m", 2)
        meter = Meter("m", 1)
        batcher = Batcher(executor, name="m", meter=meter, limits=BatchLimits(max_rows=16))
        numbers = [-1.0 if number in (7, 30) else float(number) for number in range(60)]
        answers = await asyncio.gather(
            *[ask(batcher, {"numbers": np.array([[number, 1.0]])}, 1) for number in numbers],
            return_exceptions=True,
        )
        for number, answer in zip(numbers, answers, strict=True):
            if number == -1.0:
                assert isinstance(answer, ModelFailed)
            else:
                assert isinstance(answer, dict)
                assert answer["prediction"].tolist() == [number + 1.0]
        large = np.arange(400.0).reshape(200, 2)
        answer = await ask(batcher, {"numbers": large}, 200)
        assert answer["prediction"].tolist() == large.sum(axis=1).tolist()
        left = asyncio.ensure_future(ask(batcher, {"numbers": large}, 200))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        await batcher.close()
        await batcher.close()
        assert meter.queued == 0
        assert batcher.statistics().executor.kind == kind

    asyncio.run(main())


def test_an_executor_that_raises_is_an_answer() -> None:
    class Refusing(HeldExecutor):
        def start(self, arrays: object, done: object) -> None:
            raise ModelFailed("It cannot be started.")

    scene = Scene(Refusing())

    async def part(scene: Scene) -> None:
        members = askings(3)
        scene.submit(*members)
        await scene.turn()
        for _ in range(10):
            await scene.turn()
        assert all(isinstance(each.error, ModelFailed) for each in members)

    play(scene, part)


# Everything at once.

Step = tuple[str, int, int, int]


def told(seed: int) -> list[Step]:
    """A long story: bursts of requests among endings, departures and waits."""
    chance = random.Random(seed)
    large, evil, hurried = chance.choice([1, 3, 25]), chance.choice([0, 0, 1, 5]), chance.choice([0, 5, 10])
    story: list[Step] = []
    for _ in range(60):
        for _ in range(chance.choice([0, 1, 1, 6])):
            does = chance.randrange(2) if chance.randrange(20) < evil else 5
            time = chance.randrange(20) if chance.randrange(20) < hurried else chance.choice([20, 21])
            story.append(("submit", chance.randint(1, large), does, time))
        verb = chance.choice(["turn", "turn", "finish", "finish", "finish", "cancel", "wait"])
        story.append((verb, chance.randrange(50), chance.randrange(20), 0))
        story.append(("turn", 0, 0, 0) if chance.randrange(2) else ("finish", chance.randrange(3), 1, 0))
    return story


class Story:
    """Carries out steps and watches over what must always hold."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.members: list[Asking] = []
        self.left: set[int] = set()
        self.wrong: list[str] = []
        self.owner: dict[int, Asking] = {}
        self.runs: dict[int, int] = {}
        scene.executor.watch = self.watch

    def watch(self, rows: list[int]) -> None:
        # What is raised here would only be taken for the executor's error.
        now = self.scene.clock.monotonic()
        for row in rows:
            owner = self.owner[row]
            if owner.deadline <= now:
                self.wrong.append("started after its deadline")
            if id(owner) in self.left:
                self.wrong.append("started after its caller left")
            if owner.outcomes:
                self.wrong.append("started after it was settled")
            self.runs[row] = self.runs.get(row, 0) + 1

    async def step(self, step: Step) -> None:
        verb, first, second, third = step
        if verb == "submit":
            self.submit(first, second, third)
        elif verb == "finish" and self.scene.executor.running:
            self.scene.clock.advance(second / 1000)
            self.scene.executor.finish(first % self.scene.executor.running)
        elif verb == "cancel" and self.members:
            member = self.members[-1 - first % min(12, len(self.members))]
            if not member.outcomes:
                self.left.add(id(member))
            self.scene.batcher.cancel(member)
        elif verb == "wait":
            await self.scene.advance(first / 1000)
        else:
            await self.scene.turn()
        statistics = self.scene.batcher.statistics()
        assert statistics.queued_requests <= 8
        if self.scene.executor.running > self.scene.executor.slots:
            self.wrong.append("more batches than slots")
        assert self.scene.meter.queued == statistics.queued_requests

    def submit(self, rows: int, does: int, time: int) -> None:
        first = 1000 * (len(self.members) + 1)
        member = Asking(
            first,
            rows,
            does={0: BAD, 1: DEADLY}.get(does, FINE),
            deadline=self.scene.clock.monotonic() + time / 500 if time < 20 else math.inf,
            weight=1.0 if time % 2 else 3.0,
        )
        self.owner.update({first + row: member for row in range(rows)})
        try:
            self.scene.submit(member)
        except (Overloaded, DeadlineExceeded):
            assert not member.outcomes
        else:
            self.members.append(member)

    def check(self) -> None:
        assert self.wrong == []
        for member in self.members:
            does = member.arrays["numbers"][-1, 1]
            if id(member) in self.left:
                assert member.outcomes == [], "settled although its caller had left"
                continue
            assert len(member.outcomes) == 1, "not settled exactly once"
            if isinstance(member.error, DeadlineExceeded):
                assert member.deadline < math.inf
            elif does == BAD:
                assert isinstance(member.error, ModelFailed)
            elif does == DEADLY:
                assert isinstance(member.error, PoisonRequest)
            else:
                assert member.answered
            deaths = [rows for rows in self.scene.executor.deaths if member.first + member.rows - 1 in rows]
            assert len(deaths) <= 2 or does != DEADLY
        settled = [member for member in self.scene.order if not isinstance(member.error, DeadlineExceeded)]
        assert len(settled) == len(set(map(id, settled)))


@settings(max_examples=examples(120), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 16), st.integers(0, 9))
def test_whatever_happens_everybody_is_answered_once(
    seed: int, slots: int, max_rows: int, batchable: int
) -> None:
    limits = BatchLimits(max_rows=max_rows, queue_requests=8, queue_s=1.0, batchable=batchable > 0)
    scene = Scene(HeldExecutor(slots), limits)
    teller = Story(scene)

    async def part(scene: Scene) -> None:
        for each in told(seed):
            await teller.step(each)
        await scene.finish_all()

    play(scene, part)
    teller.check()
    if batchable:
        assert scene.executor.most <= max_rows
    if not any(scene.executor.deaths) and not scene.batcher.statistics().failed_batches:
        assert set(teller.runs.values()) <= {1}
