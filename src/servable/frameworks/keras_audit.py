"""What a ``.keras`` file would execute, found out from its description before Keras opens it."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servable.artifact.audit import ZIP_ERRORS, Audit, refusal
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, FileMissing

_CONFIG = "config.json"
_LARGEST = 64 * 1024 * 1024
#: The modules whose classes a model may be made of.
_MODULES = re.compile(
    r"keras(\.src)?(\.(layers|models|engine|initializers|regularizers|constraints|optimizers|losses|metrics"
    r"|activations|dtype_policies|random)(\.\w+)*)?"
)
#: Classes of Keras that run code of the file's, or open other files.
_DANGEROUS = frozenset({"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"})
#: How HDF5 files begin.
_HDF5 = b"\x89HDF\r\n\x1a\n"


def check(path: Path, *, trust: bool) -> tuple[str, ...]:
    """Look through a file.

    Returns:
        The names that loading it would execute; empty without trust.

    Raises:
        ArtifactUntrusted: there are some, and ``trust`` is false.
        ArtifactUnreadable: empty, truncated, damaged or no Keras model.
        ArtifactUnsupported: the older form, in HDF5.
    """
    names = tuple(sorted(set(_named(_config(path), path))))
    if names and not trust:
        raise refusal(path, Audit("keras", names, True))
    return names


def _config(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if not head:
            raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); save or copy the model again.")
        if head == _HDF5:
            raise ArtifactUnsupported(
                f"{path.name} is an HDF5 file: weights alone are no model, and whole models of that form "
                "may hold code; load it with Keras and save it as .keras."
            )
        with zipfile.ZipFile(path) as archive, archive.open(_CONFIG) as member:
            data = member.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ArtifactUnreadable(f"The description in {path.name} is too large to be that of a model.")
        return json.loads(data)
    except FileNotFoundError as error:
        raise FileMissing(f"There is no file {path}.") from error
    except (*ZIP_ERRORS, RecursionError) as error:
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no Keras model; save or copy it again."
        ) from error


def _named(config: Any, path: Path) -> Iterator[str]:
    """The classes and functions outside of what is known to execute nothing."""
    if not isinstance(config, dict) or "class_name" not in config:
        raise ArtifactUnreadable(f"{path.name} holds no description of a Keras model; save it again.")
    waiting: list[Any] = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            yield from _of_node(node)


def _of_node(node: dict[str, Any]) -> Iterator[str]:
    kind = node.get("class_name")
    if kind is None:
        return
    module = node.get("module")
    inner = node.get("config")
    known = isinstance(module, str) and _MODULES.fullmatch(module) is not None
    plain = isinstance(kind, str) and re.fullmatch(r"[A-Z]\w*", kind) is not None
    # Tensors and numpy values among the arguments of a layer are data with a class of their own.
    if kind in ("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__"):
        return
    if not known or not plain or kind in _DANGEROUS:
        yield f"{module or node.get('registered_name') or 'unknown'}.{kind}"
    elif isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
        yield f"{module}.{kind} (reads {inner['vocabulary']})"
