"""The compiled forms of scikit-learn's models: ONNX in double and in single precision, or one for texts."""

from functools import partial
from pathlib import Path

from servable.artifact.files import write_file
from servable.artifact.manifest import Variant
from servable.frameworks.base import Trained
from servable.frameworks.text_program import write_compiled
from servable.optimization.convert import convert, feeds, steps_of
from servable.optimization.forms import FOLDER, Form
from servable.optimization.text_linear import compile_text, counts_tokens

#: What is tried, best precision first: name and whether it computes in float32.
PRECISIONS = (("onnx-fp64", False), ("onnx-fp32", True))
#: The one form of a pipeline that splits texts into tokens.
TEXT = "text"


def forms(trained: Trained) -> tuple[Form, ...]:
    """The forms to try, see ``forms.Form``."""
    if any(counts_tokens(step) for step in steps_of(trained.model)):
        return (Form(TEXT, partial(_make_text, trained)),)
    return tuple(Form(name, partial(_make, trained, name, single)) for name, single in PRECISIONS)


def _make(trained: Trained, name: str, single: bool, folder: Path) -> Variant:
    """Compile and write.

    Raises:
        Unconvertible: a part of the model has no compiled form.
    """
    path = f"{FOLDER}/{name}.onnx"
    write_file(folder / path, convert(trained, single=single))
    return Variant(name=name, format="onnx", path=path, options=feeds(trained.signature))


def _make_text(trained: Trained, folder: Path) -> Variant:
    """Compile and write a text pipeline.

    Raises:
        Unconvertible: a part of the model has no such form.
    """
    path = f"{FOLDER}/{TEXT}"
    write_compiled(compile_text(trained), folder / path)
    return Variant(name=TEXT, format="text", path=path)
