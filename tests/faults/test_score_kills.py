"""Scoring is killed in the middle, again and again; what comes out is the same. And memory has a limit."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest
from sklearn.ensemble import RandomForestClassifier

import servable
from faults.load import family, resident

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
    pa.parquet.write_table(rows(60_000), data, row_group_size=12_000)
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


#: What a run may hold, whatever the size of its file, and the least size of a file that shows it.
ALLOWED, LARGE = 768 << 20, 3 << 30
#: The most rows of a piece that a run takes by itself; how many depends on the machine.
MOST_ROWS = 1 << 16


def watched(argv: list[str]) -> list[int]:
    """Bytes that a command and its children hold, ten times a second from its start to its end."""
    seen = []
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            seen.append(sum(resident(pid) for pid in family(running.pid)))
            time.sleep(0.1)
        assert running.returncode == 0, running.stderr.read() if running.stderr else ""
    return seen


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(form: str, forest_home: Path, tmp_path: Path) -> None:
    """A file of four times what is allowed goes through, and the end takes no more than the beginning."""
    data, output = tmp_path / f"data.{form}", tmp_path / f"out.{form}"
    written = write_large(form, data)
    size = data.stat().st_size
    try:
        started = time.monotonic()
        seen = watched(command(forest_home, data, output, "--json", "--batch-rows", str(MOST_ROWS)))
        seconds = time.monotonic() - started
        assert rows_in(form, output) == written
    finally:
        # Nobody looks at gigabytes that pytest would keep.
        data.unlink()
        output.unlink(missing_ok=True)
    parts = [int(max(part)) >> 20 for part in np.array_split(np.array(seen), 10)]
    print(f"{form}: {size / 2**30:.2f} GiB, {written:,} rows in {seconds:.0f} s, most MiB by tenths: {parts}")
    assert size >= 4 * ALLOWED
    assert max(seen) < ALLOWED
    # The first tenths hold the start; what leaks would show between the thirds after it.
    assert max(parts[7:]) < 1.1 * max(parts[1:4])


def write_large(form: str, path: Path) -> int:
    """Write rows until the file is large, each with a text that no other has; how many."""
    count, piece = 0, rows(100_000)
    names = [f"{row}-{'x' * 20}" for row in range(piece.num_rows)]
    piece = piece.set_column(0, "id", pa.array(names))
    with contextlib.ExitStack() as stack:
        if form == "parquet":
            file = stack.enter_context(
                pa.parquet.ParquetWriter(path, piece.schema, compression="none", use_dictionary=False)
            )
        else:
            stream = stack.enter_context(path.open("w"))
            text = as_text(form, piece)
            if form == "csv":
                stream.write(",".join(piece.column_names) + "\n")
        while not path.exists() or path.stat().st_size < LARGE:
            number = count // piece.num_rows
            if form == "parquet":
                ids = pa.compute.binary_join_element_wise(str(number), piece.column("id"), "-")
                file.write_table(piece.set_column(0, "id", ids))
            else:
                # The texts are the first of each line and are the only ones that begin so.
                stream.write(text.replace("<", f"{number}-"))
            count += piece.num_rows
    return count


def as_text(form: str, piece: pa.Table) -> str:
    """Rows as lines whose ids begin with a mark."""
    frame = piece.to_pandas()
    frame["id"] = "<" + frame["id"]
    if form == "csv":
        return str(frame.to_csv(index=False, header=False))
    return str(frame.to_json(orient="records", lines=True))


def rows_in(form: str, path: Path) -> int:
    if form == "parquet":
        return int(pa.parquet.ParquetFile(path).metadata.num_rows)
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 22), b""))
    return lines - (form == "csv")
