"""Rows whose right answers are known, for ``evaluate``: tables, pictures, sounds, and texts in folders.

Pictures and sounds become tensors a part at a time, as a server would make them: neither all tensors nor a
second form of the data is kept.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import DataError
from servable.inputs.needed import FileUnfit
from servable.inputs.rows import one, row_bytes
from servable.protocols.files import lone_file, words
from servable.tensors import Arrays, row_count, take
from servable.workflows.sources import need_extra, table_of
from servable.workflows.truths import Owner, truth_of_labels

if TYPE_CHECKING:
    import pandas as pd

#: Rows answered in one run of the model; fewer where a row is large.
CHUNK_ROWS = 10_000
_CHUNK_FILES = 256
_CHUNK_BYTES = 32 * 1024 * 1024
_SHOWN = 8


class Labelled(NamedTuple):
    """Rows to be answered, and the right answers.

    Attributes:
        size: how many rows.
        part: some of the rows as arrays for the model.
        truth: class indexes or values ``[rows]``; None for clustering.
        source: a record of where they came from.
        chunk_rows: as many are answered in one run.
    """

    size: int
    part: Callable[[slice], Arrays]
    truth: Any
    source: dict[str, Any]
    chunk_rows: int = CHUNK_ROWS


def labelled(
    data: "str | Path | pd.DataFrame", reference: str, signature: Signature, target: str | None
) -> Labelled:
    """The rows of any form of data that a model is measured on.

    Args:
        data: a table, labelled pictures or sounds, or a folder of class folders of texts.
        reference: of the model, for messages.
        signature: of the model.
        target: the column with the right answers, if it is not named as the model's answer.

    Raises:
        FileMissing: there is no such data.
        DataError: it cannot be read, or does not fit the model.
        DependencyMissing: an extra is not installed.
    """
    need_extra()
    from servable.training.tasks import media, text_folders

    path = Path(data) if isinstance(data, str | Path) else None
    if path is not None and path.exists():
        column = target or signature.answer.name
        if media.is_media(path, column):
            held = media.read_held(path, target=target, usual=signature.answer.name)
            return _of_files(held, path.name, reference, signature)
        if text_folders.is_texts(path):
            return _of_texts(path, reference, signature)
    frame, source = table_of(data, signature)
    if target is not None:
        from servable.training.columns import close_names

        if target not in frame.columns:
            known = [str(name) for name in frame.columns]
            raise DataError(f"The data has no column {target!r}; {close_names(target, known)}")
        frame = frame.rename(columns={target: signature.answer.name})
    return _of_table(frame, source, signature)


def _of_table(frame: "pd.DataFrame", source: dict[str, Any], signature: Signature) -> Labelled:
    from servable.frameworks.frame import pack
    from servable.training.data import truth_of

    truth = truth_of(frame, signature)
    arrays = pack(frame, signature)
    return Labelled(row_count(arrays), lambda where: take(arrays, where), truth, source)


def _of_texts(folder: Path, reference: str, signature: Signature) -> Labelled:
    from servable.frameworks.frame import pack
    from servable.training.tasks import text_folders

    field = signature.inputs[0] if len(signature.inputs) == 1 else None
    if field is None or field.kind != "text" or signature.task != "classification":
        taken = ", ".join(each.name for each in signature.inputs[:_SHOWN])
        raise DataError(
            f"{folder.name} holds texts by class, and {reference} is a {signature.task} of {taken}; give a "
            "table with these columns and the right answers."
        )
    frame = text_folders.read_held(folder, field.name, signature.answer.name)
    labels = frame[signature.answer.name].tolist()
    truth = truth_of_labels(labels, labels, Owner(folder.name, reference), signature)
    arrays = pack(frame, signature)
    source = {"data": folder.name, "rows": len(frame)}
    return Labelled(len(frame), lambda where: take(arrays, where), truth, source)


def _of_files(media: Any, name: str, reference: str, signature: Signature) -> Labelled:
    """Pictures or sounds; ``media`` is a ``training.tasks.media.Media``."""
    field = lone_file(signature)
    if field is None or field.kind != media.medium:
        held = {"image": "pictures", "audio": "sounds"}[media.medium]
        taken = ", ".join(each.name for each in signature.inputs) if field is None else words(field)
        raise DataError(f"{name} holds {held}, and {reference} takes {taken}; give data of that kind.")
    truth = truth_of_labels(media.labels, media.names, Owner(name, reference), signature)
    chunk = max(1, min(_CHUNK_FILES, _CHUNK_BYTES // max(1, row_bytes(field))))
    source = {"data": name, "rows": len(media.files)}

    def part(where: slice) -> Arrays:
        return {field.name: _prepared(field, media.files[where], media.names[where])}

    return Labelled(len(media.files), part, truth, source, chunk)


def _prepared(field: Field, files: Sequence[bytes], names: Sequence[str]) -> Any:
    """Files as the tensors that the model takes.

    Raises:
        DataError: one does not fit; the sentence names it.
    """
    made = np.zeros((len(files), *field.shape), field.dtype)
    for row, (data, name) in enumerate(zip(files, names, strict=True)):
        try:
            made[row] = one(field, data)
        except FileUnfit as error:
            raise DataError(f"{name}: {error}.") from error
    return made
