"""A package of a model that answers its own example and does something terrible with one other row."""

import shutil
from pathlib import Path

from faults import faulty_model
from faults.faulty_model import ASKED
from faults.swapping import NAME
from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import open_home, publish
from serving.making import IRIS

__all__ = ["ASKED", "FAULTS", "publish_faulty"]

FAULTS = ("errs", "crashes", "hangs")
_FILE = Path(faulty_model.__file__)


def publish_faulty(home: Path, fault: str) -> int:
    """The next version; it takes what the linear classifier takes."""
    signature = Signature(
        task="regression",
        inputs=IRIS.inputs,
        outputs=(Field(name="sum", kind="number", dtype="float64"),),
        example=IRIS.example,
    )
    with open_home(home) as opened, opened.packages.staging() as folder:
        write_signature(folder, signature)
        (folder / "python").mkdir()
        shutil.copyfile(_FILE, folder / "python" / _FILE.name)
        (folder / "python" / "fault").write_text(fault)
        options = {"entry": f"{_FILE.name}:Faulty", "executes": True}
        variant = Variant(name="trained", format="python", path="python", options=options)
        manifest = Manifest(
            model=NAME,
            created_at="2026-01-31T12:00:00Z",
            framework="python",
            variants=(variant,),
            trusted=True,
        )
        return publish(opened, folder, manifest).version
