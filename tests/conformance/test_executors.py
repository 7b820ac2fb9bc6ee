"""The process executor keeps the promises of the Executor seam."""

from pathlib import Path

from runtime.graphs import make_package
from servable.frameworks.base import Predictor
from servable.runtime.process import ProcessExecutor
from servable.testing import check_executor


def test_one_process(tmp_path: Path) -> None:
    spec = make_package(tmp_path / "package")

    def make(predictor: Predictor) -> ProcessExecutor:
        return ProcessExecutor(spec, name="sum")

    check_executor(make)


def test_two_processes(tmp_path: Path) -> None:
    spec = make_package(tmp_path / "package")
    check_executor(lambda predictor: ProcessExecutor(spec, name="sum", processes=2))
