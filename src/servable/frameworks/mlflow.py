"""Model folders of MLflow. What an adapter of ours reads is handed to it; the rest runs as MLflow runs it.

``inside`` says which file of a folder another adapter takes, so that such a model is treated like any other
of its framework. When there is none, the ``pyfunc`` is left: it unpickles and imports what the folder says,
so it needs trust, MLflow, and a process of its own.
"""

import inspect
import shutil
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Field, Signature, is_table
from servable.errors import (
    ArtifactUnreadable,
    ArtifactUnsupported,
    ArtifactUntrusted,
    DependencyMissing,
    ModelFailed,
    ServableError,
    SettingInvalid,
)
from servable.frameworks import lookup
from servable.frameworks.base import EXECUTES, NO_HINTS, Hints, Inside, Predictor, Trained
from servable.frameworks.mlflow_folder import MARK, PYFUNC, UNNAMED, MlflowModel, read_folder
from servable.logs import fields, logger
from servable.tensors import PREDICTION, Arrays, row_count

_log = logger("model")
_FOLDER = "mlflow"
#: Endings that only MLflow gives to files of a framework.
_OTHER_ENDINGS = {".lgb": "lightgbm", ".cb": "catboost"}


class MlflowPredictor:
    """A ``pyfunc`` behind packed arrays. One call at a time."""

    concurrent = False

    def __init__(self, model: Any, signature: Signature) -> None:
        self._model = model
        self._signature = signature
        self._table = is_table(signature.inputs)
        self._labels = {label: index for index, label in enumerate(signature.classes)}

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows.

        Raises:
            ModelFailed: the model raised, or gave something else than it promised.
        """
        rows = row_count(arrays)
        try:
            given = self._model.predict(_given(arrays, self._signature, table=self._table))
            found = outputs_of(given)
        except Exception as raised:  # Code in the model may raise anything.
            _log.error("a model raised", extra=fields(model="pyfunc"), exc_info=raised)
            raise ModelFailed(
                f"The model raised {type(raised).__name__} on {rows} rows; the server's log knows where."
            ) from raised
        return self._named(found, rows)

    def _named(self, found: dict[str, Any], rows: int) -> dict[str, Any]:
        signature = self._signature
        first = next(iter(found.values()), None)
        if first is None or any(not array.ndim or len(array) != rows for array in found.values()):
            raise ModelFailed(f"The model did not give one answer for each of {rows} rows.")
        if signature.task == "classification":
            try:
                return {PREDICTION: np.array([self._labels[label] for label in first.tolist()], np.int64)}
            except (KeyError, TypeError) as error:
                raise ModelFailed(
                    "The model gave a label that is none of those it was added with."
                ) from error
        if signature.task == "regression":
            return {PREDICTION: first.astype(np.float64)}
        names = [field.name for field in signature.outputs]
        if len(names) != len(found):
            raise ModelFailed(f"The model gave {len(found)} outputs instead of {len(names)}.")
        return dict(zip(names, found.values(), strict=True))

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        self._model = None


class MlflowAdapter:
    """Folders with an ``MLmodel``."""

    name = "mlflow"
    suffixes = ()

    def inside(self, path: Path, *, sample: Any | None, hints: Hints) -> Inside | None:
        """The file of a folder that another adapter reads, the best one; None when only the pyfunc is left.

        Raises:
            ArtifactUnreadable: the folder is damaged.
        """
        model = read_folder(path)
        for flavour, place in model.candidates():
            framework = _framework_of(flavour, place)
            if framework:
                rows = sample if sample is not None else _example_frame(model)
                return Inside(framework, place, rows, hints)
        return None

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in the pyfunc of a folder; see the seam.

        Raises:
            ArtifactUnreadable: the folder is damaged, or its model cannot be loaded.
            ArtifactUntrusted: ``trust`` is false; nothing was executed.
            DependencyMissing: MLflow, or a library of the model, is not installed.
            SettingInvalid: nothing says what the model takes.
        """
        model = read_folder(path)
        pyfunc = _pyfunc_of(model)
        if not trust:
            raise _untrusted(path, pyfunc)
        loaded = _loaded(path)
        signature = _signature(model, sample, hints)
        libraries = {"mlflow": model.version} if model.version else {}
        return Trained(_Kept(path, loaded), signature, {EXECUTES: True}, libraries)

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the model's folder; see the seam."""
        with storage_errors("copying the model"):
            shutil.copytree(trained.model.folder, folder / _FOLDER)
        return Variant(
            name=TRAINED,
            format=self.name,
            path=_FOLDER,
            options=dict(trained.options),
            note="runs as MLflow's pyfunc",
        )

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The pyfunc of a package; see the seam."""
        place = folder / variant.path
        model = read_folder(place)
        if not trust:
            raise _untrusted(place, _pyfunc_of(model))
        libraries = {"mlflow": model.version} if model.version else {}
        return Trained(_Kept(place, _loaded(place)), signature, variant.options, libraries)

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the pyfunc of a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the pyfunc in memory."""
        return MlflowPredictor(trained.model.loaded, trained.signature)


def _framework_of(flavour: str, place: Path) -> str:
    """The framework whose adapter reads a file or folder; empty when none does."""
    if flavour == "pytorch" and place.suffix != ".pt2":
        # Everything else that MLflow writes of it is a pickle of the author's own class.
        return ""
    if place.suffix in _OTHER_ENDINGS:
        return _OTHER_ENDINGS[place.suffix]
    try:
        framework = lookup.framework_of(place)
    except ArtifactUnsupported:
        return ""
    return "" if framework in ("mlflow", "python") else framework


class _Kept:
    """A pyfunc in memory, and where it came from."""

    def __init__(self, folder: Path, loaded: Any) -> None:
        self.folder = folder
        self.loaded = loaded


def _pyfunc_of(model: MlflowModel) -> dict[str, Any]:
    pyfunc = model.flavours.get(PYFUNC)
    if pyfunc is None:
        known = ", ".join(sorted(model.flavours))
        raise ArtifactUnsupported(
            f"{model.folder.name} holds {known}, which is not read here, and no {PYFUNC} to run in its place."
        )
    return pyfunc


def _untrusted(path: Path, pyfunc: dict[str, Any]) -> ArtifactUntrusted:
    loader = str(pyfunc.get("loader_module", "its loader"))
    return ArtifactUntrusted(
        f"{path.name} was not opened, because MLflow would run {loader} and whatever the folder names; "
        "if you know who made it, add --trust.",
        (loader,),
    )


def _loaded(folder: Path) -> Any:
    """The pyfunc of a folder.

    Raises:
        DependencyMissing: MLflow or a library of the model is not there.
        ArtifactUnreadable: it cannot be loaded.
    """
    try:
        with warnings.catch_warnings():
            # What MLflow warns of when it is imported concerns models that are written, not this one.
            warnings.simplefilter("ignore")
            import mlflow.pyfunc
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"{folder.name} only runs with MLflow, and {missing.name} is not installed; "
            "run: pip install 'servable[mlflow]'"
        ) from missing
    try:
        return mlflow.pyfunc.load_model(str(folder))
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"{folder.name} needs the module {missing.name}, which is not installed; install what it brings."
        ) from missing
    except ServableError:
        raise
    except Exception as foreign:  # Whatever the library, or code in the model, raises becomes one sentence.
        said = str(foreign).strip().splitlines()
        raise ArtifactUnreadable(
            f"{folder.name} cannot be loaded by MLflow ({type(foreign).__name__}: "
            f"{said[0][:200] if said else ''}); check the versions in its requirements.txt."
        ) from foreign


def _example_frame(model: MlflowModel) -> Any | None:
    """The example of a folder as a table; None when there is none."""
    held = model.example_rows()
    if held is None:
        return None
    try:
        import pandas as pd
    except ModuleNotFoundError:
        return None
    return pd.DataFrame(held[1], columns=held[0])


def _signature(model: MlflowModel, sample: Any | None, hints: Hints) -> Signature:
    inputs = hints.inputs or model.inputs
    if not inputs:
        raise SettingInvalid(
            f"{model.folder.name}/{MARK} has no signature; save it with one "
            "(mlflow.models.infer_signature), or say the inputs in a file for --describe."
        )
    frame = sample if sample is not None else _example_frame(model)
    example: dict[str, Any] = {}
    if frame is not None and is_table(inputs) and {field.name for field in inputs} <= set(frame.columns):
        example = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in frame.iloc[0].to_dict().items()
            if name in {field.name for field in inputs}
        }
    if hints.labels:
        kind = "str" if isinstance(hints.labels[0], str) else "int64"
        label = Field(name="label", kind="category", dtype=kind, values=hints.labels)
        return Signature(task="classification", inputs=inputs, outputs=(label,), example=example)
    if not model.outputs:
        raise SettingInvalid(
            f"{model.folder.name}/{MARK} does not say what the model gives; save it with a whole signature "
            "(mlflow.models.infer_signature), or name its --labels."
        )
    outputs = model.outputs
    only = outputs[0]
    if (
        len(outputs) == 1
        and only.dtype == "float64"
        and not only.shape
        and hints.task in (None, "regression")
    ):
        value = Field(name=only.name or "value", kind="number", dtype="float64")
        return Signature(task="regression", inputs=inputs, outputs=(value,), example=example)
    if hints.task not in (None, "transform"):
        raise SettingInvalid(f"{model.folder.name} does not give what a model for {hints.task} gives.")
    named = tuple(
        msgspec.structs.replace(field, name=field.name or ("output" if index == 0 else f"output{index}"))
        for index, field in enumerate(outputs)
    )
    return Signature(task="transform", inputs=inputs, outputs=named, example=example)


def outputs_of(given: Any) -> dict[str, Any]:
    """What a pyfunc gave as arrays by name; the name is empty where it gave one thing.

    Args:
        given: an array, a list, a series, a table, or a dict of arrays.
    """
    if hasattr(given, "columns") and hasattr(given, "to_dict"):
        return {str(name): _array(given[name]) for name in given.columns}
    if isinstance(given, dict):
        return {str(name): _array(value) for name, value in given.items()}
    if inspect.isgenerator(given):
        given = list(given)
    return {"": _array(given)}


def _array(values: Any) -> Any:
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "UT" else array


def _given(arrays: Arrays, signature: Signature, *, table: bool) -> Any:
    """Packed rows in the form that the model's own signature asks for."""
    if table:
        from servable.frameworks.frame import to_frame

        return to_frame(arrays, signature, "pandas")
    if len(signature.inputs) == 1 and signature.inputs[0].name == UNNAMED:
        return arrays[UNNAMED]
    return {field.name: arrays[field.name] for field in signature.inputs}


ADAPTER = MlflowAdapter()
