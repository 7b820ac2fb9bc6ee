"""What a model answers to its sample, kept in its package where answers are whole arrays.

Later answers are held against them. Answers that are labels or single numbers need none: the evaluation says
what they were.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.manifest import ANSWERS_FILE
from servable.artifact.sample import write_answers
from servable.artifact.signature import STRING_DTYPES
from servable.errors import ServableError
from servable.frameworks import lookup
from servable.frameworks.base import Predictor, Trained
from servable.monitoring.vectors import MOST_ROWS, narrowed
from servable.tensors import Arrays, row_count, stack, take

#: Rows answered in one run.
_CHUNK_ROWS = 32
#: No further run is begun after so many seconds.
_LONG_ENOUGH_S = 20.0


def keep_answers(folder: Path, trained: Trained, form: str, rows: Arrays | None) -> None:
    """Put the trained form's answers to some sample rows into a package that is being made.

    Nothing is kept of a model that answers with labels, texts or single numbers, and of one that does not
    answer its sample; the proof says so.

    Args:
        folder: the package.
        trained: the model.
        form: the format of its trained form.
        rows: the sample, packed; None when there is none.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    # Those of an earlier package may have been copied.
    (folder / ANSWERS_FILE).unlink(missing_ok=True)
    if rows is None or row_count(rows) < 2 or not _answers_arrays(trained):
        return
    size = row_count(rows)
    chosen = np.unique(np.linspace(0, size - 1, min(size, MOST_ROWS)).round().astype(np.int64))
    try:
        answered = _answered(lookup.adapter(form).wrap(trained), rows, chosen)
    except ServableError:
        return
    kept = {name: narrowed(array).astype(np.float32) for name, array in arrays_of(answered).items()}
    if kept:
        write_answers(folder, kept)


def arrays_of(answers: Arrays) -> dict[str, NDArray[Any]]:
    """Those answers that are whole arrays of numbers."""
    return {
        name: array
        for name, array in answers.items()
        if np.ndim(array) > 1 and array.dtype.kind in "biuf" and array.size
    }


def _answers_arrays(trained: Trained) -> bool:
    """Whether any answer is a whole array of numbers. Texts take long to make and are not compared."""
    return any(
        (field.is_tensor or field.shape) and field.dtype not in STRING_DTYPES
        for field in trained.signature.outputs
    )


def _answered(predictor: Predictor, rows: Arrays, chosen: NDArray[np.int64]) -> Arrays:
    parts: list[dict[str, NDArray[Any]]] = []
    begun = time.monotonic()
    try:
        for start in range(0, len(chosen), _CHUNK_ROWS):
            answered = predictor.predict(take(rows, chosen[start : start + _CHUNK_ROWS]))
            # Copied, because a predictor may write its next answer into the same memory.
            parts.append({name: np.array(array) for name, array in answered.items()})
            if time.monotonic() - begun > _LONG_ENOUGH_S:
                break
    finally:
        predictor.close()
    return stack(parts)
