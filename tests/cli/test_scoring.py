"""The verb score: tables and JSON, Ctrl-C that says how to go on, a full disk in one sentence."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import servable

NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture(scope="module")
def scoring_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    irises = load_iris(as_frame=True)
    home = tmp_path_factory.mktemp("scoring") / "home"
    rows = irises.data.set_axis(NAMES, axis="columns")
    servable.add(
        LogisticRegression(max_iter=500).fit(rows, irises.target), name="iris", sample=rows, home=home
    )
    return home


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "irises.csv"
    head = ",".join(NAMES)
    np.savetxt(path, load_iris().data, delimiter=",", header=head, comments="", fmt="%.1f")
    return path


@pytest.fixture
def many(data: Path) -> Path:
    """A file of some hundred pieces, as they are cut below."""
    path = data.with_name("many.csv")
    head, *rows = data.read_text().splitlines(keepends=True)
    with path.open("w") as file:
        file.write(head)
        for _ in range(2_000):
            file.writelines(rows)
    return path


def test_a_file_is_answered_and_the_outcome_said(invoke, scoring_home: Path, data: Path) -> None:
    done = invoke("score", "iris", data, "--output", "out.csv", "--home", scoring_home)
    assert done.exit_code == 0, done.output
    assert "150 rows answered by iris:1" in done.stdout
    assert "Score irises.csv" in done.stderr
    done = invoke(
        "score", "iris:1", data, "-o", "out.jsonl", "--only-answers", "--json", "--home", scoring_home
    )
    outcome = json.loads(done.stdout)
    assert (outcome["rows"], outcome["version"], outcome["output"]) == (150, 1, "out.jsonl")
    assert done.stderr == ""


def test_what_goes_wrong_is_one_sentence_with_its_code(invoke, scoring_home: Path, data: Path) -> None:
    Path("there.csv").write_text("precious")
    bad = data.with_name("bad.csv")
    bad.write_text(data.read_text() + "5.1,wide,1.4,0.2\n")
    for arguments, code, said in (
        (("iris", data, "-o", "there.csv"), 3, "--overwrite"),
        (("iris", data, "-o", "out.txt"), 2, ".parquet"),
        (("iris", data, "-o", "out.csv", "--keep", "sepal"), 3, "no column 'sepal'"),
        (("iris", data, "-o", "none/out.csv"), 7, "no folder none"),
        (("iris@best", data, "-o", "out.csv"), 4, "best"),
        (("iris", "none.csv", "-o", "out.csv"), 4, "no file none.csv"),
        (("iris", bad, "-o", "out.csv"), 3, "row 151, column 'sepal_width': expected a number"),
    ):
        done = invoke("score", *arguments, "--home", scoring_home)
        assert done.exit_code == code, (arguments, done.output)
        assert said in done.stderr
        assert "Traceback" not in done.output
    assert not Path("out.csv").exists()


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_going_on_ends_as_without_it(
    surroundings: dict[str, str], scoring_home: Path, many: Path
) -> None:
    folder = many.parent
    command = [sys.executable, "-m", "servable.cli.main", "score", "iris", many.name, "--home", scoring_home]
    options = ["--batch-rows", "1000", "--output"]
    shared = {"cwd": folder, "env": surroundings, "text": True, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, *options, "out.csv"], **shared) as running:
        journal = folder / "out.csv.parts" / "journal.jsonl"
        ends = time.monotonic() + 60
        while not (journal.exists() and len(journal.read_bytes().splitlines()) > 1):
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < ends
            time.sleep(0.002)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "Run the same command again to go on" in said
    assert not (folder / "out.csv").exists()
    again = subprocess.run(
        [*command, *options, "out.csv", "--json"], check=True, **shared, stdout=subprocess.PIPE
    )
    outcome = json.loads(again.stdout)
    assert 0 < outcome["resumed"] < outcome["rows"] == 300_000
    subprocess.run([*command, *options, "whole.csv"], check=True, **shared)
    assert (folder / "out.csv").read_bytes() == (folder / "whole.csv").read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    surroundings: dict[str, str], scoring_home: Path, many: Path
) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    command = [sys.executable, "-m", "servable.cli.main", "score", "iris", many.name, "--home", scoring_home]
    command += ["--output", "out.csv", "--batch-rows", "2000"]
    # The measuring of coverage would want to write its own file under this limit.
    unmeasured = {name: value for name, value in surroundings.items() if not name.startswith("COV")}
    shared = {"cwd": many.parent, "env": unmeasured, "text": True, "capture_output": True}
    done = subprocess.run(command, preexec_fn=small, check=False, **shared)
    assert done.returncode == 7
    assert "No space left while writing out.csv.parts" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (many.parent / "out.csv").exists()
    done = subprocess.run(command, check=False, **shared)
    assert done.returncode == 0
    with (many.parent / "out.csv").open() as file:
        assert sum(1 for _ in file) == 300_001
