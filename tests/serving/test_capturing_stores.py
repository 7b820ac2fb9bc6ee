"""Capture into a blob store: while it is gone serving goes on, drops are counted and feedback waits."""

import asyncio
import json
import uuid
from pathlib import Path

import pytest

from monitoring.stores import LostStore, register
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.joined import join_stored
from servable.monitoring.metrics import Metrics
from servable.monitoring.segments import TrafficStore
from servable.registry.home import open_home
from servable.serving.answer import answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Live
from servable.settings import load_settings
from serving.making import publish_iris

ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> str:
    register()
    monkeypatch.setattr(LostStore, "there", True)
    url = f"lost://{uuid.uuid4().hex}"
    monkeypatch.setenv("SERVABLE_BLOB_URL", url)
    return url


def serve(home: Path, *ids: str, label: str = "") -> tuple[int, int]:
    """Answer a request of each id, and keep a label of it; how many rows were captured and lost."""

    async def inside() -> tuple[int, int]:
        host = Host(RegistrySource(home), Metrics("test"), load_settings({"home": str(home)}))
        await host.reconcile()
        live = host.find("iris")
        assert isinstance(live, Live)
        for request_id in ids:
            await answer(live, json.dumps({"inputs": [ROW]}).encode(), request_id)
            if label:
                await host.recorder.keep("iris", [FeedbackRow(request_id, 0, label)])
        await host.close()
        return live.meter.captured, live.meter.capture_lost

    return asyncio.run(inside())


def test_serving_goes_on_without_the_store(home: Path, tmp_path: Path, store: str) -> None:
    publish_iris(home)
    with open_home(home) as opened:
        opened.deployments.deploy("iris", 1, wishes={"capture": 1.0})
    assert serve(home, "a", label="setosa") == (1, 0)
    LostStore.there = False
    assert serve(home, "b", "c", label="setosa") == (0, 2)
    assert list((home / "traffic" / ".journals").iterdir())
    LostStore.there = True
    assert serve(home, "d") == (1, 0)
    # Another machine sees all that was written, and the labels that waited.
    found = join_stored(TrafficStore(tmp_path / "other", store), "iris")
    assert found.table["request_id"].to_pylist() == ["a", "d"]
    assert found.table["outcome"].to_pylist() == ["setosa", None]
    assert found.unknown == 2
    assert not list((home / "traffic" / ".journals").iterdir())
