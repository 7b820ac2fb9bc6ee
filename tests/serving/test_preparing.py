"""Files on their way between the codec and the queue: deadlines, bounds, and callers who leave."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from servable.artifact.preparation import ImageInput
from servable.artifact.signature import Field, Signature
from servable.errors import DeadlineExceeded, Overloaded, RequestInvalid, RequestTooLarge
from servable.inputs.image import prepare
from servable.inputs.rows import Preparer, raw_files
from servable.inputs.samples import png
from servable.monitoring.metrics import Meter
from servable.runtime.batcher import Batcher
from servable.runtime.executor import InlineExecutor
from servable.runtime.waiting import Waiting
from servable.serving.preparing import Preparing

HOW = ImageInput(width=4, height=4)
FIELD = Field(name="image", kind="image", dtype="float32", shape=HOW.shape, preparation=HOW)
SIGNATURE = Signature(task="transform", inputs=(FIELD,), outputs=(FIELD,))
TENSOR = prepare(png(), HOW)


class Means:
    """Answers each picture with its mean."""

    concurrent = True

    def predict(self, arrays: Any) -> dict[str, Any]:
        return {"prediction": arrays["image"].mean(axis=(1, 2, 3))}

    def close(self) -> None:
        pass


class Asking(Waiting):
    """Remembers what it was told."""

    def __init__(self, files: Any, deadline: float = float("inf")) -> None:
        array = raw_files(files) if isinstance(files, list) else files
        super().__init__({"image": array}, len(array), deadline)
        self.told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.times = 0

    def settle(self, arrays: Any, error: BaseException | None) -> None:
        self.times += 1
        if error is None:
            self.told.set_result(arrays["prediction"])
        else:
            self.told.set_exception(error)


class Door:
    """A pool of one thread that is busy until the door is opened."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self._open = threading.Event()
        self.pool.submit(self._open.wait)

    def open(self) -> None:
        self._open.set()


def run(work: Any, *, most: int = 10, max_bytes: int = 1 << 30) -> None:
    """Run a test over a real queue, with a door before the threads."""

    async def whole() -> None:
        executor = InlineExecutor(Means())
        await executor.open()
        batcher = Batcher(executor, name="pets:1", meter=Meter("m", 1))
        door = Door()
        preparing = Preparing(batcher, Preparer(SIGNATURE, max_bytes), door.pool, name="pets:1", most=most)
        try:
            await work(preparing, batcher, door)
        finally:
            door.open()
            door.pool.shutdown()
            await batcher.close()
        await asyncio.sleep(0)
        assert preparing.pending == 0

    asyncio.run(whole())


def test_files_and_tensors_are_answered_alike():
    async def work(preparing: Preparing, batcher: Batcher, door: Door) -> None:
        door.open()
        files, tensors = Asking([png(), png()]), Asking(TENSOR[None])
        preparing.submit(files)
        assert preparing.pending == 1
        preparing.submit(tensors)
        assert preparing.pending == 1
        np.testing.assert_allclose(await files.told, [TENSOR.mean()] * 2)
        np.testing.assert_allclose(await tensors.told, [TENSOR.mean()])

    run(work)


def test_a_file_that_does_not_fit_is_told_once():
    async def work(preparing: Preparing, batcher: Batcher, door: Door) -> None:
        door.open()
        wrong, right = Asking([b"nothing"]), Asking([png()])
        preparing.submit(wrong)
        preparing.submit(right)
        with pytest.raises(RequestInvalid, match="a picture"):
            await wrong.told
        await right.told
        assert (wrong.times, right.times) == (1, 1)

    run(work)


def test_the_deadline_is_kept_while_files_wait_to_be_opened():
    async def work(preparing: Preparing, batcher: Batcher, door: Door) -> None:
        loop = asyncio.get_running_loop()
        late = Asking([png()], loop.time() + 0.05)
        preparing.submit(late)
        with pytest.raises(DeadlineExceeded):
            await late.told
        with pytest.raises(DeadlineExceeded):
            preparing.submit(Asking([png()], loop.time() - 1))
        door.open()
        after = Asking([png()])
        preparing.submit(after)
        await after.told
        assert (late.times, batcher.statistics().requests) == (1, 1)

    run(work)


def test_too_many_are_refused_at_once():
    async def work(preparing: Preparing, batcher: Batcher, door: Door) -> None:
        asked = [Asking([png()]) for _ in range(3)]
        for each in asked[:2]:
            preparing.submit(each)
        with pytest.raises(Overloaded, match="2 requests"):
            preparing.submit(asked[2])
        door.open()
        for each in asked[:2]:
            await each.told

    run(work, most=2)


def test_one_who_leaves_disturbs_nobody():
    async def work(preparing: Preparing, batcher: Batcher, door: Door) -> None:
        gone, stays = Asking([png()]), Asking([png()])
        preparing.submit(gone)
        preparing.submit(stays)
        batcher.cancel(gone)
        door.open()
        await stays.told
        assert (gone.times, batcher.statistics().requests) == (0, 1)

    run(work)


def test_memory_is_refused_before_it_is_taken():
    async def work(preparing: Preparing, batcher: Batcher, door: Door) -> None:
        with pytest.raises(RequestTooLarge, match="3 files"):
            preparing.submit(Asking([png()] * 3))
        assert preparing.pending == 0

    run(work, max_bytes=2 * TENSOR.nbytes)


def test_whoever_comes_to_a_closed_queue_is_told():
    async def work(preparing: Preparing, batcher: Batcher, door: Door) -> None:
        late = Asking([png()])
        preparing.submit(late)
        await batcher.close()
        door.open()
        with pytest.raises(Exception, match="being unloaded"):
            await late.told

    run(work)


def test_a_server_of_tables_loads_nothing_that_opens_files():
    code = (
        "import sys, servable.server.app, servable.serving.host, servable.frameworks.onnx\n"
        "found = {'PIL', 'soundfile', 'scipy', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
