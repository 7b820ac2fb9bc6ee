"""The whole loop: what callers send changes, that is noticed, a better version takes over, and goes back.

The turn of the loop and the server are processes, as an operator has them.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

import servable
from e2e.conftest import Serve, said, said_apart
from servable.workflows.watch import watch
from updating.making import rows

pytest.importorskip("river", reason="streams are followed with river, of the extra monitoring")

#: Rows that are sent at once, and how often.
AT_ONCE, TIMES = 50, 12
#: By how much one column moves.
MOVED = 2.0


def drifted(count: int) -> pd.DataFrame:
    """Rows whose label follows another column than in training, and of which one column moved."""
    frame = rows(count, seed=2, turned=True)
    return frame.assign(x=frame["x"] + MOVED)


def send(client: servable.Client, frame: pd.DataFrame) -> int:
    """Ask for all rows over HTTP, feed their labels back, and count right answers."""
    right = 0
    for start in range(0, len(frame), AT_ONCE):
        part = frame.iloc[start : start + AT_ONCE]
        answer = client.predict("shops", part.drop(columns="label"))
        labels = part["label"].tolist()
        right += sum(given == label for given, label in zip(answer.predictions, labels, strict=True))
        assert client.feedback("shops", answer, labels) == len(part)
    return right


def kept(home: Path, count: int) -> None:
    """Wait until all rows and their labels are segments."""
    deadline = time.monotonic() + 30
    while sum(row.labelled for row in servable.traffic("shops", home=home).versions) < count:
        assert time.monotonic() < deadline


def watched(home: Path, caplog: pytest.LogCaptureFixture) -> int:
    """One turn of the watcher, which has nothing to complain about; how many rollouts it follows."""
    caplog.clear()
    outcome = watch(home, once=True)
    assert outcome.acted
    # Alerts are told as warnings.
    assert {record.name for record in caplog.records if record.levelname != "INFO"} <= {"servable.alerts"}
    return outcome.rollouts


def quality_is_right(home: Path, count: int, right: int) -> None:
    """Live quality counts what the caller counted."""
    (version,) = servable.quality("shops", home=home).versions
    assert version.quality.whole.labels == count
    assert version.quality.whole.metrics["accuracy"].value == pytest.approx(right / count)
    assert right / count < 0.7


def drift_is_seen(home: Path, url: str) -> None:
    """Drift names the column and its alert fires: in the registry, in ``status`` and in ``/metrics``."""
    (row,) = servable.status(home=home).deployments
    assert row.quality is not None
    assert row.drift is not None
    states = {(column.name, column.side): column.state for column in row.drift.columns}
    assert states["x", "input"] == "drift"
    assert states["y", "input"] == "steady"
    assert states["error", "quality"] == "drift"
    assert {(alert.alert, alert.version) for alert in row.firing} >= {
        ("inputs-drift", 1),
        ("quality-drift", 1),
    }
    shown = httpx.get(f"{url}/metrics").text
    assert 'servable_drifting{column="x",model="shops",side="input",version="1"} 1.0' in shown
    assert 'servable_drifting{column="y",model="shops",side="input",version="1"} 0.0' in shown
    assert 'servable_alert_firing{alert="inputs-drift",model="shops",version="1"} 1.0' in shown


class Caller:
    """Somebody who asks all the while.

    Attributes:
        answers: by version.
        failed: what was no answer.
    """

    def __init__(self, url: str, row: dict[str, Any]) -> None:
        self.answers: Counter[int] = Counter()
        self.failed: list[str] = []
        self._url, self._row = url, row
        self._over = threading.Event()
        self._changed = threading.Condition()

    def until(self, version: int, most_s: float = 30) -> None:
        """Wait until a version answers from now on."""
        with self._changed:
            before = self.answers[version]
            assert self._changed.wait_for(lambda: self.answers[version] > before, most_s), self.answers

    @contextmanager
    def going_on(self) -> Iterator["Caller"]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._over.is_set():
                try:
                    answer = client.post("/models/shops/predict", json={"input": self._row})
                    version = int(answer.raise_for_status().json()["version"])
                except (httpx.HTTPError, LookupError, ValueError) as error:
                    self.failed.append(f"{type(error).__name__}: {error}")
                    continue
                with self._changed:
                    self.answers[version] += 1
                    self._changed.notify_all()
                # Enough to notice a gap, and few enough to leave the others a processor.
                self._over.wait(0.02)


@pytest.mark.slow
def test_a_model_gets_better_and_goes_back(
    home: Path,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The turns of the watcher are this test's own, and nothing waits for seconds to pass.
    monkeypatch.setenv("SERVABLE_WATCH", "false")
    monkeypatch.setenv("SERVABLE_CAPTURE_INTERVAL_S", "0.1")
    here = ("--home", str(home))
    file = tmp_path / "shops.csv"
    rows(300, seed=1).to_csv(file, index=False)
    said("train", str(file), "--target", "label", "--name", "shops", "--model", "logistic",
        "--time-budget", "0.1", *here)  # fmt: skip
    servable.deploy("shops", capture=1.0, home=home)
    url = serve(home)
    frame = drifted(AT_ONCE * TIMES)
    with servable.Client(url) as client:
        right = send(client, frame)
        kept(home, len(frame))
        assert watched(home, caplog) == 0
        assert "inputs-drift fires for shops:1" in caplog.text
        quality_is_right(home, len(frame), right)
        drift_is_seen(home, url)
        with Caller(url, frame.drop(columns="label").iloc[0].to_dict()).going_on() as caller:
            caller.until(1)
            turn = said_apart("update", "shops", "--no-tune", *here)["turn"]
            assert (turn["state"], turn["record"]["said"]) == ("promoted", "shops:2 took over")
            compared = turn["record"]["evaluate"]["whole"]
            assert compared["challenger"] > compared["champion"] + 0.1
            caller.until(2)
            assert client.predict("shops", frame.drop(columns="label").iloc[:1]).version == 2
            servable.rollback("shops", home=home)
            caller.until(1)
            servable.deploy("shops:2", canary="50,100", every="1h", home=home)
            caller.until(2)
            assert send(client, frame[: 4 * AT_ONCE]) > 0
            kept(home, len(frame) + 4 * AT_ONCE)
            assert watched(home, caplog) == 1
        assert caller.failed == []
        assert set(caller.answers) == {1, 2}
