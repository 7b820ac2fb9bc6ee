"""A folder of pictures or sounds as the sample of a model that takes them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.signature import Signature
from servable.errors import DataError, converted
from servable.inputs.needed import FileUnfit
from servable.inputs.rows import one, row_bytes
from servable.protocols.file_types import file_type_of
from servable.protocols.files import lone_file
from servable.tensors import Arrays

#: Most files that are prepared, and most bytes of their tensors: the sample travels with the package.
_MOST_FILES = 200
_MOST_BYTES = 32 * 1024 * 1024


class LabelledFiles(NamedTuple):
    """Files as tensors, and for each the name of the folder directly below the given one; empty for none."""

    arrays: Arrays
    labels: tuple[str, ...]


def packed_files(folder: Path, signature: Signature) -> Arrays:
    """The files in a folder and the folders below it as tensors; see ``labelled_files``."""
    return labelled_files(folder, signature).arrays


def labelled_files(folder: Path, signature: Signature, *, most: int = _MOST_FILES) -> LabelledFiles:
    """The files in a folder and the folders below it as tensors, evenly taken from all of them.

    Args:
        folder: an existing one; files that are no pictures and no sounds are passed over.
        signature: with one input, which takes files.
        most: how many files are taken at most.

    Raises:
        DataError: the model takes no files or more than one input, the folder holds none, or one of them
            does not fit.
        DependencyMissing: a library for this kind of file is not installed.
    """
    field = lone_file(signature)
    if field is None:
        raise DataError(
            f"The sample {folder} is a folder, which goes with a model whose only input is a picture or a "
            "sound; describe its preparation with --describe, or give a table."
        )
    with converted({OSError: DataError}, f"The sample {folder} cannot be read: {{}}."):
        found = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is(path, field.kind)]
        if not found:
            raise DataError(f"The sample {folder} holds no files of kind {field.kind}.")
        most = max(1, min(most, _MOST_BYTES // max(1, row_bytes(field))))
        places = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).astype(int))
        taken = [found[place] for place in places]
        rows: list[Any] = []
        for path in taken:
            try:
                rows.append(one(field, path.read_bytes()))
            except FileUnfit as error:
                raise DataError(f"The sample's file {path} does not fit: {error}.") from error
    parts = (path.relative_to(folder).parts for path in taken)
    labels = tuple(inner[0] if len(inner) > 1 else "" for inner in parts)
    return LabelledFiles({field.name: np.stack(rows)}, labels)


def _is(path: Path, kind: str) -> bool:
    with path.open("rb") as stream:
        return file_type_of(stream.read(12)).startswith(f"{kind}/")
