"""The compiled forms of scikit-learn's models: one ONNX graph in double precision, and one in single."""

from functools import partial
from pathlib import Path

from servable.artifact.files import write_file
from servable.artifact.manifest import Variant
from servable.frameworks.base import Trained
from servable.optimization.convert import convert, feeds
from servable.optimization.forms import FOLDER, Form

#: What is tried, best precision first: name and whether it computes in float32.
PRECISIONS = (("onnx-fp64", False), ("onnx-fp32", True))


def forms(trained: Trained) -> tuple[Form, ...]:
    """The forms to try, see ``forms.Form``."""
    return tuple(Form(name, partial(_make, trained, name, single)) for name, single in PRECISIONS)


def _make(trained: Trained, name: str, single: bool, folder: Path) -> Variant:
    """Compile and write.

    Raises:
        Unconvertible: a part of the model has no compiled form.
    """
    path = f"{FOLDER}/{name}.onnx"
    write_file(folder / path, convert(trained, single=single))
    return Variant(name=name, format="onnx", path=path, options=feeds(trained.signature))
