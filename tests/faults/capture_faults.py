"""Runs beside ``test_capture_faults``: a server whose traffic lies on a small file system that is full."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

import servable
from servable.registry.home import open_home
from serving.making import EXAMPLE, expected, publish_iris

ROW = list(EXAMPLE.values())


def filled(path: Path) -> None:
    """Take all the room that there is."""
    with path.open("wb") as file:
        chunk = b"\0" * 65_536
        while chunk:
            try:
                os.write(file.fileno(), chunk)
            except OSError:
                chunk = chunk[: len(chunk) // 2]


def counted(url: str, name: str) -> float:
    """A counter of the one model."""
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    return 0.0


def until(met: Any, seconds: float = 30.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not come"


def full(folder: Path) -> dict[str, Any]:
    """Serve while there is no room, then while there is again."""
    home, small = folder / "home", folder / "small"
    publish_iris(home)
    with open_home(home) as opened:
        opened.deployments.deploy("iris", 1, wishes={"capture": 1.0})
    (home / "traffic").symlink_to(small)
    filled(small / "filler")
    wrong = 0
    with servable.serve(background=True, home=home, port=0, capture_interval_s=0.1) as server:
        url = server.url
        with httpx.Client(base_url=url) as client:
            for number in range(300):
                answer = client.post("/predict", json={"input": ROW}, headers={"x-request-id": f"r{number}"})
                wrong += answer.status_code != 200 or answer.json()["prediction"] != expected(ROW)[0]
            until(lambda: counted(url, "servable_capture_dropped_rows_total") >= 300)
            refused = client.post("/models/iris/feedback", json={"request_id": "r1", "reward": 1})
            (small / "filler").unlink()
            kept = client.post("/models/iris/feedback", json={"request_id": "later", "outcome": "setosa"})
            client.post("/predict", json={"input": ROW}, headers={"x-request-id": "later"})
    found = servable.traffic("iris", home=home)
    return {
        "wrong": wrong,
        "refused": refused.status_code,
        "kept": kept.status_code,
        "captured": [(row["request_id"], row["outcome"]) for row in found.newest],
        "left": sorted(path.name for path in small.rglob("*.tmp")),
    }


if __name__ == "__main__":
    print(json.dumps(full(Path(sys.argv[1]))))
