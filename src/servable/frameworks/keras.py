"""Keras 3 models (``.keras``, and ``.h5`` of before), opened in safe mode.

A file is looked through before Keras sees it: what would run code of the file's own asks for trust, and then
runs in a process of its own.
"""

import contextlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUnsupported
from servable.frameworks.base import EXECUTES, NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.boosted import ORIGIN, first_line
from servable.frameworks.keras_audit import HDF5_SUFFIXES, check
from servable.frameworks.nets import NetPredictor, Port, described, shape_of
from servable.frameworks.quiet import imported
from servable.frameworks.scoring import LastStep

keras = imported("keras")

_STEM = "model"
_ACTIVATIONS: dict[str, LastStep] = {"softmax": "softmax", "sigmoid": "sigmoid"}


class KerasAdapter:
    """Models of Keras 3."""

    name = "keras"
    suffixes = (".keras", *HDF5_SUFFIXES)

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model file; see the seam.

        Raises:
            ArtifactUnreadable: empty, truncated, damaged or no Keras model.
            ArtifactUntrusted: it holds code, or classes that are none of Keras' own, and ``trust`` is false.
            ArtifactUnsupported: weights alone; no inputs, or a fixed number of rows.
            SettingInvalid: a hint contradicts the model.
        """
        executes = bool(check(path, trust=trust))
        model = _loaded(path, trust=trust)
        inputs = _ports(model, "inputs")
        outputs = _ports(model, "outputs")
        signature, options = described(inputs, outputs, hints, last=_last_step(model))
        options[ORIGIN] = str(path)
        if executes:
            options[EXECUTES] = True
        return Trained(model, signature, options, _libraries())

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the file into the package."""
        options = dict(trained.options)
        with storage_errors("copying the model"):
            origin = Path(str(options.pop(ORIGIN)))
            # Keras tells the two forms by their names.
            name = f"{_STEM}{origin.suffix.lower()}"
            shutil.copyfile(origin, folder / name)
        return Variant(name=TRAINED, format=self.name, path=name, options=options)

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory.

        Raises:
            ArtifactUntrusted: it would execute code and ``trust`` is false.
            ArtifactUnreadable: damaged.
        """
        path = folder / variant.path
        check(path, trust=trust)
        return Trained(_loaded(path, trust=trust), signature, variant.options, _libraries())

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        model = trained.model

        def run(given: list[Any]) -> list[Any]:
            answer = model.predict_on_batch(arranged(model, given))
            return list(keras.tree.flatten(answer))

        return NetPredictor(run, trained.options)


def arranged(model: Any, given: Sequence[Any]) -> Any:
    """Values for a model's inputs in the structure in which it takes them: one, a list, a dict."""
    if isinstance(model, keras.Sequential):
        return given[0]
    return keras.tree.pack_sequence_as(model.input, list(given))


def _libraries() -> dict[str, str]:
    return {"keras": keras.__version__, keras.backend.backend(): _backend_version(), "numpy": np.__version__}


def _backend_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in (keras.backend.backend(), f"{keras.backend.backend()}-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return ""


def _loaded(path: Path, *, trust: bool) -> Any:
    """The model in a file that may be opened.

    Raises:
        ArtifactUnreadable: Keras cannot open it.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        raise ArtifactUnreadable(
            f"{path.name} cannot be opened by Keras {keras.__version__} ({first_line(foreign)}); it may be "
            "damaged, or need classes of its maker's; export it as a SavedModel, which needs none."
        ) from foreign


def _ports(model: Any, which: str) -> list[Port]:
    """The model's inputs or outputs.

    Raises:
        ArtifactUnsupported: it does not know them.
    """
    try:
        tensors = list(getattr(model, which) or ())
    except (AttributeError, ValueError):
        tensors = []
    if not tensors:
        raise ArtifactUnsupported(
            f"The model does not know its {which}; build it from keras.Input, or export it as a SavedModel."
        )
    names = [tensor.name for tensor in tensors]
    if which == "outputs":
        names = list(getattr(model, "output_names", names))
    return [
        Port(
            str(name), "str" if tensor.dtype == "string" else str(tensor.dtype), shape_of(name, tensor.shape)
        )
        for name, tensor in zip(names, tensors, strict=True)
    ]


def _last_step(model: Any) -> LastStep:
    """What the last layer does last to its scores."""
    layer = model
    while getattr(layer, "layers", None):
        layer = layer.layers[-1]
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", "")
    return _ACTIVATIONS.get(name, "")


ADAPTER = KerasAdapter()
