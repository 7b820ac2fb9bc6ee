"""Run as a program by ``test_registry_*``: processes that publish into one home and meet with faults.

The parent imports everything once and forks, so that a killed child costs milliseconds. It prints one
line of JSON that says what happened.
"""

import itertools
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import servable.registry.migrations  # noqa: F401 - imported here so that the children do not pay for it
from artifact.making import fill, manifest
from servable.errors import ServableError
from servable.registry.home import Home, open_home, publish
from servable.registry.records import VersionRecord


def add(home: Home, content: bytes) -> VersionRecord:
    with home.packages.staging() as folder:
        fill(folder, content)
        return publish(home, folder, manifest())


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Run ``work`` in a child; the child's process and the end of a pipe to which it may write."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        try:
            work(writer)
        finally:
            os._exit(0)
    os.close(writer)
    return process, reader


def publishing(path: Path, label: str, count: int | None) -> Callable[[int], None]:
    """Publish and acknowledge each version only after ``publish`` returned."""

    def work(writer: int) -> None:
        with open_home(path) as home:
            for number in itertools.count() if count is None else range(count):
                record = add(home, f"{label}-{number}".encode())
                os.write(writer, f"{record.version} {record.package}\n".encode())

    return work


def acknowledged(process: int, reader: int, said: bytes = b"") -> dict[int, str]:
    """What a child acknowledged up to its end; ``said`` is what was read of it before."""
    with os.fdopen(reader, "rb") as rest:
        said += rest.read()
    os.waitpid(process, 0)
    # A line that the kill cut off was not acknowledged.
    whole = [line.decode().split() for line in said.split(b"\n")[:-1]]
    return {int(version): package for version, package in whole}


def heard(reader: int, lines: int) -> bytes:
    """Wait until a child has acknowledged so many versions; what it said."""
    said = b""
    while said.count(b"\n") < lines:
        more = os.read(reader, 1 << 16)
        assert more, "the child ended by itself"
        said += more
    return said


def check(path: Path, expected: dict[int, str]) -> int:
    """Every acknowledged version is there, every visible version is whole; how many are visible."""
    with open_home(path) as home:
        models = home.models.all()
        visible = home.models.versions("churn") if models else ()
        found = {record.version: record.package for record in visible}
        assert found.items() >= expected.items(), "an acknowledged version is gone"
        assert list(found) == list(range(1, len(found) + 1)), "numbers have gaps"
        for record in visible:
            assert home.package(record).manifest.model == "churn"
        with home.state.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        home.sweep()
        assert home.packages.digests() == set(found.values()), "a package is left that no version names"
        return len(found)


def kill(root: Path, rounds: int) -> dict[str, Any]:
    """Kill a publishing process at random moments, the making of the home included."""
    chance = random.Random(7)
    expected: dict[int, str] = {}
    visible = acks = left = 0
    path = root
    for number in range(rounds):
        if number % 8 == 0:
            path, expected = root / f"home{number}", {}
        process, reader = forked(publishing(path, str(number), None))
        # Every other child is killed at any time from its birth, the others while they publish, however
        # slow the machine is at the moment.
        said = heard(reader, chance.randint(1, 6)) if number % 2 else b""
        time.sleep(chance.uniform(0.0, 0.02 if number % 2 else 0.12))
        os.kill(process, signal.SIGKILL)
        new = acknowledged(process, reader, said)
        acks += len(new)
        expected |= new
        left += len(list((path / "staging").iterdir())) if (path / "staging").is_dir() else 0
        visible = check(path, expected)
    return {"rounds": rounds, "acknowledged": acks, "left_in_staging": left, "visible_at_last": visible}


def together(root: Path, processes: int, each: int) -> dict[str, Any]:
    """Several processes open one home for the first time at once and publish into it."""
    path = root / "home"
    children = [forked(publishing(path, str(number), each)) for number in range(processes)]
    answers = [acknowledged(*child) for child in children]
    merged = {version: package for answer in answers for version, package in answer.items()}
    return {
        "acknowledged": sum(len(answer) for answer in answers),
        "distinct": len(merged),
        "visible": check(path, merged),
    }


def limited(root: Path) -> dict[str, Any]:
    """No file may grow beyond a limit, for many limits: a stand-in for a disk that fills at any write."""
    path = root / "home"
    with open_home(path) as home:
        expected = {record.version: record.package for record in [add(home, b"first")]}
    outcomes: dict[str, int] = {}
    for limit in [*range(0, 2000, 500), *range(2000, 140_000, 4000), 1 << 20]:

        def work(writer: int, limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                with open_home(path) as home:
                    record = add(home, b"x" * 50_000 + str(limit).encode())
                os.write(writer, f"ok {record.version} {record.package}".encode())
            except ServableError as error:
                os.write(writer, f"{type(error).__name__} {error.message}".encode())

        process, reader = forked(work)
        with os.fdopen(reader) as file:
            said = file.read()
        os.waitpid(process, 0)
        word, _, rest = said.partition(" ")
        outcomes[word] = outcomes.get(word, 0) + 1
        if word == "ok":
            version, package = rest.split()
            expected[int(version)] = package
        else:
            staging = list((path / "staging").iterdir())
            assert staging == [], staging
            packages = {entry.name for entry in (path / "packages").iterdir()}
            assert packages == set(expected.values()), "a failed publication left its package"
        assert check(path, expected) == len(expected)
    return outcomes


def crowded(filler: Path, room: int) -> None:
    """Fill the file system but for about ``room`` bytes."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - room))


def full(root: Path) -> dict[str, Any]:
    """Publish into a small file system with ever more room, from none to enough."""
    path, filler = root / "home", root / "filler"
    outcomes: dict[str, int] = {}
    said: set[str] = set()
    with open_home(path) as home:
        expected = {record.version: record.package for record in [add(home, b"first")]}
        for number, pages in enumerate([*range(30)] * 3):
            crowded(filler, pages * 4096)
            word = "ok"
            try:
                record = add(home, b"another%d" % number)
                expected[record.version] = record.package
            except ServableError as error:
                word = type(error).__name__
                said.add(error.message.partition(" while")[0].partition(" for")[0])
            outcomes[word] = outcomes.get(word, 0) + 1
            assert list((path / "staging").iterdir()) == []
            assert home.packages.digests() == set(expected.values()), "a failed publication left its package"
            visible = {record.version: record.package for record in home.models.versions("churn")}
            assert visible == expected
            filler.unlink()
    assert check(path, expected) == len(expected)
    return {"outcomes": outcomes, "said": sorted(said)}


if __name__ == "__main__":
    action, folder = sys.argv[1], Path(sys.argv[2])
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 40
    run = {
        "kill": lambda: kill(folder, kills),
        "together": lambda: together(folder, 4, 12),
        "limited": lambda: limited(folder),
        "full": lambda: full(folder),
    }[action]
    print(json.dumps(run()))
