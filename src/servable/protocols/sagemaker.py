"""What the address ``/invocations`` takes: MLflow's forms and those of a SageMaker container, told apart.

===========================  ===============================================================
content type                 body
===========================  ===============================================================
``application/json``         one of MLflow's forms; or a plain list of rows, or ``{"features": [...]}``
``text/csv``                 rows, with a line of column names or without one
``application/jsonlines``    one row a line, plain or as ``{"features": [...]}``
``application/x-npy``        one array as ``numpy.save`` writes it, rows on the first axis
===========================  ===============================================================

``Accept`` decides the form of the answer: JSON, JSON lines, CSV or npy. When it leaves that open, a list
is answered with a list, JSON lines with JSON lines, and everything else with ``{"predictions": [...]}``.

SageMaker hands two headers through that are given back as they came, if there is nothing special in
them: ``X-Amzn-SageMaker-Custom-Attributes`` and ``X-Amzn-SageMaker-Inference-Id``. The attribute
``probabilities=true`` asks a classifier for its probabilities.
"""

import csv
import io
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.signature import Signature
from servable.errors import (
    FieldProblem,
    MediaTypeUnsupported,
    RequestInvalid,
    RequestMalformed,
    ServableError,
)
from servable.protocols.accept import preferred
from servable.protocols.answers import answer_values
from servable.protocols.base import (
    HEAVY_BYTES,
    NO_HEAD,
    CodecLimits,
    Encoded,
    Head,
    Heavy,
    media_type_of,
)
from servable.protocols.codecs import NPY, native_codecs
from servable.protocols.mlflow import CSV, JSON, MlflowCodec, content_type
from servable.protocols.mlflow_forms import FORMS, Asked
from servable.protocols.native_schema import shown
from servable.tensors import PROBABILITIES, Body, Request, Response

JSON_LINES = "application/jsonlines"
TAKEN = (JSON, CSV, JSON_LINES, NPY)
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
HINT = 'send {"instances": [row, ...]}, a list of rows, or another of the forms that MLflow knows'
#: Other names of the forms.
_ALSO = {
    "application/x-jsonlines": JSON_LINES,
    "application/jsonl": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    "application/ndjson": JSON_LINES,
    "application/csv": CSV,
    "text/json": JSON,
}
_ECHOED = {ATTRIBUTES: re.compile(rb"[\x20-\x7e]{1,1024}"), INFERENCE_ID: re.compile(rb"[\x20-\x7e]{1,64}")}
_WANTS_CHANCES = re.compile(rb"(?:^|[,;\s])probabilities\s*=\s*(?:true|1)\s*(?:$|[,;])", re.IGNORECASE)
_encode = msgspec.json.Encoder().encode


class Wish(NamedTuple):
    """What a caller asks of the answer.

    Attributes:
        form: its content type.
        bare: whether JSON is a list and not an object.
        probabilities: whether they are asked for in place of labels.
        headers: given back.
    """

    form: str = JSON
    bare: bool = False
    probabilities: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()


class InvocationsCodec(Heavy):
    """Everything that ``/invocations`` takes, for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: what is refused.
    """

    media_type = JSON

    def __init__(self, signature: Signature, limits: CodecLimits | None = None) -> None:
        limits = limits or CodecLimits()
        self._signature = signature
        self._mlflow = MlflowCodec(signature, limits)
        natives = native_codecs(signature, max_rows=limits.max_rows, max_depth=limits.max_depth)
        self._npy = natives.get(NPY)
        #: Whether the objects of stock algorithms, which hold a list of features, are no rows themselves.
        self._unwraps = all(field.name != "features" for field in signature.inputs)

    # ------------------------------------------------------------------ decoding

    def heavy(self, body: Body, head: Head) -> bool:
        """A long table of text, or many lines of JSON, which are read one by one."""
        if len(body) < HEAVY_BYTES:
            return False
        kind = media_type_of(head)
        return _ALSO.get(kind, kind) in (CSV, JSON_LINES)

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request, by the content type; a caller who does not say is believed to send JSON.

        Raises:
            MediaTypeUnsupported: another content type, or none for this model.
            RequestMalformed: the bytes are not what it says.
            RequestInvalid: the values do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        kind = content_type(head, TAKEN, _ALSO)
        attributes = head.get(ATTRIBUTES, b"")
        chances = bool(attributes) and _WANTS_CHANCES.search(attributes) is not None
        if chances and not self._signature.probabilities:
            problem = FieldProblem(
                "X-Amzn-SageMaker-Custom-Attributes", "no probabilities, because the model gives none", "them"
            )
            raise RequestInvalid([problem])
        bare = False
        if kind == CSV:
            arrays, rows = self._mlflow.csv.read(body)
        elif kind == NPY:
            arrays, rows = self._of_array(body, request_id)
        elif kind == JSON and (found := self._mlflow.read_typed(body := bytes(body))) is not None:
            arrays, rows = found
        else:
            asked, bare = self._asked(body) if kind == JSON else (self._lines(body), False)
            chances = chances or asked.probabilities
            arrays = self._mlflow.rows.read(asked.rows, asked.place, single=asked.single)
            rows = len(asked.rows)
        form = accepted(head.get(b"accept", b""), JSON_LINES if kind == JSON_LINES else JSON)
        wish = Wish(form, bare, chances, _given_back(head))
        return Request(arrays, rows, request_id, wish=wish)

    def _of_array(self, body: Body, request_id: str) -> tuple[dict[str, Any], int]:
        if self._npy is None:
            raise MediaTypeUnsupported(
                f"The inputs of this model are not one array of numbers, so that {NPY} cannot carry them; "
                "send JSON or CSV."
            )
        request = self._npy.decode(body, request_id)
        return request.arrays, request.rows

    def _asked(self, body: Body) -> tuple[Asked, bool]:
        """The rows of JSON, and whether they are a plain list."""
        content = self._mlflow.parse(body, HINT)
        if isinstance(content, list):
            return self._plain(content, ""), True
        if not isinstance(content, dict):
            raise RequestMalformed(f"The body is {shown(content)}; {HINT}.")
        if "features" in content and self._unwraps and not any(key in content for key in FORMS):
            return self._plain([content], ""), False
        asked = self._mlflow.asked(content)
        if "instances" in content and self._unwraps:
            asked = asked._replace(rows=_unwrapped(asked.rows))
        return asked, False

    def _plain(self, rows: list[Any], place: str) -> Asked:
        """Rows without a name before them; one row of plain values may stand without brackets around it."""
        asked = self._mlflow.asked({"instances": _unwrapped(rows) if self._unwraps else rows})
        return asked._replace(place=place or "rows")

    def _lines(self, body: Body) -> Asked:
        rows: list[Any] = []
        for number, line in enumerate(bytes(body).split(b"\n"), 1):
            if line.strip():
                self._mlflow.rows.check_count(len(rows) + 1)
                rows.append(self._mlflow.parse(line, f"line {number} is where it stops; send one row a line"))
        if not rows:
            raise RequestMalformed("The body is empty; send JSON, one row a line.")
        return self._plain(rows, "lines")

    # ------------------------------------------------------------------ encoding

    def encode(self, response: Response) -> bytes | Encoded:
        """The answers in the form that was asked for; NaN and infinity are null in JSON and empty in CSV.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        wish: Wish = response.wish or Wish()
        if wish.form == NPY:
            return Encoded(self._array(response, wish), NPY, wish.headers)
        values = self._mlflow.answers(response, chances=wish.probabilities)
        if wish.form == CSV:
            return Encoded(_csv(values), "text/csv; charset=utf-8", wish.headers)
        if wish.form == JSON_LINES:
            return Encoded(b"".join(_encode(value) + b"\n" for value in values), JSON_LINES, wish.headers)
        body = _encode(values if wish.bare else {"predictions": values})
        return Encoded(body, JSON, wish.headers) if wish.headers else body

    def _array(self, response: Response, wish: Wish) -> bytes:
        arrays = response.arrays
        if wish.probabilities and PROBABILITIES in arrays:
            array = np.asarray(arrays[PROBABILITIES])
        elif self._signature.classes:
            array = np.array(answer_values(arrays, self._signature.classes))
        else:
            # Of several outputs the first; an array of objects would be a pickle.
            array = np.asarray(next(iter(arrays.values())))
        stream = io.BytesIO()
        np.save(stream, array.astype(str) if array.dtype == object else array, allow_pickle=False)
        return stream.getvalue()

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As MLflow words them: ``{"error_code", "message", "request_id"}``."""
        return self._mlflow.encode_error(error, request_id)


def _unwrapped(rows: list[Any]) -> list[Any]:
    """Rows without the ``{"features": [...]}`` that stock algorithms have around them."""
    return [row["features"] if type(row) is dict and row.keys() == {"features"} else row for row in rows]


@lru_cache(maxsize=512)
def accepted(accept: bytes, usual: str) -> str:
    """The form of the answer that a caller prefers, by the rules of ``preferred``.

    Args:
        accept: the header.
        usual: for ``*/*``, for nothing, and for forms that are not known here.
    """
    found = preferred(accept.decode("latin-1"), (usual, *TAKEN, *_ALSO)) or usual
    return _ALSO.get(found, found)


def _given_back(head: Head) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (name, value)
        for name, harmless in _ECHOED.items()
        if (value := head.get(name)) is not None and harmless.fullmatch(value)
    )


def _csv(values: list[Any]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for value in values:
        # One label or number a row is what most models answer.
        nested = isinstance(value, dict | list)
        writer.writerow([_cell(cell) for cell in _cells(value)] if nested else [_cell(value)])
    return text.getvalue().encode()


def _cells(value: Any) -> Iterator[Any]:
    """The plain values of an answer, one after the other."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _cells(part)
    else:
        yield value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return value
