"""Records of features, ``tf.Example``, to packed arrays: what ``Classify`` and its like are asked with.

A feature is a list of texts, of floats or of whole numbers under the name of an input. A column takes a list
of one value; a tensor takes its values in row-major order, because a feature has no shape; an input that
takes files takes one file. What no feature names is missing, as an empty list is. Truth values are the whole
numbers 0 and 1, because there is no feature of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestTooLarge
from servable.protocols.base import CodecLimits
from servable.protocols.face import WHOLE, Face
from servable.protocols.native_schema import Problems, counted, expectation, joined
from servable.tensors import MISSING_STRING, STRINGS

_TEXTS, _FLOATS, _WHOLES = "bytes_list", "float_list", "int64_list"
_WORDS = {_TEXTS: "texts", _FLOATS: "floats", _WHOLES: "whole numbers"}
_PLACE = "examples"


class Examples:
    """Reads records of features for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes.
        limits: most rows, and most bytes of a context once it stands in every row.
    """

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._face = Face(signature, limits)
        self._most_bytes = limits.max_bytes
        self._fields = {field.name: field for field in signature.inputs}
        self._whole = self._face.inputs[0].name == WHOLE and WHOLE not in self._fields

    def read(self, given: Any) -> tuple[dict[str, Any], int]:
        """Packed arrays, and how many rows they hold.

        Args:
            given: an ``Input`` message.

        Raises:
            RequestInvalid: features that do not fit; every problem is named.
            RequestTooLarge: more rows than allowed, or a context too large for as many.
        """
        rows = self._rows(given)
        problems = Problems()
        if not rows:
            problems.note(_PLACE, "at least one example", "none")
            raise RequestInvalid(problems)
        names = dict.fromkeys(sorted({name for row in rows for name in row}))
        if len(names) == 1 and not self._fields.keys() & names.keys():
            (name,) = names
            if self._whole:
                return self._face.request({name: _flat(name, [row.get(name, ()) for row in rows])})
            if len(self._fields) == 1:
                rows = [{only: row[name]} if name in row else {} for row in rows for only in self._fields]
                names = dict.fromkeys(self._fields)
        for name in names:
            if name not in self._fields:
                hint = problems.hint(name, list(self._fields))
                problems.note(joined(_PLACE, name), f"no input of this name{hint}", "a feature")
        tensors = {
            name: _array(field, [row.get(name) for row in rows], problems)
            for name, field in self._fields.items()
            if name in names or not field.missing or field.is_tensor
        }
        if problems:
            raise RequestInvalid(problems)
        return self._face.request(tensors) if tensors else self._nothing(len(rows))

    def _rows(self, given: Any) -> list[dict[str, Any]]:
        """The features of every example by name, those of the context included."""
        kind = given.WhichOneof("kind")
        if kind is None:
            return []
        held = getattr(given, kind)
        self._face.check_count(len(held.examples))
        shared = dict(held.context.features.feature) if kind == "example_list_with_context" else {}
        if shared and held.context.ByteSize() * len(held.examples) > self._most_bytes:
            raise RequestTooLarge(
                f"The context unfolds to more than the {self._most_bytes} bytes that are allowed; "
                "send fewer examples at once."
            )
        return [{**shared, **example.features.feature} for example in held.examples]

    def _nothing(self, rows: int) -> tuple[dict[str, Any], int]:
        """As ``read``, of rows that leave out every column of a model that allows it."""
        field = next(iter(self._fields.values()))
        missing: Any = np.full(rows, np.nan)
        if field.array == STRINGS:
            missing = np.full(rows, MISSING_STRING, object)
        return self._face.request({field.name: missing})


def _values(feature: Any) -> tuple[str, Sequence[Any]]:
    """The kind of a feature and its values; no kind when there are none."""
    kind: str | None = feature.WhichOneof("kind") if feature is not None else None
    if not kind:
        return "", ()
    values: Sequence[Any] = getattr(feature, kind).value
    return (kind, values) if values else ("", ())


def _flat(name: str, features: Sequence[Any]) -> Any:
    """A whole table of numbers: ``[rows, values]``.

    Raises:
        RequestInvalid: features that are no numbers, or not all as long.
    """
    rows = [_values(feature or None) for feature in features]
    problems = Problems()
    for index, (kind, values) in enumerate(rows):
        if kind == _TEXTS or len(values) != len(rows[0][1]):
            expected = f"a list of {counted(len(rows[0][1]), 'number')}, as in the first example"
            got = _WORDS[_TEXTS] if kind == _TEXTS else counted(len(values), "value")
            problems.note(joined(f"{_PLACE}[{index}]", name), expected, got)
    if problems:
        raise RequestInvalid(problems)
    return np.array([list(values) for _, values in rows], np.float64)


def _array(field: Field, features: Sequence[Any], problems: Problems) -> Any:
    """The values of one input in all rows as an array; what is wrong is noted."""
    noted = len(problems)
    size = _size(field)
    rows: list[Sequence[Any]] = []
    kinds: set[str] = set()
    for index, feature in enumerate(features):
        kind, values = _values(feature)
        want = size if size is not None else len(rows[0]) if rows else len(values)
        if not kind and field.missing and not field.is_tensor:
            rows.append((None,))
            continue
        if not kind or len(values) != want:
            got = f"a list of {counted(len(values), 'value')}" if kind else "nothing (the feature is missing)"
            expected = expectation(field) + ("" if want == 1 else f": a list of {counted(want, 'value')}")
            problems.note(joined(f"{_PLACE}[{index}]", field.name), expected, got)
            continue
        kinds.add(kind)
        if (kind == _TEXTS and len(kinds) > 1) or (kind != _TEXTS and _TEXTS in kinds):
            problems.note(
                joined(f"{_PLACE}[{index}]", field.name), "one kind of list in all rows", _WORDS[kind]
            )
        rows.append(values)
    if len(problems) > noted:
        return None
    return _shaped(field, _packed(field, rows, kinds), len(rows))


def _size(field: Field) -> int | None:
    """How many values a row has; None where that is free."""
    if not field.is_tensor or field.takes_files:
        return None if field.takes_files else 1
    return None if min(field.shape, default=0) < 0 else int(np.prod(field.shape, dtype=np.int64))


def _packed(field: Field, rows: Sequence[Sequence[Any]], kinds: set[str]) -> Any:
    """The values of all rows as ``[rows, values]``, None as what a missing value is."""
    if _TEXTS in kinds or (not kinds and field.array == STRINGS):
        texts: Any = np.empty((len(rows), len(rows[0])), object)
        for index, row in enumerate(rows):
            texts[index] = [MISSING_STRING if value is None else value for value in row]
        return texts
    missing = any(row[0] is None for row in rows)
    whole = kinds == {_WHOLES} and not missing
    plain = [[np.nan if value is None else value for value in row] for row in rows]
    array: Any = np.array(plain, np.int64 if whole else np.float64)
    truths = field.is_tensor and field.dtype == "bool" and whole and bool(((array == 0) | (array == 1)).all())
    return array.astype(bool) if truths else array


def _shaped(field: Field, array: Any, rows: int) -> Any:
    """The array with the axes of its input, where its number of values says what they are."""
    if not field.is_tensor or (field.takes_files and array.dtype == object):
        return array
    free = sum(axis < 0 for axis in field.shape)
    known = int(np.prod([axis for axis in field.shape if axis >= 0], dtype=np.int64))
    if free > 1 or (free and (not known or array.shape[1] % known)):
        return array
    return array.reshape((rows, *field.shape)) if array.size == rows * known or free else array
