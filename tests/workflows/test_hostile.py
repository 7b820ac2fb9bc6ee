"""Nothing of a hostile file is executed, and all of them are refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of every case, in one interpreter that watches itself."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, str(TESTS / "hostile_child.py"), str(folder / "files"), str(folder / "canary")]
    (folder / "files").mkdir()
    done = subprocess.run([*command, "core"], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def test_what_watches_sees_a_pickle_that_is_loaded(found: dict[str, Any]) -> None:
    control = found["control"]
    assert control["canary"]
    assert any("os.system" in event for event in control["seen"])
    assert any("pickle.find_class" in event for event in control["seen"])


def test_nothing_hostile_is_executed(found: dict[str, Any]) -> None:
    cases = {name: case for name, case in found.items() if name != "control"}
    assert len(cases) > 250
    assert [name for name, case in cases.items() if case["canary"]] == []
    seen = {name: case[way]["seen"] for name, case in cases.items() for way in ("added", "looked")}
    assert {name: events for name, events in seen.items() if events} == {}


def test_everything_hostile_is_refused_in_one_sentence(found: dict[str, Any]) -> None:
    for name, case in found.items():
        if name == "control":
            continue
        told = case["added"]["told"]
        assert case["added"]["kind"] == "refused", (name, told)
        assert told.endswith("."), (name, told)
        assert "\n" not in told, (name, told)
        assert len(told) < 700, (name, told)
        assert "Traceback" not in told
        assert (case["looked"]["kind"], case["looked"]["clean"]) == ("done", False), (name, case["looked"])
