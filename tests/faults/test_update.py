"""The updater is killed at every step and started again: the same end, nothing doubled, nothing lost."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servable
from servable.registry.home import open_home
from servable.updating.update import history
from updating.making import rows, write_traffic

PROGRAM = Path(__file__).with_name("updating.py")


class Updaters:
    """A process that forks one updater after another, so that what they need is imported once."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, str(PROGRAM)], stdin=pipe, stdout=pipe, text=True)

    def ended(self, home: Path, *more: str) -> tuple[int, str]:
        """The exit status of one updater, and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(home), *more]) + "\n")
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        return status, said

    def ran(self, home: Path) -> Any:
        """What an updater says that nobody disturbs."""
        status, said = self.ended(home)
        assert status == 0, said
        return json.loads(said)

    def killed(self, home: Path, moment: int) -> None:
        """Run one that kills itself at a moment."""
        status, said = self.ended(home, "--kill", str(moment))
        assert status == -signal.SIGKILL, (moment, said)

    def close(self) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def updaters() -> Iterator[Updaters]:
    running = Updaters()
    yield running
    running.close()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a deployed version, and labels that a better one can learn from; copy it."""
    folder = tmp_path_factory.mktemp("ready")
    rows(300, seed=1).to_csv(folder / "shops.csv", index=False)
    servable.train(
        folder / "shops.csv", target="label", name="shops", model="logistic", time_budget_s=0.1, deploy=True,
        home=folder / "home",
    )  # fmt: skip
    write_traffic(folder / "home", "shops", rows(400, seed=2, turned=True), first=0)
    return folder / "home"


@pytest.fixture(scope="module")
def undisturbed(
    ready: Path, updaters: Updaters, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, Any]]:
    """What a turn says that nobody disturbs, and the end that it comes to."""
    home = Path(shutil.copytree(ready, tmp_path_factory.mktemp("undisturbed") / "home"))
    said = updaters.ran(home)
    assert said["state"] == "promoted"
    return said["said"], end_of(home)


def end_of(home: Path) -> dict[str, Any]:
    """Everything that a turn leaves behind, but times and digests."""
    with open_home(home) as place:
        place.sweep()
        versions = place.models.versions("shops")
        deployment = place.deployments.get("shops")
        assert deployment is not None
        packages = place.packages.digests()
        assert packages == {record.package for record in versions}
        place.package(versions[-1])
    left = [path.name for path in (home / "updates" / "shops").iterdir()]
    turns = history("shops", home=home)
    return {
        "versions": [(record.version, record.revision, record.metrics, record.note) for record in versions],
        "deployed": (deployment.version, deployment.previous),
        "turns": [(turn.id, turn.state, turn.step, turn.record["evaluate"]["whole"]) for turn in turns],
        "left": left,
        "staging": len(list((home / "staging").iterdir())) if (home / "staging").is_dir() else 0,
    }


def moments(said: list[str], *words: str) -> list[int]:
    """Where, counted from 1, the turn said something that begins so."""
    return [next(place for place, text in enumerate(said, 1) if text.startswith(word)) for word in words]


def check(
    updaters: Updaters, ready: Path, tmp_path: Path, kills: list[int], expected: dict[str, Any]
) -> None:
    home = Path(shutil.copytree(ready, tmp_path / f"home-{'-'.join(map(str, kills))}"))
    for moment in kills:
        updaters.killed(home, moment)
    assert updaters.ran(home)["state"] == "promoted"
    assert end_of(home) == expected, kills
    shutil.rmtree(home)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("word", ["done shops:2", "last"])
def test_a_kill_before_an_outcome_is_kept_changes_nothing_about_the_end(
    word: str,
    updaters: Updaters,
    ready: Path,
    undisturbed: tuple[list[str], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """The version is registered, or deployed, and nobody knows that it is."""
    said, expected = undisturbed
    moment = len(said) if word == "last" else moments(said, word)[0]
    check(updaters, ready, tmp_path, [moment], expected)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_after_kill_comes_to_the_same_end(
    updaters: Updaters, ready: Path, undisturbed: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    check(updaters, ready, tmp_path, [2, 1, 3], undisturbed[1])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_kill_at_every_step_changes_nothing_about_the_end(
    updaters: Updaters, ready: Path, undisturbed: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    said, expected = undisturbed
    for moment in range(1, len(said) + 1):
        check(updaters, ready, tmp_path, [moment], expected)
    print(f"killed at {len(said)} moments")


def test_of_two_updaters_at_once_one_works(updaters: Updaters, ready: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(ready, tmp_path / "home"))
    mark = tmp_path / "comparing"
    command = [sys.executable, str(PROGRAM), str(home), "--wait", str(mark)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        until = time.monotonic() + 120
        while not mark.exists():
            assert first.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        said = updaters.ran(home)
        assert said["error"] == "conflict"
        assert "another process" in said["message"]
        mark.unlink()
        out, _ = first.communicate(timeout=240)
        assert json.loads(out)["state"] == "promoted"
    assert len(history("shops", home=home)) == 1
