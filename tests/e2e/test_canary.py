"""Canaries on a real server under real load: bad ones go back by themselves, a good one is promoted."""

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import servable
from e2e.conftest import free_port, servable_command
from servable.optimization import measure
from servable.registry.home import open_home
from servable.workflows.rollout_outcomes import RolloutOutcome

# What fails and how long it takes is decided by the row, so that a test can tell whose fault a failure is.
MODEL = """
import time

import servable


@servable.model
def price(x: float) -> float:
    time.sleep({seconds})
    if int(x) % 100 >= 100 - {failing}:
        raise ValueError("not this one")
    return x * {factor}
"""
FAILING = 20
STEPS = {"canary": "30,60,100", "every": 2, "min_requests": 50}
#: Seconds that each caller waits between two requests, because a watcher comes last on a busy machine.
PAUSE_S = 0.01


@pytest.fixture(autouse=True)
def few_rows_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that sleeps for every row would be asked for thousands of them, to know how long that takes."""
    monkeypatch.setattr(measure, "SLOW_S", 0.1)


def add(
    home: Path, *, failing: int = FAILING, seconds: float = 0.005, factor: float = 1.0, deploy: bool = False
):
    """The next version of the model, with these habits."""
    file = home.parent / "price.py"
    file.write_text(MODEL.format(failing=failing, seconds=seconds, factor=factor))
    servable.add(f"{file}:price", name="price", trust=True, deploy=deploy, home=home)


class Load:
    """Callers that go on until they are told to stop.

    Attributes:
        answers: by version and status.
        wrong: answers that neither the row nor the version explains.
    """

    def __init__(self, url: str, failing: dict[int, int]) -> None:
        self.answers: Counter[tuple[int, int]] = Counter()
        self.wrong: list[str] = []
        self._url, self._failing = url, failing
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(start,)) for start in range(4)]

    def _call(self, start: int) -> None:
        try:
            self._go_on(start)
        except (httpx.HTTPError, LookupError, ValueError) as error:
            self.wrong.append(f"{type(error).__name__}: {error}")

    def _go_on(self, start: int) -> None:
        number = start * 25
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._over.wait(PAUSE_S):
                number += 1
                answer = client.post("/models/price/predict", json={"input": {"x": number}})
                named = answer.headers.get("x-servable-version") or answer.json().get("version")
                if named is None:
                    self.wrong.append(f"no version in {answer.status_code} {answer.text}")
                    continue
                version = int(named)
                self.answers[version, answer.status_code] += 1
                bad = number % 100 >= 100 - self._failing[version]
                if bad != (answer.status_code != 200):
                    self.wrong.append(f"{number} of version {version}: {answer.status_code} {answer.text}")
                elif not bad and answer.json()["version"] != version:
                    self.wrong.append(f"{answer.json()} says another version than {version}")

    @contextmanager
    def going_on(self) -> Iterator["Load"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()


@contextmanager
def running_server(home: Path, *words: str) -> Iterator[str]:
    """``servable serve`` whose log may have the tracebacks of the model; the log goes to a file."""
    port = free_port()
    log = home.parent / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            servable_command("serve", *words, "--home", str(home), "--port", str(port)), stderr=file
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with servable.Client(url) as client:
            client.wait_until_ready(timeout_s=60)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 0, log.read_text()
    assert "failed inside" not in log.read_text()


def until_ended(home: Path, load: Load, most_s: float = 120) -> RolloutOutcome:
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        found = servable.show_rollout("price", home=home)
        if found.ended_at:
            return found
        time.sleep(0.2)
    raise AssertionError(f"the rollout did not end: {load.wrong[:3]}, {load.answers}, {found}")


def settled(home: Path, version: int) -> None:
    """What is deployed now is this version alone."""
    (row,) = servable.status(home=home).deployments
    assert (row.version, row.shares) == (version, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("habits", "why"),
    [({"failing": 2 * FAILING}, "Error rate"), ({"seconds": 0.015}, "latency")],
    ids=["twice the errors", "three times the latency"],
)
def test_a_worse_version_goes_back_by_itself(home: Path, habits: dict[str, float], why: str) -> None:
    add(home, deploy=True)
    add(home, **habits)
    with (
        running_server(home) as url,
        Load(url, {1: FAILING, 2: int(habits.get("failing", FAILING))}).going_on() as load,
    ):
        servable.deploy("price:2", **{**STEPS, "canary": "30,50", "min_requests": 1000}, home=home)
        found = until_ended(home, load)
    assert found.state == "rolled_back", found
    assert why.lower() in found.events[-1].reason.lower()
    assert load.wrong == []
    assert found.events[-1].evidence["touched"] > 0
    settled(home, 1)


@pytest.mark.slow
def test_a_good_version_is_promoted_and_no_request_fails_by_it(home: Path) -> None:
    add(home, deploy=True)
    add(home, factor=2.0)
    with (
        running_server(home, "--workers", "2") as url,
        Load(url, {1: FAILING, 2: FAILING}).going_on() as load,
    ):
        servable.deploy("price:2", **STEPS, home=home)
        found = until_ended(home, load)
    assert found.state == "promoted", found
    assert [event.decision for event in found.events if event.decision != "hold"] == [
        "start",
        "advance",
        "advance",
        "promote",
    ]
    assert load.wrong == []
    touched = sum(count for (version, _), count in load.answers.items() if version == 2)
    counted = found.requests["2"][0]
    # Requests of the last second may not have been told of yet; none is counted twice.
    assert 0.5 * touched < counted <= touched
    settled(home, 2)


@pytest.mark.slow
def test_a_version_that_cannot_be_loaded_goes_back_with_that_reason(home: Path) -> None:
    add(home, deploy=True)
    add(home)
    with open_home(home) as place:
        folder = place.packages.folder(place.models.resolve("price:2").package)
        damaged = next(file for file in folder.rglob("*.py"))
        damaged.chmod(0o644)
    with (
        running_server(home) as url,
        Load(url, {1: FAILING, 2: FAILING}).going_on() as load,
    ):
        servable.deploy("price:2", **STEPS, home=home)
        damaged.write_text("raise RuntimeError('broken')")
        found = until_ended(home, load)
    assert found.state == "rolled_back"
    assert "could not be loaded anywhere" in found.events[-1].reason
    assert load.wrong == []
    assert {version for version, _ in load.answers} == {1}
    settled(home, 1)


LABELLER = """
from typing import Literal

import servable


@servable.model
def kind(x: float) -> Literal["even", "odd"]:
    right = "odd" if int(x) % 2 else "even"
    other = "even" if right == "odd" else "odd"
    return other if int(x) // 2 % 10 < {wrong} else right
"""


@pytest.mark.slow
def test_a_version_with_worse_labels_goes_back_by_itself(home: Path) -> None:
    file = home.parent / "kind.py"
    for wrong in (1, 5):
        file.write_text(LABELLER.format(wrong=wrong))
        servable.add(f"{file}:kind", name="price", trust=True, home=home)
    servable.deploy("price:1", capture=1.0, home=home)
    deadline, number, asked = time.monotonic() + 120, 0, Counter[int]()
    with running_server(home) as url, servable.Client(url) as client:
        servable.deploy("price:2", canary="50", every="1h", home=home)
        while not servable.show_rollout("price", home=home).ended_at:
            assert time.monotonic() < deadline, servable.show_rollout("price", home=home)
            labels = []
            first, number = number + 1, number + 200
            for x in range(first, number + 1):
                answer = client.predict("price", {"x": x})
                asked[answer.version] += 1
                truth = "odd" if x % 2 else "even"
                labels.append({"request_id": answer.request_id, "outcome": truth})
            client.feedback_rows("price", labels)
        found = servable.show_rollout("price", home=home)
    assert found.state == "rolled_back", found
    assert "accuracy" in found.events[-1].reason.lower()
    assert found.events[-1].evidence["touched"] <= asked[2]
    settled(home, 1)
