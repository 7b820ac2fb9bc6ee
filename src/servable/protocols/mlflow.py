"""MLflow's scoring format, compiled for one signature.

::

    {"dataframe_split": {"columns": [...], "data": [[...], ...]}}  ->  {"predictions": [...]}
    {"dataframe_records": [{...}, ...]}
    {"instances": [row, ...]}
    {"inputs": {column: [...], ...}} or {"inputs": [row, ...]}

Exactly one of the four, and perhaps ``params``; or CSV with a line of names. As there, ``NaN`` is read as
missing, and columns that the model does not know are passed over - but not while a column of the model
is absent, because then the stranger is perhaps that one, misspelled.

``"params": {"probabilities": true}`` asks a classifier for the probabilities by label instead of labels.
Other parameters are accepted and mean nothing, as for every MLflow model that declares none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from servable.artifact.signature import Signature
from servable.errors import MediaTypeUnsupported, RequestInvalid, RequestMalformed, ServableError
from servable.protocols.answers import answer_chances, answer_values, label_key
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.csv_rows import CsvReader
from servable.protocols.json_values import read_json
from servable.protocols.native_schema import Problems, shown
from servable.protocols.rows import RowReader
from servable.tensors import Body, Request, Response

JSON, CSV = "application/json", "text/csv"
#: The keys of which a body has exactly one.
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
PROBABILITIES = "probabilities"
HINT = 'send an object with one of "dataframe_split", "dataframe_records", "instances" and "inputs"'
#: Commas beyond those of the values of a full request: names, indexes, parameters.
_SPARE_COMMAS = 10_000
_encode = msgspec.json.Encoder().encode
NO_NAMES: Mapping[str, str] = MappingProxyType({})


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


class MlflowCodec:
    """MLflow's format for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: what is refused.
    """

    media_type = JSON

    def __init__(self, signature: Signature, limits: CodecLimits | None = None) -> None:
        limits = limits or CodecLimits()
        self.signature = signature
        self.rows = RowReader(signature, limits.max_rows)
        self.csv = CsvReader(signature, self.rows)
        self._forms = Forms(signature)
        self._max_depth = max(
            limits.max_depth, 4 + max((len(field.shape) for field in signature.inputs), default=0)
        )
        free = any(size < 0 for field in signature.inputs for size in field.shape)
        cells = sum(math.prod(field.shape) for field in signature.inputs)
        # Two more for each row: its index, and what separates it.
        self._most_commas = None if free else limits.max_rows * (cells + 2) + _SPARE_COMMAS
        self._labels = signature.classes
        self._keys = tuple(label_key(label) for label in signature.classes)

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request, by the content type; a caller who does not say is believed to send JSON.

        Raises:
            MediaTypeUnsupported: neither JSON nor CSV, or not as UTF-8.
            RequestMalformed: not that, nested too deeply, or in none of the forms.
            RequestInvalid: the values do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        if content_type(head, (JSON, CSV)) == CSV:
            arrays, rows = self.csv.read(body)
            return Request(arrays, rows, request_id, wish=False)
        content = self.parse(body, HINT)
        if not isinstance(content, dict):
            raise RequestMalformed(f"The body is {shown(content)}; {HINT}.")
        asked = self.asked(content)
        arrays = self.rows.read(asked.rows, asked.place, single=asked.single)
        return Request(arrays, len(asked.rows), request_id, wish=asked.probabilities)

    def parse(self, body: Body, hint: str) -> Any:
        """A body of JSON as plain values, ``NaN`` as None.

        Raises:
            RequestMalformed: not JSON, or nested too deeply.
            RequestTooLarge: more values than the allowed rows have.
        """
        return read_json(bytes(body), hint, max_depth=self._max_depth, max_commas=self._most_commas, nan=True)

    def asked(self, content: dict[str, Any]) -> Asked:
        """The rows of a body in one of the four forms.

        Raises:
            RequestMalformed: in none of them, or in several.
            RequestInvalid: a form whose value is not what it should be, or probabilities of a model that
                has none.
        """
        given = [key for key in FORMS if key in content]
        if len(given) != 1:
            what = "holds none of them" if not given else f"holds {' and '.join(given)}"
            raise RequestMalformed(f"The body {what}; {HINT}.")
        params = content.get("params")
        if params is not None and not isinstance(params, dict):
            raise _invalid("params", "an object", shown(params))
        wanted = (params or {}).get(PROBABILITIES)
        if wanted and not self.signature.probabilities:
            raise _invalid(
                f"params.{PROBABILITIES}", "nothing, because the model gives no probabilities", "true"
            )
        return self._forms.readers[given[0]](content[given[0]])._replace(probabilities=bool(wanted))

    def encode(self, response: Response) -> bytes:
        """``{"predictions": [...]}``; NaN and infinity become null.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        return _encode({"predictions": self.answers(response, chances=bool(response.wish))})

    def answers(self, response: Response, *, chances: bool) -> list[Any]:
        """One value for each row: what the model answers, or its probabilities by label.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        found = answer_chances(response.arrays, self._keys) if chances else None
        return answer_values(response.arrays, self._labels) if found is None else found

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As ``error_body``."""
        return error_body(error, request_id)


class Forms:
    """The four forms; each method turns the value of the key of its name into ``Asked``.

    Args:
        signature: what the model takes.
    """

    def __init__(self, signature: Signature) -> None:
        self._names = tuple(field.name for field in signature.inputs)
        self._known = frozenset(self._names)
        only = signature.inputs[0] if len(self._names) == 1 else None
        self._bare = only is not None and only.kind == "tensor"
        #: Whether a row is a single value, which may stand without brackets around it.
        self._lone = only is not None and (only.kind != "tensor" or only.shape == (1,))
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
            raise _invalid(place, 'an object {"columns": [...], "data": [[...], ...]}', shown(value))
        data = _list(value.get("data"), f"{place}.data")
        columns = value.get("columns")
        if columns is None:
            return Asked(self._rows(data), f"{place}.data")
        columns = _list(columns, f"{place}.columns")
        # A frame without names counts its columns. The columns of a frame for a model of one tensor are
        # the tensor's values, unless the only one is the tensor.
        same = tuple(columns) == self._names
        if not same if self._bare else same or columns == list(range(len(columns))):
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
        raise _invalid("inputs", "an object of columns or a list of rows", shown(value))

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


def _list(value: Any, place: str) -> list[Any]:
    if isinstance(value, list):
        return value
    raise _invalid(place, "a list", "nothing (it is missing)" if value is None else shown(value))


def _invalid(path: str, expected: str, got: str) -> RequestInvalid:
    problems = Problems()
    problems.note(path, expected, got)
    return RequestInvalid(problems)


def content_type(head: Head, known: Sequence[str], others: Mapping[str, str] = NO_NAMES) -> str:
    """The content type of a body, one of the known; the first one when the caller does not say.

    Args:
        head: the request's headers.
        known: what may come.
        others: other names for them.

    Raises:
        MediaTypeUnsupported: another one, a charset that is not UTF-8, or any other parameter.
    """
    given, *parameters = head.get(b"content-type", b"").decode("latin-1").lower().split(";")
    plain = given.strip() or known[0]
    plain = others.get(plain, plain)
    if plain not in known:
        raise MediaTypeUnsupported(
            f"The content type is none of {', '.join(known)}; send one of them as Content-Type."
        )
    for parameter in parameters:
        if parameter.strip().replace('"', "").replace(" ", "") not in ("charset=utf-8", ""):
            raise MediaTypeUnsupported(
                "The only parameter of Content-Type that is read is charset=utf-8; send UTF-8 and leave "
                "the others out."
            )
    return plain


#: MLflow's words for our codes; what is not here is INTERNAL_ERROR.
_CODES = {
    "invalid_request": "BAD_REQUEST",
    "malformed_request": "BAD_REQUEST",
    "invalid_input": "BAD_REQUEST",
    "poison_request": "BAD_REQUEST",
    "request_too_large": "BAD_REQUEST",
    "headers_too_large": "BAD_REQUEST",
    "unsupported_media_type": "BAD_REQUEST",
    "host_refused": "BAD_REQUEST",
    "request_timeout": "REQUEST_LIMIT_EXCEEDED",
    "conflict": "INVALID_STATE",
    "method_not_allowed": "BAD_REQUEST",
    "route_not_found": "ENDPOINT_NOT_FOUND",
    "model_not_found": "RESOURCE_DOES_NOT_EXIST",
    "version_not_found": "RESOURCE_DOES_NOT_EXIST",
    "not_found": "NOT_FOUND",
    "overloaded": "TEMPORARILY_UNAVAILABLE",
    "deadline_exceeded": "DEADLINE_EXCEEDED",
    "unavailable": "TEMPORARILY_UNAVAILABLE",
    "model_not_ready": "TEMPORARILY_UNAVAILABLE",
    "model_died": "TEMPORARILY_UNAVAILABLE",
    "server_stopping": "TEMPORARILY_UNAVAILABLE",
}


def error_body(error: ServableError, request_id: str) -> bytes:
    """``{"error_code", "message", "request_id"}``; the message names the first of several problems."""
    code = _CODES.get(error.code, "INTERNAL_ERROR")
    return _encode({"error_code": code, "message": _message(error), "request_id": request_id})


def _message(error: ServableError) -> str:
    """All problems of an invalid request in one sentence, because there is no other place for them."""
    if not isinstance(error, RequestInvalid) or len(error.problems) == 1:
        return error.message
    listed = "; ".join(str(problem) for problem in error.problems[:10])
    more = len(error.problems) - 10
    return listed + (f"; and {more} more" if more > 0 else "")
