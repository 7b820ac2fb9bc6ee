"""Which adapter reads what, and which extra brings its library. Nothing is imported until it is named."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from servable.errors import ArtifactUnsupported, DependencyMissing
from servable.frameworks.base import Adapter


class Known(NamedTuple):
    """Where an adapter lives, what must be installed for it, and how its files are told from others.

    Attributes:
        module: of the adapter.
        extra: that brings its library; empty for what is always there.
        suffixes: of its files, with the dot.
        marks: a folder that holds a file of one of these names is this framework's.
        looks_like: decides about a file whose ending, or a folder whose mark, several frameworks have; None
            where that is enough.
        library: the module of a library that a server may do without, because the form that this one was made
            from needs none; empty elsewhere.
    """

    module: str
    extra: str
    suffixes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    looks_like: Callable[[Path], bool] | None = None
    library: str = ""


def _names_architectures(folder: Path) -> bool:
    """Whether a folder's configuration is one of transformers; damaged ones are, for them to say so."""
    with (folder / "config.json").open("rb") as file:
        head = file.read(1024 * 1024)
    return b'"keras' not in head and (not head.strip() or b'"architectures"' in head or b"model_type" in head)


def _begins(*starts: bytes) -> Callable[[Path], bool]:
    """Whether a file begins with one of these bytes, white space aside."""

    def looks(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(4096).lstrip().startswith(starts)

    return looks


def _holds(word: bytes) -> Callable[[Path], bool]:
    """Whether a file is no JSON, or JSON that has the word in its beginning."""

    def looks(path: Path) -> bool:
        with path.open("rb") as file:
            return path.suffix.lower() != ".json" or word in file.read(4096)

    return looks


def _pickles_river(path: Path) -> bool:
    """Whether a pickle's outermost object is one of River's; a scikit-learn wrapper of River's is none."""
    with path.open("rb") as file:
        return _RIVER_FIRST.match(file.read(256)) is not None


#: The beginning of a pickle up to the module of its first class, in the formats since protocol 2.
_RIVER_FIRST = re.compile(rb"\x80.(?:\x95.{8})?(?:\x8c.|c)river\.(?!compat\.river_to_sklearn)", re.DOTALL)

#: Every framework that Servable knows, by the name that manifests use. Of several that could read a file or
#: a folder, the first one does.
KNOWN: dict[str, Known] = {
    "onnx": Known("servable.frameworks.onnx", "", (".onnx",)),
    "transformers": Known(
        "servable.frameworks.huggingface",
        "transformers",
        marks=("config.json",),
        looks_like=_names_architectures,
    ),
    "torch": Known("servable.frameworks.torch", "torch", (".pt2", ".pt", ".pth", ".safetensors")),
    "text": Known("servable.frameworks.text", "", marks=("text.json",)),
    "recurrent": Known("servable.frameworks.recurrent", "torch", marks=("recurrent.json",)),
    # Before scikit-learn, whose files have the same endings.
    "river": Known("servable.frameworks.river", "river", (".pkl", ".pickle"), looks_like=_pickles_river),
    "sklearn": Known("servable.frameworks.sklearn", "train", (".pkl", ".pickle", ".joblib", ".skops")),
    "mlflow": Known("servable.frameworks.mlflow", "mlflow", (), ("MLmodel",)),
    "openvino": Known("servable.frameworks.openvino", "openvino", library="openvino"),
    "python": Known("servable.frameworks.python", "", (".py",)),
    "catboost": Known("servable.frameworks.catboost", "catboost", (".cbm",)),
    "keras": Known("servable.frameworks.keras", "keras", (".keras", ".h5", ".hdf5")),
    "lightgbm": Known("servable.frameworks.lightgbm", "train", (".txt",), looks_like=_begins(b"tree\n")),
    "tensorflow": Known("servable.frameworks.tensorflow", "tensorflow", marks=("saved_model.pb",)),
    "xgboost": Known(
        "servable.frameworks.xgboost", "xgboost", (".ubj", ".model", ".json"), looks_like=_holds(b"learner")
    ),
}


def adapter(name: str) -> Adapter:
    """The adapter of a framework.

    Raises:
        ArtifactUnsupported: no such framework.
        DependencyMissing: its library is not installed; the message names the extra.
    """
    known = KNOWN.get(name)
    if known is None:
        raise ArtifactUnsupported(f"No adapter for {name!r}; known are {', '.join(sorted(KNOWN))}.")
    try:
        module = importlib.import_module(known.module)
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"Models of {name} need {missing.name}, which is not installed; "
            f"run: pip install 'servable[{known.extra}]'"
        ) from missing
    return cast("Adapter", module.ADAPTER)


def lacking(name: str) -> str:
    """The library that a format needs, that a server may do without, and that is not installed; else empty.

    Imports nothing.
    """
    library = KNOWN[name].library if name in KNOWN else ""
    return library if library and importlib.util.find_spec(library) is None else ""


def framework_of(path: Path) -> str:
    """The framework that a file or a folder is of, by its ending or by what lies in it.

    Raises:
        ArtifactUnsupported: no adapter reads it; the message lists what is read.
    """
    if path.is_dir():
        for name, known in KNOWN.items():
            marked = any((path / mark).is_file() for mark in known.marks)
            if marked and (known.looks_like is None or known.looks_like(path)):
                return name
        marks = ", ".join(sorted({mark for known in KNOWN.values() for mark in known.marks}))
        holds = f"a folder is read when it holds one of {marks}" if marks else "no folders are read"
        raise ArtifactUnsupported(f"{path.name} is no model folder that Servable reads; {holds}.")
    suffix = path.suffix.lower()
    for name, known in KNOWN.items():
        if suffix in known.suffixes and (known.looks_like is None or known.looks_like(path)):
            return name
    endings = ", ".join(sorted({ending for known in KNOWN.values() for ending in known.suffixes}))
    raise ArtifactUnsupported(f"{path.name} is no model file that Servable reads; it reads {endings}.")
