"""Versions that follow each other under load, and callers who know what each version must answer.

Every version of the linear classifier has a bias of its own and so probabilities of its own, so that an
answer shows which version gave it, whatever it says.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from faults.load import Answer, Client, Served
from faults.misbehaving import write_model
from servable.registry.home import open_home, publish
from servable.registry.records import Traffic
from serving.making import BIAS, CLASSES, EXAMPLE, expected
from serving.making_checked import Checked, publish_checked

NAME = "iris"
ROW = list(EXAMPLE.values())


def bias_of(version: int) -> np.ndarray:
    """Of a good version: no two of the first thousand give the example the same probabilities."""
    return BIAS + np.array([0.0, version * 0.004, 0.0])


def chances_of(version: int, row: list[float]) -> dict[str, float]:
    """What a version must answer for a row."""
    return dict(zip(CLASSES, expected(row, bias_of(version))[1].tolist(), strict=True))


def publish_good(home: Path, *, deploy: bool = False) -> int:
    """The next version, a good one; its number."""
    number = latest(home) + 1
    what = Checked(bias=bias_of(number))
    assert publish_checked(home, what, NAME, deploy=deploy).version == number
    return number


def latest(home: Path) -> int:
    """The newest version's number; 0 when there is none."""
    with open_home(home) as opened:
        known = [record for record in opened.models.all() if record.name == NAME]
        return known[0].latest if known else 0


def deploy(home: Path, version: int) -> None:
    with open_home(home) as opened:
        opened.deployments.deploy(NAME, version)


def roll_back(home: Path) -> None:
    with open_home(home) as opened:
        opened.deployments.rollback(NAME)


def divide(home: Path, traffic: Traffic) -> None:
    with open_home(home) as opened:
        opened.deployments.divide(NAME, traffic)


_OPERATE = """
import json, os, sys
os.nice(19)
from pathlib import Path
from faults import swapping
from servable.registry.records import Share, Traffic
home = Path(sys.argv[1])
for line in sys.stdin:
    match json.loads(line):
        case ["deploy", version]:
            swapping.deploy(home, version)
        case ["divide", *shares]:
            parts = tuple(Share(version=version, weight=weight) for version, weight in shares)
            swapping.divide(home, Traffic(shares=parts))
        case ["roll_back"]:
            swapping.roll_back(home)
    print("done", flush=True)
"""


class Operator:
    """Changes what is served, from a process of its own, so that callers' clocks are not disturbed by it.

    It has the processor only where nobody else wants it: as a rule it is another machine.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    async def __aenter__(self) -> "Operator":
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _OPERATE, str(self._home), stdin=pipe, stdout=pipe
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def deploy(self, version: int) -> None:
        """Let a version be served."""
        await self._do("deploy", version)

    async def divide(self, shares: dict[int, float]) -> None:
        """Let versions share the requests, by weights."""
        await self._do("divide", *shares.items())

    async def roll_back(self) -> None:
        """Let the version before be served."""
        await self._do("roll_back")

    async def _do(self, *words: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        assert await self._process.stdout.readline() == b"done\n"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and its model processes import what the tests' models are made of."""
    folders = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))


async def listed(client: Client) -> list[dict[str, Any]]:
    """What the server says of the versions of the model."""
    answer = await client.ask("GET", "/models")
    return [entry for entry in json.loads(answer.body)["models"] if entry["name"] == NAME]


def publish_liar(home: Path) -> int:
    """Its signature has a class that its answers do not have."""
    number = latest(home) + 1
    what = Checked(bias=bias_of(number), recorded=bias_of(number), classes=("a", "b", "c", "d"))
    return publish_checked(home, what, NAME, deploy=False).version


def publish_changed(home: Path) -> int:
    """It answers its example otherwise than its package says."""
    number = latest(home) + 1
    return publish_checked(
        home, Checked(bias=bias_of(number), recorded=bias_of(number + 100)), NAME, deploy=False
    ).version


def publish_damaged(home: Path) -> int:
    """Its graph is no graph."""
    return publish_checked(home, Checked(damaged=True), NAME, deploy=False).version


def publish_misbehaving(home: Path, loading: str) -> int:
    """It hangs (``slow``) or crashes (``segfault``) while it is loaded."""
    with open_home(home) as opened, opened.packages.staging() as folder:
        manifest = write_model(folder, NAME, loading, columns=4)
        return publish(opened, folder, manifest).version


class Callers:
    """Ask at a steady rate, and know for every answer whether it is the one of the version that it names.

    Attributes:
        seconds: of every answer.
        versions: answers by the version that they name.
        failed: answers that are none.
        mixed: answers whose value is not that of the version that they name.
    """

    def __init__(
        self, served: Served, *, clients: int = 4, per_second: float = 200.0, row: list[float] = ROW
    ) -> None:
        self._address = served.address
        self._clients = clients
        self._pause = clients / per_second
        self._stopping = False
        self._body = json.dumps({"input": row}).encode()
        self._row = row
        self._known: dict[int, dict[str, float]] = {}
        self.seconds: list[float] = []
        self.versions: Counter[int] = Counter()
        self.failed: list[Answer] = []
        self.mixed: list[Any] = []

    async def __aenter__(self) -> "Callers":
        self._running = asyncio.gather(*(self._one(index) for index in range(self._clients)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await self._running

    async def during(self, seconds: float) -> None:
        """Let them ask for so long."""
        await asyncio.sleep(seconds)

    async def until(self, done: Callable[[], bool], limit_s: float = 60.0) -> None:
        """Let them ask until something is so."""
        end = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < end, "it did not come"
            await asyncio.sleep(0.005)

    async def _one(self, index: int) -> None:
        due = time.perf_counter() + self._pause * index / self._clients
        async with Client(self._address) as client:
            while not self._stopping:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due = max(due + self._pause, time.perf_counter() - self._pause)
                self._look(await client.post(f"/models/{NAME}/predict", self._body))

    def _look(self, answer: Answer) -> None:
        self.seconds.append(answer.seconds)
        if answer.status != 200:
            self.failed.append(answer)
            return
        content = answer.json()
        version = content["version"]
        self.versions[version] += 1
        known = self._known.setdefault(version, chances_of(version, self._row))
        given = content["probabilities"]
        if any(abs(given[label] - chance) > 1e-9 for label, chance in known.items()):
            self.mixed.append(content)

    def clean(self) -> None:
        """Nobody was refused and nothing was mixed."""
        assert not self.failed, (len(self.failed), self.failed[:3])
        assert not self.mixed, (len(self.mixed), self.mixed[:3])


class Bad(NamedTuple):
    """A version that must never answer, and what is said of it."""

    version: int
    said: str


def bad_versions(home: Path) -> list[Bad]:
    """One of each kind: four, of which the last two take their time."""
    return [
        Bad(publish_damaged(home), "model.onnx"),
        Bad(publish_liar(home), "instead of 4 probabilities"),
        Bad(publish_changed(home), "answers its example otherwise than when it was made"),
        Bad(publish_misbehaving(home, "segfault"), "SIGSEGV while it loaded"),
        Bad(publish_misbehaving(home, "slow"), "not ready within"),
    ]
