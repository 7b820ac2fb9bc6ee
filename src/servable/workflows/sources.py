"""Data and models as callers hand them in: a path, or an object that is already in memory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.errors import DependencyMissing, FileMissing
from servable.frameworks import python_source
from servable.workflows.rows import frame_of

if TYPE_CHECKING:
    import pandas as pd

    from servable.artifact.signature import Signature

#: The extra without which nothing can be trained, evaluated or compiled.
EXTRA = "train"
#: Frameworks whose models are read and compiled with the libraries of that extra.
FITTED = frozenset({"catboost", "lightgbm", "sklearn", "xgboost"})


def table_of(
    data: Any, signature: "Signature | None" = None, *, names: Sequence[str] = ()
) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """The rows, and a record of where they came from.

    Args:
        data: a CSV or Parquet file, a DataFrame, or other rows in memory; see ``rows.frame_of``.
        signature: of the model that the rows are meant for; it settles how columns are read.
        names: of the columns of rows that have no names; without any the signature is asked.

    Raises:
        FileMissing: there is no such file.
        DataError: it cannot be read as a table.
        DependencyMissing: the extra ``train`` is not installed.
    """
    need_extra()
    from servable.training.data import read_table

    if not isinstance(data, str | Path):
        given = names or ([field.name for field in signature.inputs] if signature is not None else ())
        frame = frame_of(data, given)
        return frame, {"data": "DataFrame", "rows": len(frame)}
    path = Path(data)
    frame = read_table(path, signature=signature)
    return frame, {"data": path.name, "sha256": file_digest(path), "rows": len(frame)}


def need_extra() -> None:
    """Make sure that the training libraries are there.

    Raises:
        DependencyMissing: one of them is not; the message names the extra.
    """
    try:
        import lightgbm  # noqa: F401 - only whether it is there
        import onnx  # noqa: F401 - likewise
        import pandas  # noqa: F401 - likewise
        import sklearn  # noqa: F401 - likewise
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"This needs {missing.name}, which is not installed; run: pip install 'servable[{EXTRA}]'"
        ) from missing


def model_path(path: str | Path) -> Path:
    """The path of an existing model file or folder.

    Raises:
        FileMissing: there is none.
    """
    found = Path(path)
    if not found.exists():
        raise FileMissing(f"{found} is not there; give the path of a model file or folder.")
    return found


def model_digest(path: Path) -> str:
    """SHA-256 in hex of a model file, or of all files of a model folder with their names, in order.

    A model in Python is a file with all that belongs to it.
    """
    if path.suffix == ".py":
        return python_source.digest(python_source.gather(path))
    if path.is_file():
        return file_digest(path)
    whole = hashlib.sha256()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
