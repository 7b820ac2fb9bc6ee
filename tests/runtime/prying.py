"""A real package around the model that runs the code in its rows, and how it is asked."""

from pathlib import Path
from typing import Any

import numpy as np

from runtime import prying_model
from servable.artifact.manifest import Manifest
from servable.artifact.package import digest_of, seal, write_signature
from servable.frameworks.base import Hints
from servable.frameworks.python import PythonAdapter
from servable.runtime.executor import run_batch
from servable.runtime.process import ChildSpec, ProcessExecutor
from servable.tensors import STRINGS

_FILE = Path(prying_model.__file__)


def make_package(folder: Path, name: str = "Prying") -> ChildSpec:
    """Seal a package with one of the models of that file, and say how to load it."""
    folder.mkdir(parents=True)
    hints = Hints(entry=f"{_FILE}:{name}")
    adapter = PythonAdapter()
    trained = adapter.read(_FILE, sample=None, trust=True, hints=hints)
    variant = adapter.write(trained, folder)
    write_signature(folder, trained.signature)
    manifest = Manifest(
        model="prying",
        created_at="2026-01-31T12:00:00Z",
        framework="python",
        variants=(variant,),
        trusted=True,
    )
    seal(folder, manifest)
    return ChildSpec(folder, digest_of(folder), "trained")


async def tried(executor: ProcessExecutor, code: str) -> str:
    """What came of running code in the process of such a model."""
    rows: dict[str, Any] = {STRINGS: np.array([[code]], dtype=object)}
    answer = await run_batch(executor, rows)
    (said,) = answer.values()
    return str(said[0])
