"""Libraries that reserve much more than they use, in model processes with the limits that a server has."""

import asyncio
import pickle
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
from servable.runtime.confine import look_at
from servable.runtime.executor import run_batch
from servable.runtime.landlock import version
from servable.runtime.model import LoadedModel, LoadLimits, load_model
from servable.runtime.rehearsal import example_arrays
from servable.runtime.spawning import MOST_THREADS
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


def recurrent_network(folder: Path, home: Path) -> Any:
    from all import test_recurrent
    from servable.frameworks.recurrent_weights import write_recurrent

    write_recurrent(test_recurrent.network(), folder / "recurrent")
    return servable.add(folder / "recurrent", name="net", home=home)


def xgboost_file(folder: Path, home: Path) -> Any:
    return _boosters("xgboost_model", folder, home)


def catboost_file(folder: Path, home: Path) -> Any:
    return _boosters("catboost_model", folder, home)


def _boosters(make: str, folder: Path, home: Path) -> Any:
    from all import test_boosters_served
    from optimization.boosters import table

    given = table()
    path, _ = getattr(test_boosters_served, make)(given, folder)
    return servable.add(path, name="net", sample=given.frame, home=home)


def _table() -> tuple[Any, Any]:
    """Rows of four columns, and whether the first one is positive."""
    import pandas as pd

    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 4)), columns=list("abcd"))
    return rows, (rows["a"] > 0).astype(int)


def lightgbm_file(folder: Path, home: Path) -> Any:
    lightgbm = pytest.importorskip("lightgbm", reason="needs the extra train; make test-all has it")
    rows, truth = _table()
    trained = lightgbm.train({"verbose": -1, "objective": "binary"}, lightgbm.Dataset(rows, truth), 5)
    trained.save_model(folder / "model.txt")
    return servable.add(folder / "model.txt", name="net", sample=rows, home=home)


def sklearn_file(folder: Path, home: Path) -> Any:
    import joblib
    from sklearn.ensemble import RandomForestClassifier

    rows, truth = _table()
    # It would like workers of its own.
    model = RandomForestClassifier(20, n_jobs=2, random_state=0).fit(rows, truth)
    joblib.dump(model, folder / "model.joblib")
    return servable.add(folder / "model.joblib", name="net", sample=rows, trust=True, home=home)


def river_file(folder: Path, home: Path) -> Any:
    pytest.importorskip("river", reason="needs the extra river; make test-all has it")
    from frameworks import river_models

    make, answer = river_models.MODELS["logistic"]
    taught = river_models.taught(make(), answer)
    (folder / "model.pkl").write_bytes(pickle.dumps(taught.model))
    return servable.add(folder / "model.pkl", name="net", sample=taught.frame, home=home)


MAKERS = (
    torch_program, keras_file, saved_model, classifier_of_texts, generator, recurrent_network, xgboost_file,
    catboost_file, lightgbm_file, sklearn_file, river_file,
)  # fmt: skip


async def loaded(package: Package) -> LoadedModel:
    """The trained form in a process, with the limits of a server that nobody told anything."""
    return await load_model(package, Policy(executor="process"), variant="trained", limits=LoadLimits())


def bound_of(pid: int) -> str:
    """The most address space of a process, as the kernel says it."""
    lines = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8").splitlines()
    return next(line.split()[3] for line in lines if line.startswith("Max address space"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", MAKERS)
def test_every_library_works_confined_within_the_default_limits(
    make: Any, tmp_path: Path, home: Path
) -> None:
    package = open_package(Path(make(tmp_path, home).package))
    one = example_arrays(package.signature)

    async def work() -> None:
        model = await loaded(package)
        try:
            assert model.placement == "process"
            # Landlock is not in every kernel; the filter of system calls is.
            kept = model.confinement.told()
            assert [kept[name] for name in ("network", "programs", "calls", "signals")] == ["in force"] * 4
            assert kept["files"] == "in force" or not version()
            (pid,) = model.executor.pids  # type: ignore[attr-defined]
            assert bound_of(pid).isdigit()
            for rows in (1, 256):
                given = {name: np.repeat(array, rows, axis=0) for name, array in one.items()}
                assert row_count(await run_batch(model.executor, given)) == rows
            assert model.executor.pids == (pid,)  # type: ignore[attr-defined]
            seen = look_at(pid)
            assert seen is not None
            assert seen.threads < MOST_THREADS / 4
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
