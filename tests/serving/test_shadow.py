"""A shadow is asked what another version was asked: on copies, few at once, and nobody waits for it."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import ModelFailed, ServableError
from servable.monitoring.metrics import Metrics
from servable.monitoring.shadow_comparison import Compared
from servable.monitoring.shadow_counts import Comparing
from servable.registry.home import open_home
from servable.registry.policy import Policy
from servable.registry.records import WHOLE, Traffic
from servable.runtime.batcher import Batcher
from servable.runtime.executor import ThreadExecutor
from servable.runtime.process import ProcessExecutor
from servable.runtime.waiting import OVER, Waiting
from servable.serving.answer import answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import NO_TAP, Live, Parts, Wanted
from servable.serving.shadow import (
    LIMIT_S,
    MOST_BYTES,
    MOST_COPIES,
    Copies,
    Copying,
    Mirrored,
    Shadow,
    shadow_policy,
)
from servable.serving.taps import Streamed, Taps, taps_of
from servable.tensors import NUMBERS, PREDICTION, STRINGS
from servable.testing import FakePredictor
from serving.making import BIAS, IRIS, publish_iris

ROW = b'{"input":[5.1,3.5,1.4,0.2]}'
OTHER = BIAS + np.array([0.0, 0.0, 100.0])


class Scene:
    """Two live models of a host, one the shadow of the other."""

    def __init__(self, real: Live, shadow: Live, mirrored: float = 1.0, draw: Any = lambda: 0.5) -> None:
        self.real, self.shadow = real, shadow
        self.comparing = Comparing("iris", 1, 2)
        self.copies = Copies(shadow, per_second=1e9)
        self.tap = Shadow(real, self.copies, mirrored, self.comparing, draw)
        real.tap = self.tap

    async def ask(self, body: bytes = ROW) -> Any:
        return json.loads((await answer(self.real, body, "r")).body)

    async def compared(self) -> Compared:
        """Once every copy is answered."""
        while self.copies.count:
            await asyncio.sleep(0.001)
        assert self.copies.bytes == 0
        return self.comparing.compared()


def play(home: Path, course: Callable[[Scene], Any], bias: np.ndarray = BIAS, **more: Any) -> None:
    publish_iris(home)
    publish_iris(home, "shadow", bias=bias)

    async def work() -> None:
        host = Host(RegistrySource(home), Metrics("test"))
        await host.reconcile()
        real, shadow = host.find("iris"), host.find("shadow")
        assert isinstance(real, Live)
        assert isinstance(shadow, Live)
        try:
            await course(Scene(real, shadow, **more))
        finally:
            real.tap = NO_TAP
            await host.close()

    asyncio.run(work())


def test_a_shadow_that_is_the_same_agrees(home: Path) -> None:
    async def course(scene: Scene) -> None:
        for _ in range(5):
            assert (await scene.ask())["prediction"] == "setosa"
        await scene.ask(b'{"inputs":[[5.1,3.5,1.4,0.2],[6.0,2.9,4.5,1.5],[6.3,3.3,6.0,2.5]]}')
        seen = await scene.compared()
        assert (seen.both_ok, seen.codes, seen.dropped) == (6, {"ok": 6}, 0)
        assert (seen.agreement.rows, seen.agreement.total) == (8, 8)
        assert (seen.scores.rows, seen.scores.total) == (8, 0.0)
        assert scene.real.in_flight == scene.shadow.in_flight == 0

    play(home, course)


def test_a_shadow_that_differs_is_seen(home: Path) -> None:
    async def course(scene: Scene) -> None:
        answered = await scene.ask()
        seen = await scene.compared()
        assert (seen.agreement.rows, seen.agreement.total) == (1, 0)
        # The shadow is sure of another class, so nothing is left for the one that was named.
        assert seen.scores.total == pytest.approx(-answered["probabilities"]["setosa"])

    play(home, course, OTHER)


def test_the_share_of_copies_is_drawn(home: Path) -> None:
    numbers = iter([0.05, 0.5, 0.19, 0.21])

    async def course(scene: Scene) -> None:
        for _ in range(4):
            await scene.ask()
        assert (await scene.compared()).requests == 2

    play(home, course, mirrored=0.2, draw=lambda: next(numbers))


def test_what_the_caller_did_wrong_is_not_copied(home: Path) -> None:
    async def course(scene: Scene) -> None:
        with pytest.raises(ServableError):
            await scene.ask(b'{"input":["x"]}')
        assert (await scene.compared()).requests == 0

    play(home, course)


def test_a_shadow_with_other_inputs_is_not_asked(home: Path) -> None:
    publish_iris(home)
    field = Field(name="colour", kind="category", dtype="str", example="red")
    more = msgspec.structs.replace(IRIS, inputs=(*IRIS.inputs, field))
    assert "colour" in Copying(IRIS, more).reason
    assert Copying(more, IRIS).reason == ""


def test_columns_are_found_by_name() -> None:
    text = Field(name="plan", kind="category", dtype="str")
    a, b, c = (Field(name=name, kind="number", dtype="float64") for name in "abc")
    answer_field = Field(name="y", kind="number", dtype="float64")
    real = Signature(task="regression", inputs=(a, text, b, c), outputs=(answer_field,))
    shadow = Signature(task="regression", inputs=(c, a), outputs=(answer_field,))
    arrays = {NUMBERS: np.array([[1.0, 2.0, 3.0]]), STRINGS: np.array([["pro"]], object)}
    copied = Copying(real, shadow).copied(arrays)
    assert {name: array.tolist() for name, array in copied.items()} == {NUMBERS: [[3.0, 1.0]]}
    same = Copying(real, real).copied(arrays)
    assert all(not np.shares_memory(same[name], arrays[name]) for name in same)


# ---------------------------------------------------------------------- what a shadow may do


class Nobody(Waiting):
    """A request that is over."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__({NUMBERS: rows}, len(rows))
        self.state = OVER


def held(home: Path, course: Callable[[Scene, FakePredictor], Any]) -> None:
    """A scene whose shadow is a predictor that can be held."""

    async def work(scene: Scene) -> None:
        predictor = FakePredictor()
        loaded = scene.shadow.loaded._replace(executor=ThreadExecutor(predictor, "held"))
        batcher = Batcher(loaded.executor, name="held", meter=scene.shadow.meter)
        parts = Parts(batcher, scene.shadow.codecs, scene.shadow.cache, scene.shadow.meter)
        shadow = Live(scene.shadow.wanted, loaded, parts)
        try:
            await course(Scene(scene.real, shadow), predictor)
        finally:
            predictor.let_go()
            await shadow.retire()

    play(home, work)


def test_a_shadow_that_hangs_keeps_few_copies_and_drops_the_rest(home: Path) -> None:
    async def course(scene: Scene, predictor: FakePredictor) -> None:
        predictor.hold()
        for _ in range(MOST_COPIES + 20):
            assert (await scene.ask())["prediction"] == "setosa"
        assert scene.copies.count == MOST_COPIES
        assert scene.comparing.compared().dropped == 20
        predictor.let_go()
        seen = await scene.compared()
        # The fake gives no classes, which is no reason to lose a copy.
        assert seen.requests == MOST_COPIES

    held(home, course)


def test_a_shadow_that_errs_is_counted(home: Path) -> None:
    async def course(scene: Scene, predictor: FakePredictor) -> None:
        asked = Nobody(np.array([[-1.0, 1.0, 1.0, 1.0]]))
        scene.tap.took(asked, "r", {PREDICTION: np.array([0])}, "ok", 0.1)
        scene.tap.took(asked, "r", None, ModelFailed("It failed.").code, 0.1)
        fine = Nobody(np.array([[1.0, 1.0, 1.0, 1.0]]))
        scene.tap.took(fine, "r", None, "model_failed", 0.1)
        seen = await scene.compared()
        assert (seen.shadow_failed, seen.both_failed, seen.real_failed) == (1, 1, 1)
        assert seen.codes == {"model_failed": 2, "ok": 1}

    held(home, course)


def test_what_was_answered_in_pieces_is_asked_whole(home: Path) -> None:
    async def course(scene: Scene) -> None:
        rows = {NUMBERS: np.array([[5.1, 3.5, 1.4, 0.2]])}
        told = {PREDICTION: np.array([0])}
        scene.tap.took(Streamed(rows, 1, 0.25), "r", told, "ok", 9.0)
        scene.tap.took(Streamed(rows, 1, 0.25), "r", None, "model_failed", 9.0)
        # A request that the version never saw has no time of its own either.
        scene.tap.took(Waiting(rows, 1), "r", told, "ok", 9.0)
        scene.tap.took(Streamed(rows, 1, LIMIT_S + 1), "r", told, "ok", 99.0)
        seen = await scene.compared()
        assert (seen.both_ok, seen.real_failed, seen.dropped) == (1, 1, 1)
        assert (seen.agreement.rows, seen.agreement.total) == (1, 1)
        # The time of the caller, who read slowly, is not that of the model.
        assert -0.25 <= seen.differences_s.total < 5.0

    play(home, course)


def test_large_requests_are_not_copied(home: Path) -> None:
    async def course(scene: Scene) -> None:
        large = Nobody(np.zeros((MOST_BYTES // 32 + 1, 4)))
        scene.tap.took(large, "r", {}, "ok", 0.1)
        assert scene.comparing.compared().dropped == 1

    play(home, course)


def test_copies_are_evened_out(home: Path) -> None:
    time = [0.0]

    async def course(scene: Scene) -> None:
        copies = Copies(scene.shadow, 4.0, lambda: time[0])
        assert [copies.room(8) for _ in range(6)] == [True] * 4 + [False] * 2
        assert not copies.due()
        time[0] += 0.25
        assert copies.due()
        assert [copies.room(8) for _ in range(2)] == [True, False]
        time[0] += 60.0
        assert sum(copies.room(8) for _ in range(100)) == 4

    play(home, course)


@given(st.lists(st.floats(0.0, 1.0), max_size=200), st.sampled_from([1.0, 10.0, 1000.0]))
def test_there_are_never_more_copies_than_the_rate_allows(pauses: list[float], rate: float) -> None:
    time = [100.0]
    copies = Copies(cast(Live, SimpleNamespace(retired=False)), rate, lambda: time[0])
    made: list[float] = []
    for pause in pauses:
        time[0] += pause
        due = copies.due()
        # Asking changes nothing.
        assert copies.due() == due == copies.room(8)
        if due:
            made.append(time[0])
    at_once = max(rate, 1.0)
    for first, began in enumerate(made):
        for last in range(first, len(made)):
            assert last - first + 1 <= (made[last] - began) * rate + at_once + 1e-6
    # Nobody who comes seldom enough is left out.
    if all(pause * rate >= 1.0 for pause in pauses):
        assert len(made) == len(pauses)


def test_a_shadow_that_leaves_gets_nothing_more(home: Path) -> None:
    async def course(scene: Scene, predictor: FakePredictor) -> None:
        await scene.ask()
        await scene.compared()
        await scene.shadow.retire()
        await scene.ask()
        assert scene.comparing.compared().dropped == 1

    held(home, course)


def test_a_shadow_whose_process_is_away_gets_nothing_until_it_is_back(home: Path) -> None:
    class Away(ThreadExecutor):
        away = True

    async def course(scene: Scene, predictor: FakePredictor) -> None:
        executor = Away(predictor, "away")
        batcher = Batcher(executor, name="away", meter=scene.shadow.meter)
        parts = Parts(batcher, scene.shadow.codecs, scene.shadow.cache, scene.shadow.meter)
        shadow = Live(scene.shadow.wanted, scene.shadow.loaded._replace(executor=executor), parts)
        scene = Scene(scene.real, shadow)
        await scene.ask()
        assert (scene.copies.count, scene.comparing.compared().dropped) == (0, 1)
        executor.away = False
        await scene.ask()
        seen = await scene.compared()
        assert (seen.codes, seen.dropped) == ({"ok": 1}, 1)
        await shadow.retire()

    held(home, course)


def test_the_answers_are_kept_although_their_memory_is_used_again(home: Path) -> None:
    async def course(scene: Scene, predictor: FakePredictor) -> None:
        predictor.hold()
        rows, answers = np.array([[1.0, 2.0, 3.0, 4.0]]), {PREDICTION: np.array([0])}
        scene.tap.took(Nobody(rows), "r", answers, "ok", 0.1)
        rows[:] = -1.0
        answers[PREDICTION][:] = 7
        predictor.let_go()
        seen = await scene.compared()
        assert seen.codes == {"ok": 1}

    held(home, course)


def test_a_shadow_has_a_process_of_its_own() -> None:
    policy = shadow_policy(
        Policy(executor="inline", threads=3, spares=2, cache_bytes=10, capture=0.5, share=True)
    )
    assert policy == Policy(executor="process", threads=3, share=False)


def test_a_host_gives_versions_their_shadow_and_takes_it_back(home: Path) -> None:
    publish_iris(home)
    publish_iris(home, bias=OTHER, deploy=False)

    def divide(traffic: Traffic) -> None:
        with open_home(home) as opened:
            opened.deployments.divide("iris", traffic)

    async def course() -> None:
        metrics = Metrics("test")
        host = Host(RegistrySource(home), metrics)
        own = Told()
        await host.reconcile()
        real = host.find("iris")
        assert isinstance(real, Live)
        real.tap = own
        divide(Traffic(shadow=2))
        await host.reconcile()
        shadow = host.find("iris:2")
        assert isinstance(shadow, Live)
        assert isinstance(shadow.executor, ProcessExecutor)
        (pid,) = shadow.executor.pids
        assert (os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid)) == (19, os.SCHED_IDLE)
        # What a group of the scheduler gets is shared out among its own processes only.
        group = Path(f"/proc/{pid}/autogroup")
        assert not group.exists() or group.read_text().endswith("nice 19\n")
        assert not isinstance(shadow.tap, Mirrored)
        for _ in range(3):
            assert json.loads((await answer(real, ROW, "r")).body)["version"] == 1
        while not (metrics.snapshot().comparisons and metrics.snapshot().comparisons[0].requests == 3):
            await asyncio.sleep(0.001)
        (seen,) = metrics.snapshot().comparisons
        assert (seen.version, seen.shadow, seen.agreement.rows, seen.agreement.total) == (1, 2, 3, 0)
        assert own.ids == ["r"] * 3
        divide(WHOLE)
        await host.reconcile()
        assert real.tap is own
        with open_home(home) as opened:
            opened.deployments.deploy("iris", 2)
        await host.reconcile()
        now = host.find("iris")
        assert isinstance(now, Live)
        assert (now.version, now.loaded.placement) == (2, "inline")
        await host.close()

    asyncio.run(course())


def test_a_shadow_is_loaded_anew_before_it_answers() -> None:
    wanted = Wanted("iris", 2, "d", own=False, traffic=Traffic(shadow=2))
    assert wanted.is_shadow
    assert not wanted.loads_like(wanted._replace(own=True, traffic=WHOLE))
    assert wanted.loads_like(wanted._replace(traffic=Traffic(shadow=2, mirrored=0.5)))
    assert not wanted._replace(version=1).is_shadow


# ---------------------------------------------------------------------- several taps


class Told:
    """Remembers what it was told; may raise."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ids: list[str] = []
        self._error = error

    def took(self, asked: Waiting, request_id: str, answers: Any, code: str, seconds: float) -> None:
        self.ids.append(request_id)
        if self._error is not None:
            raise self._error


def test_every_tap_is_told_whatever_another_one_does(caplog: pytest.LogCaptureFixture) -> None:
    one, broken, other = Told(), Told(RuntimeError("full")), Told()
    taps = taps_of([NO_TAP, one, broken, other])
    asked = Nobody(np.zeros((1, 2)))
    for request_id in "abc":
        taps.took(asked, request_id, None, "ok", 0.1)
    assert one.ids == broken.ids == other.ids == ["a", "b", "c"]
    assert [record.message for record in caplog.records] == ["a tap failed"]
    assert isinstance(taps, Taps)
    assert taps_of([NO_TAP]) is NO_TAP
