"""Which adapter reads what, and which extra brings its library. Nothing is imported until it is named."""

import importlib
from pathlib import Path
from typing import NamedTuple, cast

from servable.errors import ArtifactUnsupported, DependencyMissing
from servable.frameworks.base import Adapter


class Known(NamedTuple):
    """Where an adapter lives and what must be installed for it."""

    module: str
    extra: str
    suffixes: tuple[str, ...]


#: Every framework that Servable knows, by the name that manifests use.
KNOWN: dict[str, Known] = {
    "onnx": Known("servable.frameworks.onnx", "", (".onnx",)),
    "sklearn": Known("servable.frameworks.sklearn", "train", (".pkl", ".pickle", ".joblib", ".skops")),
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


def framework_of(path: Path) -> str:
    """The framework that a file's ending stands for.

    Raises:
        ArtifactUnsupported: no adapter reads files of this ending; the message lists those that are read.
    """
    suffix = path.suffix.lower()
    for name, known in KNOWN.items():
        if suffix in known.suffixes:
            return name
    endings = ", ".join(sorted(ending for known in KNOWN.values() for ending in known.suffixes))
    raise ArtifactUnsupported(f"{path.name} is no model file that Servable reads; it reads {endings}.")
