"""Scoring is killed in the middle, again and again; what comes out is the same. And memory has a limit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.ensemble import RandomForestClassifier

import servable

NAMES = [f"x{place}" for place in range(8)]


@pytest.fixture(scope="module")
def forest_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model slow enough that a file of a few megabytes takes seconds."""
    random_rows = np.random.default_rng(0).random((500, len(NAMES)))
    home = tmp_path_factory.mktemp("forest") / "home"
    import pandas as pd

    frame = pd.DataFrame(random_rows, columns=NAMES)
    model = RandomForestClassifier(30, random_state=0).fit(frame, random_rows.sum(axis=1) > 4)
    servable.add(model, name="forest", sample=frame, home=home)
    return home


def rows(count: int) -> pa.Table:
    values = np.random.default_rng(1).random((len(NAMES), count))
    return pa.table({"id": np.arange(count), **dict(zip(NAMES, values, strict=True))})


def command(home: Path, data: Path, output: Path, *more: str) -> list[str]:
    verb = [sys.executable, "-m", "servable.cli.main", "score", "forest", str(data), "--output", str(output)]
    return [*verb, "--home", str(home), *more]


def killed(argv: list[str], journal: Path, marks: int) -> bool:
    """Start it and kill it once so many more pieces are finished; whether it was killed before its end."""
    before = len(journal.read_bytes().splitlines()) if journal.exists() else 0
    with subprocess.Popen(argv, stderr=subprocess.PIPE, start_new_session=True) as running:
        while running.poll() is None:
            try:
                finished = len(journal.read_bytes().splitlines())
            except FileNotFoundError:
                finished = 0
            if finished >= before + marks:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                return True
            time.sleep(0.001)
        assert running.returncode == 0, running.stderr.read() if running.stderr else ""
    return False


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_killed_runs_end_with_the_same_bytes_as_an_undisturbed_one(
    form: str, forest_home: Path, tmp_path: Path
) -> None:
    random.seed(form)
    data, output, whole = tmp_path / "data.parquet", tmp_path / f"out.{form}", tmp_path / f"whole.{form}"
    pa.parquet.write_table(rows(160_000), data, row_group_size=12_000)
    more = ["--batch-rows", "4000"]
    subprocess.run(command(forest_home, data, whole, *more), check=True, capture_output=True)
    argv = command(forest_home, data, output, *more)
    journal = tmp_path / f"out.{form}.parts" / "journal.jsonl"
    kills = 0
    while kills < 3 and not output.exists():
        kills += killed(argv, journal, random.choice((1, 2)))
    assert kills
    if not output.exists():
        assert not killed(argv, journal, 1_000)
    assert output.read_bytes() == whole.read_bytes()
    assert not journal.parent.exists()


_WITHIN = """
import resource, servable, sys
servable.score("forest", sys.argv[2], output=sys.argv[3], home=sys.argv[1], only_answers=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(home: Path, data: Path, output: Path) -> int:
    """The most memory that a run took."""
    argv = [sys.executable, "-c", _WITHIN, str(home), str(data), str(output)]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(form: str, forest_home: Path, tmp_path: Path) -> None:
    small, large = tmp_path / f"small.{form}", tmp_path / f"large.{form}"
    piece = rows(100_000)
    _write(form, small, piece, 1)
    _write(form, large, piece, 60 if form == "parquet" else 30)
    assert large.stat().st_size > 400e6
    little = peak(forest_home, small, tmp_path / "small.out.parquet")
    much = peak(forest_home, large, tmp_path / "large.out.parquet")
    print(f"{form}: {little / 2**20:.0f} MiB for {small.stat().st_size / 2**20:.0f} MiB, ", end="")
    print(f"{much / 2**20:.0f} MiB for {large.stat().st_size / 2**20:.0f} MiB")
    assert much < little + 200 * 2**20


def _write(form: str, path: Path, piece: pa.Table, times: int) -> None:
    if form == "parquet":
        with pa.parquet.ParquetWriter(path, piece.schema, compression="none", use_dictionary=False) as file:
            for _ in range(times):
                file.write_table(piece)
        return
    import pandas as pd

    frame: pd.DataFrame = piece.to_pandas()
    text = (
        frame.to_csv(index=False, header=False)
        if form == "csv"
        else frame.to_json(orient="records", lines=True)
    )
    with path.open("w") as file:
        if form == "csv":
            file.write(",".join(piece.column_names) + "\n")
        for _ in range(times):
            file.write(text)
