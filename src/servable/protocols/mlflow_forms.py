"""The four forms in which MLflow's bodies hold rows, for one signature."""

from collections.abc import Callable, Sequence
from types import GenericAlias
from typing import Any, NamedTuple

import msgspec

from servable.artifact.signature import Signature
from servable.errors import RequestInvalid
from servable.protocols.native_schema import Problems, shown

#: The keys of which a body has exactly one.
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Asked(NamedTuple):
    """Rows as a body gives them.

    Attributes:
        rows: objects or lists.
        place: what stands before a row in the paths of problems.
        probabilities: whether they are asked for.
        single: whether the only row stands at the place itself.
    """

    rows: list[Any]
    place: str
    probabilities: bool = False
    single: bool = False


class Forms:
    """The four forms; each method turns the value of the key of its name into ``Asked``.

    Args:
        signature: what the model takes.
    """

    def __init__(self, signature: Signature) -> None:
        self._names = tuple(field.name for field in signature.inputs)
        self._known = frozenset(self._names)
        only = signature.inputs[0] if len(self._names) == 1 else None
        self._bare = only is not None and only.is_tensor
        #: Whether a row is a single value, which may stand without brackets around it.
        self._lone = only is not None and (not only.is_tensor or only.shape == (1,))
        #: By key.
        self.readers: dict[str, Callable[[Any], Asked]] = {
            "dataframe_split": self.dataframe_split,
            "dataframe_records": self.dataframe_records,
            "instances": self.instances,
            "inputs": self.inputs,
        }

    def dataframe_split(self, value: Any) -> Asked:
        """Names and lists of values: a pandas frame, oriented ``split``."""
        place = "dataframe_split"
        if not isinstance(value, dict):
            raise invalid(place, 'an object {"columns": [...], "data": [[...], ...]}', shown(value))
        data = _list(value.get("data"), f"{place}.data")
        columns = value.get("columns")
        if columns is None:
            return Asked(self._rows(data), f"{place}.data")
        columns = _list(columns, f"{place}.columns")
        # A frame without names counts its columns. The columns of a frame for a model of one tensor are
        # the values of the tensor, unless the only one is the tensor itself.
        if not self.reordered(columns):
            return Asked(data, f"{place}.data")
        problems = Problems()
        names = [name if isinstance(name, str) else str(name)[:40] for name in columns]
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name in self._known and name in seen:
                problems.note(f"{place}.columns[{index}]", "each column once", f'"{name[:40]}" again')
            seen.add(name)
        for index, row in enumerate(data):
            if not isinstance(row, list) or len(row) != len(names):
                problems.note(f"{place}.data[{index}]", f"a list of {len(names)} values", shown(row))
        if problems:
            raise RequestInvalid(problems)
        rows = [dict(zip(names, row, strict=True)) for row in data]
        return Asked(self._trimmed(rows), f"{place}.data")

    def reordered(self, columns: list[Any]) -> bool:
        """Whether the values of a row are not simply its values in the order of the signature."""
        same = tuple(columns) == self._names
        return same if self._bare else not same and columns != list(range(len(columns)))

    def dataframe_records(self, value: Any) -> Asked:
        """Objects by column name: a pandas frame, oriented ``records``."""
        rows = _list(value, "dataframe_records")
        problems = Problems()
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                problems.note(f"dataframe_records[{index}]", "an object by column name", shown(row))
        if problems:
            raise RequestInvalid(problems)
        return Asked(self._trimmed(rows), "dataframe_records")

    def instances(self, value: Any) -> Asked:
        """One entry for each row, as TensorFlow Serving takes them."""
        return Asked(self._rows(_list(value, "instances")), "instances")

    def inputs(self, value: Any) -> Asked:
        """Whole columns by name, or rows."""
        if isinstance(value, dict):
            return self._of_columns(value)
        if isinstance(value, list):
            return Asked(self._rows(value), "inputs")
        if len(self._names) == 1 and value is not None:
            return Asked([[value] if self._lone else value], "inputs", single=True)
        raise invalid("inputs", "an object of columns or a list of rows", shown(value))

    def _of_columns(self, value: dict[str, Any]) -> Asked:
        (value,) = self._trimmed([value])
        known = {name: column for name, column in value.items() if name in self._known}
        if known and not any(isinstance(column, list) for column in known.values()):
            return Asked([value], "inputs", single=True)
        counts = {len(column) for column in known.values() if isinstance(column, list)}
        problems = Problems()
        for name, column in value.items():
            if name in known and not isinstance(column, list):
                problems.note(f"inputs.{name}", "a list, one value for each row", shown(column))
            elif name in known and len(counts) > 1:
                problems.note(f"inputs.{name}", "as many values as in the other columns", shown(column))
        if problems:
            raise RequestInvalid(problems)
        rows = [dict(zip(known, row, strict=True)) for row in zip(*known.values(), strict=True)]
        # What is no column is kept in one row, so that it is told as one that does not exist.
        strangers = {name: column for name, column in value.items() if name not in known}
        if strangers or not known:
            rows[:1] = [{**(rows[0] if rows else {}), **strangers}]
        return Asked(rows, "inputs")

    def _rows(self, rows: list[Any]) -> list[Any]:
        """Rows in which a single value may stand without brackets around it."""
        if self._lone:
            return self._trimmed([row if isinstance(row, list | dict) else [row] for row in rows])
        return self._trimmed(rows)

    def _trimmed(self, rows: Sequence[Any]) -> list[Any]:
        """Rows without the columns that the model does not know, where none of its own is absent."""
        known = self._known
        return [
            {name: row[name] for name in self._names}
            if type(row) is dict and len(row) > len(known) and row.keys() >= known
            else row
            for row in rows
        ]


class _Body(msgspec.Struct):
    """What the compiled bodies have in common."""

    @property
    def forms(self) -> tuple[Any, ...]:
        """The values of all forms."""
        return tuple(getattr(self, key) for key in FORMS)


def typed_decoder(named: Any, row: Any) -> Callable[[bytes], Any]:
    """The compiled decoder of the usual bodies: one form, rows in the order of the signature or by name.

    Args:
        named: the type of a row given as an object.
        row: the type of any row.
    """
    rows: Any = GenericAlias(list, (row,))
    labels: Any = list[str | int | float]
    # What is not named here makes the body an unusual one, ``params`` too.
    split = msgspec.defstruct(
        "Split",
        [("columns", list[str | int]), ("data", rows), ("index", labels, None)],
        forbid_unknown_fields=True,
        gc=False,
    )
    kinds = {"dataframe_split": split, "dataframe_records": GenericAlias(list, (named,))}
    body = msgspec.defstruct(
        "Body",
        [(key, kinds.get(key, rows) | msgspec.UnsetType, msgspec.UNSET) for key in FORMS],
        bases=(_Body,),
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(body).decode


def _list(value: Any, place: str) -> list[Any]:
    if isinstance(value, list):
        return value
    raise invalid(place, "a list", "nothing (it is missing)" if value is None else shown(value))


def invalid(path: str, expected: str, got: str) -> RequestInvalid:
    """One problem as an error."""
    problems = Problems()
    problems.note(path, expected, got)
    return RequestInvalid(problems)
