"""Libraries that reserve much more than they use, in model processes with the limits that a server has."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")

import servable
from all import torch_models as made
from servable.artifact.package import Package, open_package
from servable.errors import ArtifactUnreadable, ModelFailed
from servable.frameworks.base import Hints
from servable.registry.policy import Policy
from servable.runtime.executor import run_batch
from servable.runtime.model import LoadedModel, LoadLimits, load_model
from servable.runtime.rehearsal import example_arrays
from servable.tensors import row_count

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

#: A network that takes as much memory as its rows say.
HUNGRY = """
import resource
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        if {loading} and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            self.held = torch.ones(2**40)

    def forward(self, x):
        return self.first(x) + torch.ones(int(x.max())).sum()
"""


def torch_program(folder: Path, home: Path) -> Any:
    hints = Hints(labels=made.LABELS)
    return servable.add(made.program(folder / "a.pt2"), name="net", hints=hints, home=home)


def keras_file(folder: Path, home: Path) -> Any:
    pytest.importorskip("keras", reason="needs the extra keras; make test-all has it")
    from frameworks import networks

    return servable.add(
        networks.saved("pictures", folder), name="net", hints=Hints(labels=("a", "b", "c")), home=home
    )


def saved_model(folder: Path, home: Path) -> Any:
    pytest.importorskip("tensorflow", reason="needs the extra tensorflow; make test-all has it")
    from frameworks import networks

    path = networks.exported("pictures", folder)
    return servable.add(path, name="net", hints=Hints(labels=("a", "b", "c")), home=home)


def classifier_of_texts(folder: Path, home: Path) -> Any:
    pytest.importorskip("transformers", reason="needs the extra transformers; make test-all has it")
    from all import folders

    return servable.add(folders.sequence_classifier(folder / "texts"), name="net", home=home)


def generator(folder: Path, home: Path) -> Any:
    pytest.importorskip("transformers", reason="needs the extra transformers; make test-all has it")
    from all import folders

    return servable.add(folders.generator(folder / "writer"), name="net", home=home)


async def loaded(package: Package) -> LoadedModel:
    """The trained form in a process, with the limits of a server that nobody told anything."""
    return await load_model(package, Policy(executor="process"), variant="trained", limits=LoadLimits())


def bound_of(pid: int) -> str:
    """The most address space of a process, as the kernel says it."""
    lines = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8").splitlines()
    return next(line.split()[3] for line in lines if line.startswith("Max address space"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", [torch_program, keras_file, saved_model, classifier_of_texts, generator])
def test_every_library_works_within_the_default_limits(make: Any, tmp_path: Path, home: Path) -> None:
    package = open_package(Path(make(tmp_path, home).package))
    one = example_arrays(package.signature)

    async def work() -> None:
        model = await loaded(package)
        try:
            assert model.placement == "process"
            (pid,) = model.executor.pids  # type: ignore[attr-defined]
            assert bound_of(pid).isdigit()
            for rows in (1, 256):
                given = {name: np.repeat(array, rows, axis=0) for name, array in one.items()}
                assert row_count(await run_batch(model.executor, given)) == rows
        finally:
            await model.executor.close()

    asyncio.run(work())


def hungry(folder: Path, home: Path, *, loading: bool) -> Package:
    path = folder / "net.py"
    path.write_text(HUNGRY.format(loading=loading), encoding="utf-8")
    weights = folder / "weights.pt"
    torch.save(
        {f"first.{name}": value for name, value in torch.nn.Linear(4, 3).state_dict().items()}, weights
    )
    hints = Hints(inputs=(made.INPUT,), labels=made.LABELS, entry=f"{path}:Net")
    outcome = servable.add(weights, name="net", hints=hints, trust=True, tolerance=-1.0, home=home)
    return open_package(Path(outcome.package))


def test_a_run_that_wants_too_much_fails_alone_and_says_why(tmp_path: Path, home: Path) -> None:
    package = hungry(tmp_path, home, loading=False)

    async def work() -> None:
        model = await loaded(package)
        try:
            pids = model.executor.pids  # type: ignore[attr-defined]
            for value in (1.0, 2.0**40, 1.0):
                rows = {"x": np.full((1, 4), value, np.float32)}
                if value > 1.0:
                    with pytest.raises(
                        ModelFailed, match=r"as much memory as it wanted: raise process_memory"
                    ):
                        await run_batch(model.executor, rows)
                else:
                    assert row_count(await run_batch(model.executor, rows)) == 1
            # The process lives on.
            assert model.executor.pids == pids  # type: ignore[attr-defined]
        finally:
            await model.executor.close()

    asyncio.run(work())


def test_a_model_that_wants_too_much_while_it_loads_is_refused(tmp_path: Path, home: Path) -> None:
    package = hungry(tmp_path, home, loading=True)
    with pytest.raises(ArtifactUnreadable, match=r"as much memory as it wanted: raise process_memory"):
        asyncio.run(loaded(package))
