"""What a ``.keras`` or HDF5 file would execute, found out from its description before Keras opens it.

Keras' safe mode does not cover all of HDF5 files, in which Lambda layers are code, and which may point into
other files; so both are looked for here.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servable.artifact.audit import ZIP_ERRORS, Audit, refusal
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, FileMissing
from servable.frameworks.quiet import imported

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
#: The names that such files have.
HDF5_SUFFIXES = (".h5", ".hdf5")
#: Models have a group for each layer, in groups of models within each other.
_DEEPEST = 64


def check(path: Path, *, trust: bool) -> tuple[str, ...]:
    """Look through a file.

    Returns:
        The names that loading it would execute; empty without trust.

    Raises:
        ArtifactUntrusted: there are some, and ``trust`` is false.
        ArtifactUnreadable: empty, truncated, damaged or no Keras model.
        ArtifactUnsupported: weights without a model, or HDF5 under another name.
    """
    names = _names(path, legacy=_is_hdf5(path))
    if names and not trust:
        raise refusal(path, Audit("keras", names, True))
    return names


def names_of(path: Path) -> tuple[str, ...]:
    """What loading a file would execute, whatever its name; sorted.

    Raises:
        ArtifactUnreadable: damaged or no Keras model.
        ArtifactUnsupported: weights without a model.
    """
    with path.open("rb") as file:
        return _names(path, legacy=file.read(8) == _HDF5)


def _names(path: Path, *, legacy: bool) -> tuple[str, ...]:
    config = _hdf5_config(path) if legacy else _config(path)
    return tuple(sorted(set(_named(config, path, legacy=legacy))))


def _is_hdf5(path: Path) -> bool:
    """Whether a file is one of HDF5, whatever its name.

    Raises:
        FileMissing: there is none.
        ArtifactUnreadable: it is empty, or says that it is HDF5 and is not.
        ArtifactUnsupported: it is one, and is not called so.
    """
    named = path.suffix.lower() in HDF5_SUFFIXES
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError as error:
        raise FileMissing(f"There is no file {path}.") from error
    if not head:
        raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); save or copy the model again.")
    if named and head != _HDF5:
        raise ArtifactUnreadable(f"{path.name} is truncated, damaged or no HDF5 file; save or copy it again.")
    if head == _HDF5 and not named:
        raise ArtifactUnsupported(f"{path.name} is an HDF5 file; rename it to {path.stem}.h5.")
    return named


def _hdf5_config(path: Path) -> Any:
    """The description of a model in HDF5, whose every part is in the file itself.

    Raises:
        ArtifactUnsupported: it holds weights alone.
        ArtifactUnreadable: damaged, or with parts in other files.
    """
    h5py = imported("h5py")  # Keras brings it.
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            if text is None:
                raise ArtifactUnsupported(
                    f"{path.name} holds weights alone, which are no model; load them into the model with "
                    "Keras and save it whole, as .keras."
                )
            for name in _outside(file, h5py):
                raise ArtifactUnreadable(f"{name} of {path.name} lies elsewhere; save the model again.")
            return json.loads(text)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no Keras model; save or copy it again."
        ) from error


def _outside(group: Any, h5py: Any) -> Iterator[str]:
    """The parts of an HDF5 file that point into other files.

    Raises:
        ArtifactUnreadable: groups within each other without end.
    """
    waiting = [(group, 0)]
    while waiting:
        group, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ArtifactUnreadable("The groups of the HDF5 file lie within each other without end.")
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield f"{group.name}/{name}"
                continue
            part = group[name]
            if isinstance(part, h5py.Group):
                waiting.append((part, depth + 1))
            elif isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                yield part.name


def _check_weights(path: Path, archive: zipfile.ZipFile) -> None:
    """See to it that the weights in a ``.keras`` file lie in it, and not in files of this machine.

    Raises:
        ArtifactUnreadable: some lie elsewhere.
        OSError: they are no HDF5.
    """
    for name in archive.namelist():
        if name.endswith(HDF5_SUFFIXES):
            h5py = imported("h5py")
            with archive.open(name) as member, h5py.File(member, "r") as weights:
                for part in _outside(weights, h5py):
                    raise ArtifactUnreadable(f"{part} of {path.name} lies elsewhere; save the model again.")


def _config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_weights(path, archive)
            with archive.open(_CONFIG) as member:
                data = member.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ArtifactUnreadable(f"The description in {path.name} is too large to be that of a model.")
        return json.loads(data)
    except (*ZIP_ERRORS, RecursionError) as error:
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no Keras model; save or copy it again."
        ) from error


def _named(config: Any, path: Path, *, legacy: bool) -> Iterator[str]:
    """The classes and functions outside of what is known to execute nothing.

    Args:
        config: the description.
        path: for messages.
        legacy: whether names without a module are looked up among the classes of Keras, and nowhere else.
    """
    if not isinstance(config, dict) or "class_name" not in config:
        raise ArtifactUnreadable(f"{path.name} holds no description of a Keras model; save it again.")
    waiting: list[Any] = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            yield from _of_node(node, legacy)


def _of_node(node: dict[str, Any], legacy: bool) -> Iterator[str]:
    kind = node.get("class_name")
    if kind is None:
        return
    module = node.get("module")
    if legacy and module is None:
        module = "keras.layers"
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
