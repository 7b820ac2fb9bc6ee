"""What became of the cases of the corpus, and what must not have."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent


def outcomes(folder: Path, corpus: str) -> dict[str, Any]:
    """What became of every case, in one interpreter that watches itself while it looks at them.

    Args:
        folder: an empty one.
        corpus: the function of ``hostile`` that makes the cases.
    """
    (folder / "files").mkdir()
    command = [sys.executable, str(TESTS / "hostile_child.py"), str(folder / "files"), str(folder / "canary")]
    done = subprocess.run([*command, corpus], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    control = found.pop("control")
    # What watches does see a pickle that is loaded.
    assert control["canary"]
    assert any("os.system" in event for event in control["seen"])
    assert any("pickle.find_class" in event for event in control["seen"])
    return found


def check_unseen(found: dict[str, Any]) -> None:
    """Nothing was executed."""
    assert [name for name, case in found.items() if case["canary"]] == []
    seen = {(name, way): case[way]["seen"] for name, case in found.items() for way in ("added", "looked")}
    assert {name: events for name, events in seen.items() if events} == {}


def check_refused(found: dict[str, Any]) -> None:
    """Everything was refused in one sentence, and nothing is said to be clean."""
    for name, case in found.items():
        told = case["added"]["told"]
        assert case["added"]["kind"] == "refused", (name, told)
        # A command to install what is missing stands at the end, so that it can be copied.
        assert told.endswith((".", "]'")), (name, told)
        assert "\n" not in told, (name, told)
        assert len(told) < 700, (name, told)
        assert "Traceback" not in told
        assert (case["looked"]["kind"], case["looked"]["clean"]) == ("done", False), (name, case["looked"])
