"""Files of pictures or sounds as the sample of a model that takes them: a folder, or a CSV of paths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import DataError, converted
from servable.inputs.needed import FileUnfit
from servable.inputs.rows import one, row_bytes
from servable.protocols.file_types import file_type_of
from servable.protocols.files import lone_file
from servable.tensors import Arrays
from servable.workflows.sources import need_extra

#: Most files that are prepared, and most bytes of their tensors: the sample travels with the package.
_MOST_FILES = 200
_MOST_BYTES = 32 * 1024 * 1024


class LabelledFiles(NamedTuple):
    """Files as tensors.

    Attributes:
        arrays: the tensors.
        labels: of each file: the name of the folder directly below the given one, or what a CSV says; empty
            where there is none.
        names: of each file, for messages.
    """

    arrays: Arrays
    labels: tuple[str, ...]
    names: tuple[str, ...]


def folder_files(folder: Path, signature: Signature, *, most: int = _MOST_FILES) -> LabelledFiles:
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
        taken = [found[place] for place in _evenly(len(found), field, most)]
        rows = _prepared(taken, field)
    parts = (path.relative_to(folder).parts for path in taken)
    labels = tuple(inner[0] if len(inner) > 1 else "" for inner in parts)
    return LabelledFiles({field.name: rows}, labels, tuple(map(str, taken)))


def listed_files(
    table: Path, field: Field, *, target: str | None, usual: str, labelled: bool, most: int = _MOST_FILES
) -> LabelledFiles:
    """The files that a CSV names, as tensors, evenly taken from all of them.

    Args:
        table: an existing CSV with a column of paths.
        field: the only input of the model.
        target: the column with the labels; None for ``usual``, or for the only one that it could be.
        usual: the name of the model's answer.
        labelled: whether labels are needed.
        most: how many files are taken at most.

    Raises:
        FileMissing: a file is not there.
        DataError: a file does not fit, or the CSV does not say which column is the label.
        DependencyMissing: the extra ``train``, or a library for this kind of file, is not installed.
    """
    need_extra()
    from servable.training.tasks.media import listed

    with converted({OSError: DataError}, f"The sample {table} cannot be read: {{}}."):
        found = listed(table, target, usual, labelled=labelled)
        taken = [found[place] for place in _evenly(len(found), field, most)]
        rows = _prepared([each.path for each in taken], field)
    labels = tuple(each.label for each in taken)
    return LabelledFiles({field.name: rows}, labels, tuple(each.name for each in taken))


def _evenly(count: int, field: Field, most: int) -> list[int]:
    """Places among so many files, the first and the last among them."""
    most = max(1, min(most, _MOST_BYTES // max(1, row_bytes(field))))
    places: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
    return places


def _prepared(files: Sequence[Path], field: Field) -> Any:
    """Files as tensors ``[n, *shape]``.

    Raises:
        DataError: one does not fit.
    """
    rows = []
    for path in files:
        try:
            rows.append(one(field, path.read_bytes()))
        except FileUnfit as error:
            raise DataError(f"The sample's file {path} does not fit: {error}.") from error
    return np.stack(rows)


def _is(path: Path, kind: str) -> bool:
    with path.open("rb") as stream:
        return file_type_of(stream.read(12)).startswith(f"{kind}/")
