"""The other forms in which a model of a framework can be executed; each is made only when it is asked for.

One module for each framework says ``forms(trained)``; ``choose`` makes them, proves them against the trained
model, times them and keeps those that are equal.
"""

import contextlib
import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from servable.artifact.manifest import Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactError
from servable.frameworks.base import Predictor, Trained
from servable.frameworks.lookup import adapter
from servable.optimization.graph import Unconvertible

#: Where in a package the files of variants lie.
FOLDER = "variants"

#: The form of a recurrent network over texts: tokens as data, then a graph of its own.
TEXT_NETWORK = "text-fp32"
#: The lossy forms of an ONNX graph.
INT8_DYNAMIC = "onnx-int8-dynamic"
INT8_STATIC = "onnx-int8-static"
FP16 = "onnx-fp16"


class Form(NamedTuple):
    """One form that can be tried.

    Attributes:
        name: of the variant: ``onnx-fp32`` ...
        make: writes its files below ``variants/``, which exists, of the folder that it is given, and returns
            the record that loads it. Raises ``Unconvertible`` with the reason when it cannot be made.
        lossy: whether it answers differently on purpose, so that a metric on held-out rows decides about it
            and not equality.
    """

    name: str
    make: Callable[[Path], Variant]
    lossy: bool = False


class Made(NamedTuple):
    """A form that was made and loaded, in a folder that is gone when it was looked at.

    Attributes:
        variant: its record.
        predictor: over its files.
        folder: where they lie.
    """

    variant: Variant
    predictor: Predictor
    folder: Path

    def keep(self, package: Path) -> None:
        """Copy its files into a package."""
        shutil.copytree(self.folder / FOLDER, package / FOLDER, dirs_exist_ok=True)


@contextlib.contextmanager
def loaded(form: Form, signature: Signature) -> Iterator[Made]:
    """A form, made and loaded; it is closed, and its files removed, after.

    Raises:
        Unconvertible: it cannot be made, or cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="servable-") as place:
        scratch = Path(place)
        (scratch / FOLDER).mkdir()
        variant = form.make(scratch)
        try:
            predictor = adapter(variant.format).load(scratch, variant, signature, trust=False)
        except ArtifactError as refusal:
            raise Unconvertible(
                f"{variant.format} does not take it ({refusal.__cause__ or refusal})"
            ) from refusal
        try:
            yield Made(variant, predictor, scratch)
        finally:
            predictor.close()


#: The module of each framework whose models have other forms.
MODULES = {
    "recurrent": "servable.optimization.recurrent_forms",
    "catboost": "servable.optimization.boosted_forms",
    "keras": "servable.optimization.tensorflow_forms",
    "lightgbm": "servable.optimization.boosted_forms",
    "sklearn": "servable.optimization.sklearn_forms",
    "tensorflow": "servable.optimization.tensorflow_forms",
    "xgboost": "servable.optimization.boosted_forms",
    "torch": "servable.optimization.torch_forms",
    "transformers": "servable.optimization.huggingface_forms",
}


def forms(framework: str, trained: Trained) -> Sequence[Form]:
    """The forms to try for a model, best precision first; none for a framework without other forms."""
    module = MODULES.get(framework)
    if module is None:
        return ()
    return cast("Sequence[Form]", importlib.import_module(module).forms(trained))
