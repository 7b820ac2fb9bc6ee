"""A model folder of MLflow, read without MLflow: its flavours, its signature, its example.

``MLmodel`` is YAML; the signature in it is JSON: columns with types, or tensors with dtypes and shapes.
"""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import yaml

from servable.artifact.signature import Field, Kind
from servable.errors import ArtifactUnreadable, ArtifactUnsupported

MARK = "MLmodel"
#: The flavour that every model has, and that runs code.
PYFUNC = "python_function"
#: What a tensor without a name is called.
UNNAMED = "input"
_LARGEST = 4 * 1024 * 1024
#: Keys of a flavour that name its file, and flavours in the order in which they are preferred.
_PLACES = ("pickled_model", "model_path", "data", "model_data", "model_file")
FLAVOURS = (
    "onnx",
    "sklearn",
    "lightgbm",
    "xgboost",
    "catboost",
    "pytorch",
    "keras",
    "tensorflow",
    "transformers",
)
_COLUMNS: dict[str, tuple[Kind, str]] = {
    "double": ("number", "float64"),
    "float": ("number", "float64"),
    "integer": ("number", "int64"),
    "long": ("number", "int64"),
    "boolean": ("boolean", "bool"),
    "string": ("text", "str"),
    "datetime": ("date", "datetime"),
}


class MlflowModel(NamedTuple):
    """What stands in an ``MLmodel``.

    Attributes:
        folder: of the model.
        flavours: what each says, by name.
        inputs: of the signature; empty when it has none.
        outputs: of the signature; empty when it has none.
        example: the path of the input example; None when there is none.
        version: of MLflow that wrote it.
    """

    folder: Path
    flavours: dict[str, dict[str, Any]]
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    example: Path | None
    version: str

    def candidates(self) -> list[tuple[str, Path]]:
        """The flavours that name a file or folder, with that, the best first."""
        found = []
        for name in FLAVOURS:
            flavour = self.flavours.get(name, {})
            for key in _PLACES:
                if isinstance(place := flavour.get(key), str):
                    found += [(name, path) for path in _inside(self.folder, place)]
        return found

    def example_rows(self) -> tuple[list[str], list[list[Any]]] | None:
        """Columns and rows of a table that is the example; None when there is none of this form."""
        if self.example is None:
            return None
        try:
            held = msgspec.json.decode(self.example.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None
        if not isinstance(held, dict) or not isinstance(rows := held.get("data"), list):
            return None
        columns = held.get("columns")
        if not isinstance(columns, list) or not all(isinstance(row, list) for row in rows):
            return None
        return [str(column) for column in columns], rows


def read_folder(folder: Path) -> MlflowModel:
    """Read the description of a model folder; nothing is executed.

    Raises:
        ArtifactUnreadable: it is no description of a model.
        ArtifactUnsupported: its signature has types that no request can hold.
    """
    path = folder / MARK
    try:
        if path.stat().st_size > _LARGEST:
            raise ArtifactUnreadable(f"{folder.name}/{MARK} is larger than 4 MiB, which no description is.")
        held = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ArtifactUnreadable(
            f"{folder.name}/{MARK} cannot be read ({type(error).__name__}); save or copy the model again."
        ) from error
    # Keys are sorted, and this is the last that every version writes.
    if isinstance(held, dict) and held and "utc_time_created" not in held:
        raise ArtifactUnreadable(f"{folder.name}/{MARK} ends too early; save or copy the model again.")
    flavours = held.get("flavors") if isinstance(held, dict) else None
    if not isinstance(flavours, dict) or not flavours or not all(map(_is_record, flavours.values())):
        raise ArtifactUnreadable(f"{folder.name}/{MARK} names no flavours; save or copy the model again.")
    signature = held.get("signature") or {}
    about = held.get("saved_input_example_info") or {}
    place = about.get("artifact_path") if isinstance(about, dict) else None
    examples = _inside(folder, place) if isinstance(place, str) else []
    where = f"{folder.name}/{MARK}"
    return MlflowModel(
        folder,
        flavours,
        _fields(signature.get("inputs"), where, UNNAMED),
        _fields(signature.get("outputs"), where, ""),
        examples[0] if examples else None,
        str(held.get("mlflow_version", "")),
    )


def _is_record(value: Any) -> bool:
    return isinstance(value, dict)


def _inside(folder: Path, place: str) -> list[Path]:
    """The path in a folder, and the files in it when it is a folder itself; nothing outside of it."""
    path = folder / place
    if Path(place).is_absolute() or ".." in Path(place).parts or not path.exists():
        return []
    within = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    return [path, *within]


def _fields(text: Any, where: str, unnamed: str) -> tuple[Field, ...]:
    """The fields of one side of a signature."""
    if not text:
        return ()
    try:
        held = msgspec.json.decode(text) if isinstance(text, str) else text
        return tuple(_field(each, index, unnamed) for index, each in enumerate(held))
    except (msgspec.MsgspecError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactUnreadable(f"{where} has a signature that cannot be read.") from error
    except ValueError as error:
        raise ArtifactUnsupported(
            f"{where} has {error} in its signature, which no request can hold."
        ) from error


def _field(held: dict[str, Any], index: int, unnamed: str) -> Field:
    name = held.get("name") or unnamed
    kind = held["type"]
    if kind == "tensor":
        spec = held["tensor-spec"]
        dtype = "str" if spec["dtype"] in ("object", "str") else np.dtype(spec["dtype"]).name
        if dtype != "str" and np.dtype(dtype).kind not in "biuf":
            raise ValueError(f"the dtype {spec['dtype']}")
        # The first axis is the rows.
        return Field(name=name, kind="tensor", dtype=dtype, shape=tuple(map(int, spec["shape"][1:])))
    if kind not in _COLUMNS:
        raise ValueError(f"the type {kind}")
    name = name or (f"column{index}" if unnamed else "")
    kind, dtype = _COLUMNS[kind]
    return Field(name=name, kind=kind, dtype=dtype, missing=not held.get("required", True))
