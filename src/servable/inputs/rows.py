"""The files of whole requests as tensors: what stands between a codec and a model."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from servable.artifact.preparation import AudioInput, ImageInput
from servable.artifact.signature import Field, Signature
from servable.errors import FieldProblem, RequestInvalid, RequestTooLarge
from servable.inputs import audio, image
from servable.inputs.needed import FileUnfit
from servable.tensors import Arrays, row_count

#: So many files that do not fit are named before the rest is no longer looked at.
_MOST_PROBLEMS = 16


def file_fields(signature: Signature) -> tuple[Field, ...]:
    """The inputs for which files may be sent in place of tensors."""
    return tuple(field for field in signature.inputs if field.takes_files)


def raw_files(files: Sequence[bytes]) -> Any:
    """Files as a codec hands them on: an object array ``[rows]`` of bytes."""
    made: Any = np.empty(len(files), object)
    made[:] = files
    return made


class Preparer:
    """Turns the files of one signature's rows into tensors. Immutable, safe to share between threads.

    Args:
        signature: whose fields say how.
        max_bytes: more bytes of tensors from one request are refused; never less than one row takes.
    """

    def __init__(self, signature: Signature, max_bytes: int = 1 << 62) -> None:
        self._fields = {field.name: field for field in file_fields(signature)}
        row = sum(row_bytes(field) for field in self._fields.values())
        self._max_rows = max(1, max_bytes // max(1, row))

    def needed(self, arrays: Arrays) -> bool:
        """Whether any array holds files; tensors need nothing."""
        return any(arrays[name].dtype == object for name in self._fields if name in arrays)

    def check(self, arrays: Arrays) -> None:
        """Look at how much the tensors would take, before any file is opened.

        Raises:
            RequestTooLarge: more than allowed.
        """
        rows = row_count(arrays)
        if rows > self._max_rows:
            raise RequestTooLarge(
                f"The request holds {rows} files and their tensors fit for {self._max_rows}; "
                "send them in several requests."
            )

    def prepared(self, arrays: Arrays) -> dict[str, Any]:
        """The arrays with tensors in place of files; the arrays given are not changed.

        Raises:
            RequestInvalid: files that do not fit; each is named by its field and row.
            RequestTooLarge: see ``check``.
            DependencyMissing: a library for this kind of file is not installed.
        """
        self.check(arrays)
        made, problems = self.look(arrays)
        if problems:
            raise RequestInvalid([problem for _, problem in problems])
        return made

    def look(self, arrays: Arrays) -> tuple[dict[str, Any], list[tuple[int, FieldProblem]]]:
        """The same without an error for files that do not fit: problems with their rows; none of any limit.

        Raises:
            DependencyMissing: a library for this kind of file is not installed.
        """
        made = dict(arrays)
        problems: list[tuple[int, FieldProblem]] = []
        for name, field in self._fields.items():
            files = arrays.get(name)
            if files is not None and files.dtype == object:
                made[name] = _tensors(field, files.tolist(), problems)
        return made, problems


def row_bytes(field: Field) -> int:
    """The bytes that one row of a tensor takes."""
    return math.prod(field.shape) * np.dtype(field.dtype).itemsize


def _tensors(field: Field, files: list[bytes], problems: list[tuple[int, FieldProblem]]) -> Any:
    made = np.zeros((len(files), *field.shape), field.dtype)
    for row, data in enumerate(files):
        try:
            made[row] = one(field, data)
        except FileUnfit as error:
            path = field.name if len(files) == 1 else f"{field.name}[{row}]"
            problems.append((row, FieldProblem(path, error.expected, error.got)))
            if len(problems) >= _MOST_PROBLEMS:
                break
    return made


def one(field: Field, data: bytes) -> Any:
    """The tensor of one file.

    Raises:
        FileUnfit: the file does not fit.
        DependencyMissing: a library for this kind of file is not installed.
    """
    how = field.preparation
    if isinstance(how, ImageInput):
        return image.prepare(data, how, field.dtype)
    if isinstance(how, AudioInput):
        return audio.prepare(data, how, field.dtype)
    raise TypeError(f"{field.name} takes no files")
