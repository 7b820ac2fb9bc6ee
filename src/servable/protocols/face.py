"""A signature as named tensors: what all formats that speak in tensors have in common.

A model of tensors shows them as they are. A table shows one input for each column, of shape
``[rows, 1]``; a table of nothing but numbers shows a single input of shape ``[rows, columns]`` and takes
either. An input that takes files is shown as the tensor that they become, and takes ``BYTES``, one file a
row, as well. A classifier shows its labels, and its probabilities beside them. A model with a single input
takes it under any name, because callers of other servers call it what they like.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestTooLarge
from servable.protocols import files
from servable.protocols.base import CodecLimits
from servable.protocols.datatypes import BYTES, datatype_of
from servable.protocols.native_array import WholeArray, number_words, unfit
from servable.protocols.native_schema import (
    MAX_PROBLEMS,
    Problems,
    epoch_seconds,
    expectation,
    membership,
    shown,
)
from servable.tensors import MISSING_STRING, NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Response

#: The name of the one input of a table of numbers.
WHOLE = "input"


class Tensor(NamedTuple):
    """One input or output.

    Attributes:
        name: its name.
        datatype: of the Open Inference Protocol.
        shape: the first axis is the rows; -1 is a free size.
        labels: what the indices of its last axis mean, where that is known.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()


class Face:
    """Named tensors to packed arrays and answers to named tensors. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: more rows are refused.

    Attributes:
        inputs: as they are shown.
        outputs: as they are shown.
    """

    def __init__(self, signature: Signature, limits: CodecLimits | None = None) -> None:
        self._signature = signature
        self._max_rows = (limits or CodecLimits()).max_rows
        self._fields = {field.name: field for field in signature.inputs}
        self._whole = WholeArray.of(signature)
        self._lone_file = files.lone_file(signature) is not None
        self._members = {field.name: membership(field) for field in signature.inputs}
        self._labels = _label_array(signature)
        self.inputs = self._shown_inputs()
        self.outputs = self._shown_outputs()

    def _shown_inputs(self) -> tuple[Tensor, ...]:
        fields = self._signature.inputs
        if self._whole is not None and self._whole.name == NUMBERS:
            return (Tensor(WHOLE, "FP64", (-1, len(fields))),)
        return self.columns(self._signature)

    @staticmethod
    def columns(signature: Signature) -> tuple[Tensor, ...]:
        """Every field of a signature as a tensor of its own."""
        return tuple(
            Tensor(field.name, _shown_datatype(field), _shown_shape(field)) for field in signature.inputs
        )

    def _shown_outputs(self) -> tuple[Tensor, ...]:
        signature = self._signature
        if self._labels is not None:
            labels = tuple(str(label) for label in signature.classes)
            shown = [Tensor(PREDICTION, datatype_of(self._labels.dtype), (-1,))]
            if signature.probabilities:
                shown.append(Tensor(PROBABILITIES, "FP64", (-1, len(labels)), labels))
            return tuple(shown)
        if signature.task == "transform" or any(field.is_tensor for field in signature.outputs):
            return tuple(
                Tensor(field.name, _shown_datatype(field), (-1, *field.shape)) for field in signature.outputs
            )
        datatype = "INT64" if signature.task == "clustering" else "FP64"
        return (Tensor(PREDICTION, datatype, (-1, *signature.answer.shape)),)

    # ------------------------------------------------------------------ inputs

    def request(self, tensors: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Packed arrays and how many rows they hold.

        Args:
            tensors: arrays by name; BYTES as arrays of ``bytes`` or ``str`` objects.

        Raises:
            RequestInvalid: names, shapes, datatypes or values that do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        if self._whole is not None and len(tensors) == 1 and not self._are_files(tensors):
            (name, array), whole = next(iter(tensors.items())), self._whole
            if name not in self._fields or len(self._fields) == 1:
                return self._of_whole(name, array, whole)
        if len(tensors) == 1 and len(self._fields) == 1:
            tensors = dict(zip(self._fields, tensors.values(), strict=True))
        problems = Problems()
        unknown = [name for name in tensors if name not in self._fields]
        # The name of all columns together is right by itself, so what stands beside it is named first; maps
        # of messages have no order of their own.
        for name in sorted(unknown, key=lambda name: (name == WHOLE, name)):
            hint = problems.hint(name, list(self._fields))
            problems.note(name, f"no input of this name{hint}", "this input")
        rows = self._rows_of(tensors, problems)
        columns = {
            field.name: self._column(field, tensors.get(field.name), rows, problems)
            for field in self._signature.inputs
        }
        if problems:
            raise RequestInvalid(problems)
        return self._packed(columns), rows

    def _are_files(self, tensors: Mapping[str, Any]) -> bool:
        """Whether the only input takes files, and files were sent."""
        return self._lone_file and all(array.dtype == object for array in tensors.values())

    def _of_whole(self, name: str, array: Any, whole: WholeArray) -> tuple[dict[str, Any], int]:
        if array.dtype == object:
            problems = Problems()
            problems.note(name, f"the datatype {datatype_of(whole.dtype)}", BYTES)
            raise RequestInvalid(problems)
        array = _laid_out(array, whole.shape)
        whole.check_shape(array.shape, False)
        self.check_count(array.shape[0])
        return {whole.name: whole.checked(whole.cast(array, False), False)}, array.shape[0]

    def _rows_of(self, tensors: Mapping[str, Any], problems: Problems) -> int:
        counts = {name: array.shape[0] if array.ndim else 0 for name, array in tensors.items()}
        rows = next(iter(counts.values()), 0)
        for name, count in counts.items():
            if count != rows:
                problems.note(name, f"{rows} rows as in the first input", f"{count} rows")
        if not rows:
            problems.note("inputs", "at least one row", "none")
        self.check_count(rows)
        return rows

    def check_count(self, rows: int) -> None:
        """Refuse too many rows.

        Raises:
            RequestTooLarge: there are more than allowed.
        """
        if rows > self._max_rows:
            raise RequestTooLarge(
                f"The request holds {rows} rows and {self._max_rows} are allowed; "
                "send them in several requests."
            )

    def _column(self, field: Field, array: Any, rows: int, problems: Problems) -> Any:
        if array is None:
            if field.missing and not field.is_tensor:
                return [MISSING_STRING] * rows if field.array == STRINGS else np.full(rows, np.nan)
            problems.note(field.name, expectation(field), "nothing (the input is missing)")
            return None
        if field.is_tensor:
            return self._tensor(field, array, problems)
        if array.shape not in ((rows,), (rows, 1)):
            problems.note(field.name, f"the shape [{rows}, 1] or [{rows}]", f"{list(array.shape)}")
            return None
        column = array.reshape(rows)
        if field.array == STRINGS:
            return self._texts(field, column, problems)
        return self._numbers(field, column, problems)

    def _tensor(self, field: Field, array: Any, problems: Problems) -> Any:
        texts = field.dtype == "str"
        if field.takes_files and array.dtype == object:
            return self._files(field, array, problems)
        if texts != (array.dtype == object):
            problems.note(field.name, f"the datatype {_shown_datatype(field)}", datatype_of(array.dtype))
            return None
        array = _laid_out(array, field.shape)
        if not texts:
            whole = WholeArray(field.name, field.shape, field.dtype, ())
            try:
                whole.check_shape(array.shape, False)
                return whole.checked(whole.cast(array, False), False)
            except RequestInvalid as error:
                for problem in error.problems:
                    problems.note(field.name + problem.path.removeprefix("inputs").removeprefix("input"),
                                  problem.expected, problem.got)  # fmt: skip
                return None
        fits = array.ndim == 1 + len(field.shape) and all(
            want in (-1, have) for want, have in zip(field.shape, array.shape[1:], strict=True)
        )
        if not fits:
            problems.note(field.name, expectation(field), f"the shape {list(array.shape)}")
            return None
        decoded = np.empty(array.size, object)
        decoded[:] = self._decoded(field, array.ravel(), problems)
        return decoded.reshape(array.shape)

    def _files(self, field: Field, array: Any, problems: Problems) -> Any:
        """Files, one a row: bytes as they are, texts as base64."""
        if not array.ndim or array.size != array.shape[0]:
            problems.note(field.name, f"{files.words(field)} in each row", f"the shape {list(array.shape)}")
            return None
        made: Any = np.empty(array.size, object)
        for row, value in enumerate(array.ravel().tolist()):
            try:
                made[row] = bytes(value) if isinstance(value, bytes) else files.file_of(str(value))
            except ValueError:
                problems.note(f"{field.name}[{row}]", f"{files.words(field)} in base64", "another text")
            else:
                if not made[row]:
                    problems.note(f"{field.name}[{row}]", files.words(field), "an empty file")
        return made

    def _decoded(self, field: Field, column: Any, problems: Problems) -> list[str]:
        texts: list[str] = []
        for index, value in enumerate(column.tolist()):
            try:
                texts.append(value.decode() if isinstance(value, bytes) else str(value))
            except UnicodeDecodeError:
                texts.append("")
                problems.note(f"{field.name}[{index}]", "a text in UTF-8", "other bytes")
        return texts

    def _texts(self, field: Field, column: Any, problems: Problems) -> list[str]:
        if column.dtype != object:
            problems.note(field.name, "the datatype BYTES", datatype_of(column.dtype))
            return []
        texts = self._decoded(field, column, problems)
        member = self._members[field.name]
        if member is not None:
            for index, text in enumerate(texts):
                if problems.full:
                    break
                if not member(text) and not (field.missing and text == MISSING_STRING):
                    hint = problems.hint(text, field.values)
                    problems.note(f"{field.name}[{index}]", expectation(field) + hint, shown(text))
        return texts

    def _numbers(self, field: Field, column: Any, problems: Problems) -> Any:
        if column.dtype == object:
            if field.dtype != "datetime":
                problems.note(field.name, f"the datatype {_shown_datatype(field)}", BYTES)
                return None
            return self._dates(field, column, problems)
        numbers = column.astype(np.float64)
        for row in np.flatnonzero(unfit(field, numbers))[:MAX_PROBLEMS].tolist():
            problems.note(f"{field.name}[{row}]", expectation(field), number_words(float(numbers[row])))
        return numbers

    def _dates(self, field: Field, column: Any, problems: Problems) -> Any:
        seconds = np.full(len(column), np.nan)
        for index, text in enumerate(self._decoded(field, column, problems)):
            if text == MISSING_STRING and field.missing:
                continue
            try:
                seconds[index] = epoch_seconds(text)
            except (ValueError, OverflowError):
                problems.note(f"{field.name}[{index}]", expectation(field), shown(text))
        return seconds

    def _packed(self, columns: dict[str, Any]) -> dict[str, Any]:
        signature = self._signature
        arrays: dict[str, Any] = {}
        if numbers := signature.packed(NUMBERS):
            arrays[NUMBERS] = np.stack([columns[field.name] for field in numbers], axis=1)
        if strings := signature.packed(STRINGS):
            texts = np.empty((len(columns[strings[0].name]), len(strings)), object)
            for index, field in enumerate(strings):
                texts[:, index] = columns[field.name]
            arrays[STRINGS] = texts
        for field in signature.inputs:
            if field.is_tensor:
                arrays[field.name] = columns[field.name]
        return arrays

    # ------------------------------------------------------------------ outputs

    def answers(self, response: Response) -> dict[str, Any]:
        """The outputs of a response by name, in the order in which they are shown.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        arrays = response.arrays
        answer = arrays.get(PREDICTION)
        if answer is None or self._labels is None:
            return dict(arrays)
        outputs = {PREDICTION: self._labels[answer]}
        if (chances := arrays.get(PROBABILITIES)) is not None:
            outputs[PROBABILITIES] = chances
        return outputs


def _laid_out(array: Any, row: tuple[int, ...]) -> Any:
    """Rows of one value each in the axes of the model: clients write the shape as ``[N]`` or ``[N, 1]``.

    Args:
        array: as it came.
        row: the shape of a row of the model.
    """
    if array.ndim == 1 and row in ((1,), (-1,)):
        return array.reshape(-1, 1)
    return array.reshape(-1) if not row and array.ndim == 2 and array.shape[1] == 1 else array


def _label_array(signature: Signature) -> Any:
    """The labels of a classifier as one array; None for other tasks."""
    labels = signature.classes
    if not labels:
        return None
    if all(isinstance(label, bool) for label in labels):
        return np.array(labels, bool)
    if all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        return np.array(labels, np.int64)
    if all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels):
        return np.array(labels, np.float64)
    array = np.empty(len(labels), object)
    array[:] = [str(label) for label in labels]
    return array


def _shown_datatype(field: Field) -> str:
    if field.dtype in ("str", "datetime"):
        return BYTES
    return datatype_of(field.dtype)


def _shown_shape(field: Field) -> tuple[int, ...]:
    return (-1, *field.shape) if field.is_tensor else (-1, 1)
