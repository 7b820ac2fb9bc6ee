"""The fakes keep the promises of their seams, and the checks notice when one is broken."""

import asyncio
import itertools

import numpy as np
import pytest

from servable.clock import SystemClock
from servable.errors import RequestMalformed
from servable.frameworks.base import Predictor
from servable.runtime.executor import InlineExecutor, ThreadExecutor
from servable.tensors import NUMBERS, PREDICTION, Request, Response
from servable.testing import (
    FakeAdapter,
    FakeClock,
    FakeCodec,
    FakeExecutor,
    FakePredictor,
    RecordedProgress,
    check_adapter,
    check_clock,
    check_codec,
    check_executor,
    check_streams,
)
from servable.testing.adapters import Specimen, write_fake_model
from servable.testing.executors import expect_free_loop

RESPONSE = Response({PREDICTION: np.array([1.5, 2.5])}, 2, "id", "sum", 1)


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
def test_clocks(clock):
    check_clock(clock)


def test_a_fake_clock_moves_when_told():
    clock = FakeClock()
    start, moment = clock.monotonic(), clock.now()
    clock.advance(5)
    clock.jump(-3600)
    assert clock.monotonic() - start == 5
    assert (clock.now() - moment).total_seconds() == 5 - 3600
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_the_clock_check_notices_a_clock_that_goes_back():
    class Backwards(FakeClock):
        def monotonic(self) -> float:
            self.advance(0)
            self._step = getattr(self, "_step", 0) - 1
            return float(self._step)

    with pytest.raises(AssertionError, match="never goes back"):
        check_clock(Backwards())


@pytest.mark.parametrize(
    "make",
    [InlineExecutor, lambda predictor: ThreadExecutor(predictor, "test"), FakeExecutor],
    ids=["inline", "thread", "fake"],
)
def test_executors(make):
    check_executor(make)


@pytest.mark.parametrize(
    "make",
    [InlineExecutor, lambda predictor: ThreadExecutor(predictor, "test"), FakeExecutor],
    ids=["inline", "thread", "fake"],
)
def test_streams_of_executors(make):
    check_streams(make)


class Forgetful(FakeExecutor):
    async def close(self) -> None:
        """Forgets the predictor."""


class Shared(FakeExecutor):
    """Answers everybody with the first caller's rows."""

    def start(self, arrays, done):
        super().start(self.arrays[0] if self.arrays else arrays, done)


class Twice(FakeExecutor):
    """Calls back twice."""

    def start(self, arrays, done):
        def twice(outcome):
            done(outcome)
            done(outcome)

        super().start(arrays, twice)


@pytest.mark.parametrize(
    ("make", "promise"),
    [
        (Forgetful, "closes the predictor"),
        (Shared, "its own rows"),
        (Twice, "exactly once"),
    ],
)
def test_the_executor_check_notices(make, promise):
    with pytest.raises(AssertionError, match=promise):
        check_executor(make)


class Hasty(InlineExecutor):
    """Makes a hundred pieces before anybody asks for them."""

    def stream(self, arrays):
        source = self._predictor.stream(arrays)
        made = list(itertools.islice(source, 100))

        async def pieces():
            for piece in itertools.chain(made, source):
                yield piece

        return pieces()


class Lossy(FakeExecutor):
    """Loses every other piece."""

    def stream(self, arrays):
        pieces = super().stream(arrays)

        class Half:
            def __aiter__(self):
                return self

            async def __anext__(self):
                await anext(pieces)
                return await anext(pieces)

            aclose = pieces.aclose

        return Half()


@pytest.mark.parametrize(
    ("make", "promise"), [(Hasty, "far ahead"), (Lossy, "once, in order")], ids=["hasty", "lossy"]
)
def test_the_check_of_streams_notices(make, promise):
    with pytest.raises(AssertionError, match=promise):
        check_streams(make)


@pytest.mark.parametrize("slots", [1, 4])
def test_a_thread_leaves_the_loop_free(slots):
    async def check():
        predictor = FakePredictor()
        executor = ThreadExecutor(predictor, "test", slots)
        await executor.open()
        await expect_free_loop(executor, predictor)
        await executor.close()

    asyncio.run(check())


def test_the_fake_codec():
    check_codec(FakeCodec(), good={b"1 2": 1, b"1 2\n3 nan\n": 2}, invalid=[b"1 2 3"], response=RESPONSE)


class Lenient(FakeCodec):
    def decode(self, body: bytes, request_id: str) -> Request:
        try:
            return super().decode(body, request_id)
        except RequestMalformed:
            return Request({NUMBERS: np.zeros((1, 2))}, 1, request_id, True)


class Literal(FakeCodec):
    media_type = "application/json"

    def encode(self, response: Response) -> bytes:
        return str([float(value) for value in response.arrays[PREDICTION]]).encode()


@pytest.mark.parametrize(
    ("codec", "promise"), [(Lenient(), "the caller's fault"), (Literal(), "invalid JSON")]
)
def test_the_codec_check_notices(codec, promise):
    with pytest.raises(AssertionError, match=promise):
        check_codec(codec, good={b"1 2": 1}, invalid=[b"1"], response=RESPONSE)


@pytest.fixture
def fake_specimen(tmp_path):
    path = tmp_path / "two.fake"
    write_fake_model(path, 2)
    return Specimen(path, {NUMBERS: np.array([[1.0, 2.0], [3.0, 4.0]])})


def test_the_fake_adapter(fake_specimen, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    check_adapter(FakeAdapter(), fake_specimen, folder)


class Changing(FakePredictor):
    def predict(self, arrays):
        return {PREDICTION: super().predict(arrays)[PREDICTION] + self.calls}


class Unequal(FakeAdapter):
    def load(self, folder, variant, signature, *, trust) -> Predictor:
        return Changing()


class Overtrusting(FakeAdapter):
    pass


def test_the_adapter_check_notices(fake_specimen, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    with pytest.raises(AssertionError, match="answer alike"):
        check_adapter(Unequal(), fake_specimen, folder)
    with pytest.raises(AssertionError, match="refused without trust"):
        check_adapter(Overtrusting(), fake_specimen._replace(executes=True), folder)


def test_progress_is_remembered():
    progress = RecordedProgress()
    progress.advance()
    progress.done("nothing was begun")
    progress.begin("first", 2)
    progress.advance(note="one")
    progress.advance()
    progress.begin("second")
    progress.done("good")
    assert progress.titles == ("first", "second")
    assert progress.stages[0].advanced == 2
    assert progress.stages[0].notes == ("one",)
    assert (progress.stages[0].outcome, progress.stages[1].outcome) == (None, "good")
