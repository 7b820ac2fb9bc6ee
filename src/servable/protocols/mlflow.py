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
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from servable.artifact.signature import Signature
from servable.errors import MediaTypeUnsupported, RequestInvalid, RequestMalformed, ServableError
from servable.protocols.answers import answer_chances, answer_values, label_key
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.csv_rows import CsvReader
from servable.protocols.json_values import read_json, undisturbed
from servable.protocols.mlflow_forms import FORMS, Asked, Forms, invalid, typed_decoder
from servable.protocols.native_depth import more_commas_than
from servable.protocols.native_large import LARGE_BYTES
from servable.protocols.native_schema import shown
from servable.protocols.rows import RowReader
from servable.tensors import Body, Request, Response

JSON, CSV = "application/json", "text/csv"
PROBABILITIES = "probabilities"
HINT = 'send an object with one of "dataframe_split", "dataframe_records", "instances" and "inputs"'
#: Commas beyond those of the values of a full request: names, indexes, parameters.
_SPARE_COMMAS = 10_000
_encode = msgspec.json.Encoder().encode
NO_NAMES: Mapping[str, str] = MappingProxyType({})


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
        self.csv = CsvReader(signature, self.rows, "rows")
        self._forms = Forms(signature)
        self._max_depth = max(
            limits.max_depth, 4 + max((len(field.shape) for field in signature.inputs), default=0)
        )
        free = any(size < 0 for field in signature.inputs for size in field.shape)
        cells = sum(math.prod(field.shape) for field in signature.inputs)
        # Two more for each row: its index, and what separates it.
        self._most_commas = None if free else limits.max_rows * (cells + 2) + _SPARE_COMMAS
        self._typed = None if self.rows.types is None else typed_decoder(*self.rows.types)
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
        body = bytes(body)
        found = self.read_typed(body)
        if found is not None:
            return Request(*found, request_id, wish=False)
        content = self.parse(body, HINT)
        if not isinstance(content, dict):
            raise RequestMalformed(f"The body is {shown(content)}; {HINT}.")
        asked = self.asked(content)
        arrays = self.rows.read(asked.rows, asked.place, single=asked.single)
        return Request(arrays, len(asked.rows), request_id, wish=asked.probabilities)

    def read_typed(self, body: bytes) -> tuple[dict[str, Any], int] | None:
        """Packed arrays and their rows by a compiled decoder; None when anything at all is unusual.

        Raises:
            RequestTooLarge: more rows than allowed.
        """
        if self._typed is None or (
            len(body) >= LARGE_BYTES
            and self._most_commas is not None
            and more_commas_than(body, self._most_commas)
        ):
            return None
        try:
            content = undisturbed(self._typed, body)
            given = [rows for rows in content.forms if rows is not msgspec.UNSET]
            if len(given) != 1:
                return None
            rows = given[0]
            if content.dataframe_split is rows:
                if self._forms.reordered(rows.columns):
                    return None
                rows = rows.data
            if not rows:
                return None
            self.rows.check_count(len(rows))
            return self.rows.pack(rows), len(rows)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            # ValueError: a value that is no date or no member, or a ragged tensor.
            return None

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
            raise invalid("params", "an object", shown(params))
        wanted = (params or {}).get(PROBABILITIES)
        if wanted and not self.signature.probabilities:
            raise invalid(
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
    "limit_reached": "REQUEST_LIMIT_EXCEEDED",
    "rate_limited": "REQUEST_LIMIT_EXCEEDED",
    "concurrency_limited": "REQUEST_LIMIT_EXCEEDED",
    "quota_exhausted": "REQUEST_LIMIT_EXCEEDED",
    "too_many_failures": "REQUEST_LIMIT_EXCEEDED",
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
