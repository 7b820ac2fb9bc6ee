"""The process executor keeps the promises of the Executor seam."""

from pathlib import Path

import servable
from runtime.graphs import make_package
from runtime.keeping import KeptExecutor
from servable.frameworks.base import Predictor
from servable.registry.home import open_home
from servable.runtime.process import ChildSpec, ProcessExecutor
from servable.testing import check_executor, check_streams


def test_one_process(tmp_path: Path) -> None:
    spec = make_package(tmp_path / "package")

    def make(predictor: Predictor) -> ProcessExecutor:
        return ProcessExecutor(spec, name="sum")

    check_executor(make)


def test_streams_of_a_process(tmp_path: Path) -> None:
    file = tmp_path / "counting.py"
    file.write_text(
        "from collections.abc import Iterator\n"
        "def predict(below: float, poison: float) -> Iterator[float]:\n"
        "    for number in range(int(below)):\n"
        "        if poison == -1.0 and number >= below / 2:\n"
        "            raise ValueError\n"
        "        yield float(number)\n"
    )
    home = tmp_path / "home"
    servable.add(file, name="counting", trust=True, home=home)
    with open_home(home) as opened:
        package = opened.package(opened.models.resolve("counting"))
    spec = ChildSpec(package.folder, package.digest, "trained")
    check_streams(lambda predictor: ProcessExecutor(spec, name="counting"))
    check_streams(lambda predictor: KeptExecutor(spec))


def test_two_processes(tmp_path: Path) -> None:
    spec = make_package(tmp_path / "package")
    check_executor(lambda predictor: ProcessExecutor(spec, name="sum", processes=2))


def test_shared_processes(tmp_path: Path) -> None:
    spec = make_package(tmp_path / "package")
    check_executor(lambda predictor: KeptExecutor(spec))
    check_executor(lambda predictor: KeptExecutor(spec, processes=2))
