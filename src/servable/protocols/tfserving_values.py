"""The values in bodies of TensorFlow Serving: rows and columns, base64, and numbers that JSON does not have.

Callers written for saved models send a scalar column as a list of one value, as its shape ``[rows, 1]``
says; a text as ``{"b64": ...}``; a table of numbers as one tensor; and the only input under whatever name
it had elsewhere. All of it is taken to what ``RowReader`` reads.
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from servable.artifact.signature import Signature
from servable.errors import FieldProblem, RequestInvalid, RequestMalformed
from servable.protocols.base import CodecLimits
from servable.protocols.files import takes_files
from servable.protocols.json_values import has_constants, read_json
from servable.protocols.native_schema import Problems, expectation, joined, shown
from servable.protocols.rows import RowReader
from servable.tensors import NUMBERS, Body

#: In columns NaN is what is missing; in tensors it is a value of its own, as infinity is. Then the body is
#: read twice, with numbers that any tensor holds in their place: where the readings differ, the second says
#: which it was.
_FIRST: Mapping[str, Any] = {"NaN": 0.0, "Infinity": 0.0, "-Infinity": 0.0}
_SECOND: Mapping[str, Any] = {"NaN": 1.0, "Infinity": 2.0, "-Infinity": 3.0}
_MEANT = np.array([0.0, math.nan, math.inf, -math.inf])
_PLACE = re.compile(r"\[(\d+)\](?:\[(\d+)\])?")


class Values:
    """Reads rows and columns for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes.
        limits: what is refused.
        wanted: what should be sent, as the end of a message.
    """

    def __init__(self, signature: Signature, limits: CodecLimits, wanted: str) -> None:
        self.rows = RowReader(signature, limits.max_rows)
        self._fields = {field.name: field for field in signature.inputs}
        self._names = tuple(self._fields)
        self._columns = frozenset(field.name for field in signature.inputs if not field.is_tensor)
        self._wanted = wanted
        # The body, its lists of rows, the row, a value in a list of its own, and the axes of a tensor within.
        self._max_depth = max(
            limits.max_depth, 4 + max((len(field.shape) for field in signature.inputs), default=0)
        )
        plain = (
            bool(self._columns)
            and not signature.packed("strings")
            and len(signature.packed(NUMBERS)) == len(self._names)
        )
        #: Whether the rows may stand under any one name: a single input, or a table shown as one tensor.
        self._any_name = len(self._names) == 1 or plain
        self._files = takes_files(signature)
        self._floats = all(field.is_tensor and field.dtype.startswith("float") for field in signature.inputs)

    # ------------------------------------------------------------------ the body

    def readings(self, body: bytes) -> list[Any]:
        """A body as plain values; read twice when it holds NaN or infinity for a tensor, see ``combined``.

        Raises:
            RequestMalformed: not JSON, or nested too deeply.
        """
        if self._floats and has_constants(body):
            return [self._parsed(body, _FIRST), self._parsed(body, _SECOND)]
        return [self._parsed(body)]

    def objects(self, body: bytes) -> list[dict[str, Any]]:
        """As ``readings``, of a body that must be an object.

        Raises:
            RequestMalformed: also when it is none.
        """
        read = self.readings(body)
        if not isinstance(read[0], dict):
            raise RequestMalformed(f"The body is {shown(read[0])}; {self._wanted}.")
        return read

    def _parsed(self, body: bytes, constants: Mapping[str, Any] | None = None) -> Any:
        depth = self._max_depth
        if constants is None:
            content = read_json(body, self._wanted, max_depth=depth, nan=True)
        else:
            content = read_json(body, self._wanted, max_depth=depth, nan=True, constants=constants)
        return _without_base64(content, files=self._files) if b'"b64"' in body else content

    # ------------------------------------------------------------------ rows

    def read_rows(
        self, rows: Any, place: str, problems: Problems, *, single: bool = False
    ) -> tuple[dict[str, Any], int]:
        """Packed arrays of a list of rows, and how many they are.

        Args:
            rows: as parsed.
            place: where they stand.
            problems: those that are known already.
            single: whether the only row stands at the place itself, and not in a list there.

        Raises:
            RequestInvalid: values that do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        if not isinstance(rows, list):
            problems.note(place, "a list of rows", shown(rows))
            raise RequestInvalid(problems)
        self.rows.check_count(len(rows))
        plain = [self._plain_row(row) for row in rows]
        if problems:
            return self.rows.read_exactly(plain, place, problems, single=single), len(rows)
        return self.rows.read(plain, place, single=single), len(rows)

    def _plain_row(self, row: Any) -> Any:
        if not self._columns:
            return self._unnamed(row) if self._files else row
        if isinstance(row, dict):
            if self._any_name and len(row) == 1 and not self._fields.keys() & row.keys():
                (value,) = row.values()
                # A single value in place of several columns is better named as what it is.
                if len(self._names) == 1 or isinstance(value, list):
                    return self._plain_row(value)
            return {
                name: _scalar(_as_text(value)) if name in self._columns else value
                for name, value in row.items()
            }
        return [row] if len(self._names) == 1 and not isinstance(row, list) else row

    def _unnamed(self, row: Any) -> Any:
        """A row whose only file stands under a name of its caller's choice; other rows as they are."""
        if (
            isinstance(row, dict)
            and len(row) == len(self._names) == 1
            and not self._fields.keys() & row.keys()
        ):
            (value,) = row.values()
            return value if isinstance(value, str | bytes) else row
        return row

    # ------------------------------------------------------------------ columns

    def read_columns(self, tensors: Any, place: str, problems: Problems) -> tuple[dict[str, Any], int]:
        """Packed arrays of one tensor or of tensors by name, and how many rows they hold; see there."""
        if isinstance(tensors, dict):
            if self._any_name and len(tensors) == 1:
                name, rows = next(iter(tensors.items()))
                if name not in self._fields or len(self._names) == 1:
                    return self.read_rows(rows, joined(place, name), problems)
            return self._read_named(tensors, place, problems)
        return self.read_rows(tensors, place, problems)

    def _read_named(
        self, tensors: dict[str, Any], place: str, problems: Problems
    ) -> tuple[dict[str, Any], int]:
        absent = [name for name in self._names if name not in tensors]
        for name, values in tensors.items():
            if name not in self._fields:
                hint = problems.hint(name, absent)
                problems.note(joined(place, name), f"no input of this name{hint}", shown(values))
            elif not isinstance(values, list):
                problems.note(joined(place, name), "a list with one value for each row", shown(values))
        present = {name: tensors[name] for name in self._names if isinstance(tensors.get(name), list)}
        count = len(next(iter(present.values()), ()))
        self.rows.check_count(count)
        for name, values in present.items():
            if len(values) != count:
                problems.note(joined(place, name), f"a list as long as the first, {count}", shown(values))
        for name in absent:
            field = self._fields[name]
            if not field.missing or field.is_tensor:
                problems.note(joined(place, name), expectation(field), "nothing (the input is missing)")
            present[name] = [None] * count
        if problems:
            raise RequestInvalid(problems)
        columns = (
            map(_scalar, present[name]) if name in self._columns else present[name] for name in self._names
        )
        try:
            return self.rows.read(list(map(list, zip(*columns, strict=True))), place), count
        except RequestInvalid as error:
            raise RequestInvalid([self._by_column(problem, place) for problem in error.problems]) from None

    def _by_column(self, problem: FieldProblem, place: str) -> FieldProblem:
        """A problem at ``inputs[row][column]`` named as the caller wrote it: ``inputs.name[row]``."""
        found = _PLACE.match(problem.path, len(place))
        if found is None or found[2] is None:
            return problem
        path = f"{joined(place, self._names[int(found[2])])}[{found[1]}]{problem.path[found.end() :]}"
        return problem._replace(path=path)


def plain_bytes(body: Body) -> bytes:
    """A body as bytes; a copy of a view costs little beside the parsing of as much text."""
    return body if type(body) is bytes else bytes(body)


def combined(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """The packed arrays of a body from those of its readings."""
    if len(readings) == 1:
        return readings[0]
    first, second = readings
    merged = {}
    for name, array in first.items():
        odd = array != second[name]
        merged[name] = np.where(odd, _MEANT[np.where(odd, second[name], 0).astype(np.int8)], array).astype(
            array.dtype
        )
    return merged


def as_base64(value: Any) -> Any:
    """A text or bytes as ``{"b64": ...}``, within lists as well; everything else as it is."""
    if isinstance(value, list):
        return [as_base64(each) for each in value]
    if isinstance(value, str):
        value = value.encode()
    return {"b64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _as_text(value: Any) -> Any:
    """What base64 held, for a column of a model that takes files in others."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestInvalid(
            [FieldProblem("b64", "a text in UTF-8, written in base64", "other bytes")]
        ) from error


def _scalar(value: Any) -> Any:
    """The value of a column, which may stand in a list of its own."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _without_base64(value: Any, path: str = "", *, files: bool = False) -> Any:
    """Plain values in which every ``{"b64": text}`` has become the text, or the bytes, that it holds."""
    if isinstance(value, list):
        return [_without_base64(each, f"{path}[{index}]", files=files) for index, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(value.get("b64"), str):
        try:
            held = base64.b64decode(value["b64"], validate=True)
            return held if files else held.decode()
        except (binascii.Error, UnicodeDecodeError, ValueError) as error:
            wanted = "a file in base64" if files else "a text in UTF-8, written in base64"
            problem = FieldProblem(f"{path}.b64", wanted, shown(value["b64"]))
            raise RequestInvalid([problem]) from error
    return {
        key: _without_base64(each, joined(path, key).lstrip("."), files=files) for key, each in value.items()
    }
