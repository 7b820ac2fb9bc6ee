"""A real package around the model that does something terrible where a row asks for it."""

import shutil
from pathlib import Path

from faults import misbehaving_model
from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import digest_of, seal, write_signature
from servable.runtime.process import ChildSpec
from servable.testing import fake_signature

_FILE = Path(misbehaving_model.__file__)


def write_model(folder: Path, name: str, loading: str = "", columns: int = 2) -> Manifest:
    """Put such a model into a folder that is not sealed yet; what its package is to say of itself.

    Args:
        folder: of the package.
        name: of the model.
        loading: how it misbehaves while it is loaded: ``slow``, ``exit``, ``segfault``, ``raise``, a folder.
        columns: that its signature has; only with two it answers.
    """
    write_signature(folder, fake_signature(columns))
    (folder / "python").mkdir()
    shutil.copyfile(_FILE, folder / "python" / _FILE.name)
    (folder / "python" / "loading").write_text(loading)
    options = {"entry": f"{_FILE.name}:Misbehaving", "executes": True}
    variant = Variant(name="trained", format="python", path="python", options=options)
    return Manifest(
        model=name,
        created_at="2026-01-31T12:00:00Z",
        framework="python",
        variants=(variant,),
        trusted=True,
    )


def make_package(folder: Path, loading: str = "") -> ChildSpec:
    """Seal a package with such a model, and say how to load it."""
    folder.mkdir(parents=True)
    seal(folder, write_model(folder, "sum", loading))
    return ChildSpec(folder, digest_of(folder), "trained")
