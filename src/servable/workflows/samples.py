"""Sample rows for a model, packed, with their true answers where they are known."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.artifact.manifest import SAMPLE_FILE
from servable.artifact.sample import read_sample, read_truth
from servable.artifact.signature import Signature, is_table, names
from servable.errors import DataError
from servable.protocols.files import lone_file
from servable.tensors import Arrays
from servable.workflows.file_samples import folder_files, listed_files
from servable.workflows.sources import need_extra, table_of
from servable.workflows.truths import Owner, truth_of_labels

if TYPE_CHECKING:
    import pandas as pd

#: Most held-out rows that a package keeps for proofs made later.
SAMPLE_ROWS = 2_000


class Sample(NamedTuple):
    """Rows for proofs.

    Attributes:
        rows: packed; None when there are none.
        truth: their true answers, class index int64 or value float64 ``[rows]``; None when not known.
    """

    rows: Arrays | None = None
    truth: NDArray[Any] | None = None


def kept_sample(folder: Path) -> Sample:
    """What a package keeps.

    Raises:
        ArtifactUnreadable: it is damaged.
    """
    if not (folder / SAMPLE_FILE).is_file():
        return Sample()
    return Sample(read_sample(folder), read_truth(folder))


def names_files(sample: Any, target: str | None) -> bool:
    """Whether a sample is a folder of files, or a CSV with a column of paths of pictures or sounds.

    Raises:
        DependencyMissing: it is a CSV, and the extra ``train`` is not installed.
    """
    if not isinstance(sample, str | Path):
        return False
    path = Path(sample)
    if path.is_dir() or path.suffix != ".csv":
        return path.is_dir()
    need_extra()
    from servable.training.tasks.media import is_media

    return is_media(path, target)


def file_sample(
    path: Path, signature: Signature, target: str | None, *, needs_truth: bool, reference: str = "the model"
) -> Sample:
    """Pictures, sounds or texts in a folder, or files that a CSV names; with the truth where it is needed.

    Args:
        path: see ``names_files``. The truth of a folder is in the names of those in it, one for each class.
        signature: of the model. One that takes no files reads a CSV as a table.
        target: of a CSV, the column with the true answers; None for the one that is named as the model's
            answer, or for the only one that it could be.
        needs_truth: whether the truth is needed; then more files are read, and all must have it.
        reference: of the model, for messages.

    Raises:
        DataError: the files do not fit, or the truth is needed and is none of the model's answers.
        FileMissing: a file that is named is not there.
        DependencyMissing: a library for this kind of file is not installed.
    """
    field = lone_file(signature)
    if path.is_dir():
        if len(signature.inputs) == 1 and field is None and signature.inputs[0].kind == "text":
            return _texts(path, signature, needs_truth=needs_truth)
        return _folder_sample(path, signature, needs_truth=needs_truth)
    if field is None:
        return table_sample(path, signature, target, needs_truth=needs_truth)
    most = {"most": SAMPLE_ROWS} if needs_truth else {}
    found = listed_files(
        path, field, target=target, usual=signature.answer.name, labelled=needs_truth, **most
    )
    if not needs_truth:
        return Sample(found.arrays)
    owner = Owner(path.name, reference)
    return Sample(found.arrays, truth_of_labels(found.labels, found.names, owner, signature))


def _texts(folder: Path, signature: Signature, *, needs_truth: bool) -> Sample:
    """Texts in folders of classes as the rows of a table.

    Raises:
        DataError: there are none, or a folder is named after no class while the truth is needed.
    """
    need_extra()
    from servable.training.tasks import text_folders

    frame = text_folders.read_held(folder, signature.inputs[0].name, signature.answer.name)
    return table_sample(frame, signature, None, needs_truth=needs_truth)


def _folder_sample(folder: Path, signature: Signature, *, needs_truth: bool) -> Sample:
    """A folder of pictures or sounds; with one folder for each class the folders' names are the truth.

    Raises:
        DataError: the files do not fit, or the truth is needed and a folder is named after no class.
        DependencyMissing: a library for this kind of file is not installed.
    """
    if not needs_truth:
        return Sample(folder_files(folder, signature).arrays)
    found = folder_files(folder, signature, most=SAMPLE_ROWS)
    classes = {str(label): place for place, label in enumerate(signature.classes)}
    for label in found.labels:
        if label not in classes:
            where = f"the folder {label!r}, which is none" if label else "no folder of a class"
            raise DataError(
                f"The sample {folder} has files in {where} of the model's classes; make one folder for each "
                f"class: {', '.join(list(classes)[:8])}."
            )
    return Sample(found.arrays, np.asarray([classes[label] for label in found.labels], dtype=np.int64))


def table_sample(
    sample: "str | Path | pd.DataFrame", signature: Signature, target: str | None, *, needs_truth: bool
) -> Sample:
    """A table of rows; its target column, if it has one, is the truth.

    Args:
        sample: a CSV or Parquet file, or a DataFrame.
        signature: of the model.
        target: the column with the true answers; None for the one that is named as the model's answer.
        needs_truth: whether the truth is needed.

    Raises:
        DataError: the rows do not fit, or the truth is needed and cannot be read.
    """
    frame, _ = table_of(sample, signature)
    answer = target or signature.answer.name
    inputs = frame if answer in names(signature.inputs) else frame.drop(columns=answer, errors="ignore")
    rows = packed_rows(inputs, signature)
    if rows is None:
        return Sample()
    return Sample(rows, truth_in(frame, signature, answer, needs_truth=needs_truth))


def truth_in(
    frame: "pd.DataFrame", signature: Signature, target: str, *, needs_truth: bool
) -> NDArray[Any] | None:
    """The true answers in a column; None where they are not needed and cannot be read.

    Raises:
        DataError: they are needed, and there is no such column, or a value in it is no answer.
    """
    from servable.training.data import truth_of

    if target in frame.columns:
        frame = frame[[target]].rename(columns={target: signature.answer.name})
    try:
        return truth_of(frame, signature)
    except DataError:
        if needs_truth:
            raise
        return None


def packed_rows(frame: "pd.DataFrame", signature: Signature) -> Arrays | None:
    """Rows of a table in packed form; None for a model whose inputs are no table.

    Raises:
        DataError: they do not fit.
    """
    from servable.frameworks.frame import pack

    if is_table(signature.inputs):
        return pack(frame, signature)
    if len(signature.inputs) == 1 and len(signature.inputs[0].shape) == 1:
        field = signature.inputs[0]
        return {field.name: frame.to_numpy(dtype=field.dtype)}
    return None
