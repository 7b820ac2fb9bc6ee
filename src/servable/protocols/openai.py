"""OpenAI's embeddings, compiled for one signature, and what all of its addresses share.

::

    {"model", "input": text | [text, ...] | [token, ...] | [[token, ...], ...],
     "encoding_format": "float" | "base64", "dimensions": n}
    ->  {"object": "list", "data": [{"object": "embedding", "index", "embedding"}, ...], "model", "usage"}

A model fits that takes one text, or one tensor of token ids, and gives one vector of floats. Texts are not
cut into tokens here, so that ``usage`` counts words of texts, and ids of tokens.
"""

import base64
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import (
    ConflictError,
    FieldProblem,
    LimitReached,
    ModelNotFound,
    QuotaExhausted,
    RequestInvalid,
    RequestMalformed,
    ServableError,
    VersionNotFound,
)
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.json_values import read_json
from servable.protocols.native_schema import Problems, shown
from servable.protocols.rows import RowReader
from servable.tensors import PREDICTION, Body, Request, Response

JSON = "application/json"
HINT = 'send an object with "model" and what it is asked'
_encode = msgspec.json.Encoder().encode


class Wish(NamedTuple):
    """What a caller asks of embeddings.

    Attributes:
        packed: as base64 of little-endian float32, and not as a list.
        dimensions: only so many of the first, at length 1 again; 0 for all as they are.
        tokens: counted in the request.
    """

    packed: bool = False
    dimensions: int = 0
    tokens: int = 0


class EmbeddingsCodec:
    """Embeddings for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives; one that does not fit is refused by ``decode``.
        limits: what is refused.
    """

    media_type = JSON

    def __init__(self, signature: Signature, limits: CodecLimits | None = None) -> None:
        limits = limits or CodecLimits()
        self._max_depth = limits.max_depth
        self._input = TextInput(signature, limits.max_rows)
        vectors = [field for field in signature.outputs if _is_vector(field)]
        self._output = vectors[0] if len(vectors) == 1 else None

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not JSON, nested too deeply, or not an object.
            RequestInvalid: the values do not fit, or the model gives no embeddings.
            RequestTooLarge: more inputs than allowed.
        """
        content = parse(body, self._max_depth)
        if self._output is None or not self._input.fits:
            expected = "a model that turns one text, or one list of token ids, into one vector"
            raise invalid("model", expected, "a model of other inputs or outputs")
        form = content.get("encoding_format")
        if form not in (None, "float", "base64"):
            raise invalid("encoding_format", '"float" or "base64"', shown(form))
        dimensions = self._dimensions(content.get("dimensions"), self._output.shape[0])
        arrays, rows, tokens = self._input.read(content.get("input"), "input")
        return Request(arrays, rows, request_id, wish=Wish(form == "base64", dimensions, tokens))

    @staticmethod
    def _dimensions(given: Any, width: int) -> int:
        if given is None:
            return 0
        whole = isinstance(given, int) and not isinstance(given, bool)
        if not whole or given < 1 or (0 <= width < given):
            most = f" to {width}" if width >= 0 else ""
            raise invalid("dimensions", f"a whole number from 1{most}", shown(given))
        return int(given)

    def encode(self, response: Response) -> bytes:
        """The vectors; in lists, NaN and infinity become null."""
        wish: Wish = response.wish or Wish()
        name = self._output.name if self._output is not None else PREDICTION
        arrays = response.arrays
        vectors = arrays[name] if name in arrays else next(iter(arrays.values()))
        if wish.dimensions:
            vectors = _shortened(vectors, wish.dimensions)
        if wish.packed:
            packed = np.ascontiguousarray(vectors, "<f4")
            shown_vectors: list[Any] = [base64.b64encode(row.tobytes()).decode("ascii") for row in packed]
        else:
            shown_vectors = vectors.tolist()
        return _encode(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": vector}
                    for index, vector in enumerate(shown_vectors)
                ],
                "model": f"{response.model}:{response.version}",
                "usage": {"prompt_tokens": wish.tokens, "total_tokens": wish.tokens},
            }
        )

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As ``error_body``."""
        return error_body(error, request_id)


def _is_vector(field: Field) -> bool:
    return field.is_tensor and len(field.shape) == 1 and field.dtype.startswith("float")


def _shortened(vectors: Any, dimensions: int) -> Any:
    """The first dimensions of each vector, at length 1; a vector of zeros stays one."""
    taken = vectors[:, :dimensions].astype(np.float64)
    lengths = np.linalg.norm(taken, axis=1, keepdims=True)
    return np.divide(taken, lengths, out=taken, where=lengths > 0).astype(vectors.dtype)


class TextInput:
    """How a signature takes a text or tokens, if it does. Immutable and safe to share.

    Args:
        signature: what the model takes.
        max_rows: most texts in one request.

    Attributes:
        texts: whether the only input is a text.
        fits: whether it is a text or a list of token ids.
    """

    def __init__(self, signature: Signature, max_rows: int) -> None:
        only = signature.inputs[0] if len(signature.inputs) == 1 else None
        tensor = only is not None and only.is_tensor
        self.texts = is_text(only)
        whole = only is not None and only.dtype.startswith(("int", "uint"))
        self.fits = self.texts or (tensor and whole and only is not None and len(only.shape) == 1)
        self._wrapped = self.texts and only is not None and (not tensor or only.shape == (1,))
        self._reader = RowReader(signature, max_rows)

    def read(self, value: Any, place: str) -> tuple[dict[str, Any], int, int]:
        """Packed arrays, how many rows they hold, and how many tokens were counted in them.

        Args:
            value: a text, a list of texts, a list of token ids, or a list of such lists.
            place: the key that held it.

        Raises:
            RequestInvalid: none of these, or not what the model takes.
            RequestTooLarge: more rows than allowed.
        """
        single = isinstance(value, str) or (
            isinstance(value, list) and bool(value) and not isinstance(value[0], str | list)
        )
        rows = [value] if single else value
        if not isinstance(rows, list) or not rows:
            got = "nothing (it is missing)" if rows is None else shown(rows)
            raise invalid(place, "a text, or a list of texts or token ids with at least one entry", got)
        self._reader.check_count(len(rows))
        kind: type = str if self.texts else list
        problems = Problems()
        for index, row in enumerate(rows):
            if not isinstance(row, kind):
                problems.note(place if single else f"{place}[{index}]", self._words, shown(row))
        if problems:
            raise RequestInvalid(problems)
        tokens = sum(len(row.split()) if self.texts else len(row) for row in rows)
        wrapped = [[row] for row in rows] if self._wrapped else rows
        return self._reader.read(wrapped, place, single=single), len(rows), tokens

    @property
    def _words(self) -> str:
        return "a text" if self.texts else "a list of token ids"


def is_text(field: Field | None) -> bool:
    """Whether an input or output is one text a row."""
    if field is None or field.dtype != "str":
        return False
    return field.shape in ((), (1,)) if field.is_tensor else not field.values


# ---------------------------------------------------------------------- shared by all addresses


class _Named(msgspec.Struct):
    """The key that says which model is meant."""

    model: Any = None


_name_of = msgspec.json.Decoder(_Named).decode


def model_of(body: Body) -> str:
    """The reference in the key ``model``; empty, which is the only or the default model, when there is none.

    Raises:
        RequestMalformed: not a JSON object.
        RequestInvalid: it is no text.
    """
    try:
        name = _name_of(body).model
    except (msgspec.MsgspecError, RecursionError, ValueError):
        name = parse(body).get("model")
    if name is not None and not isinstance(name, str):
        raise invalid("model", "a text", shown(name))
    return name or ""


def parse(body: Body, max_depth: int = CodecLimits().max_depth) -> dict[str, Any]:
    """A body as an object.

    Raises:
        RequestMalformed: not JSON, nested too deeply, or not an object.
    """
    content = read_json(bytes(body), HINT, max_depth=max_depth)
    if not isinstance(content, dict):
        raise RequestMalformed(f"The body is {shown(content)}; {HINT}.")
    return content


def invalid(path: str, expected: str, got: str) -> RequestInvalid:
    """One problem as an error."""
    return RequestInvalid([FieldProblem(path, expected, got)])


def model_entry(name: str, created: int) -> dict[str, Any]:
    """A model in the list of models.

    Args:
        name: its name.
        created: when its version was made, in seconds since 1970; 0 when that is not known.
    """
    return {"id": name, "object": "model", "created": created, "owned_by": "servable"}


def error_body(error: ServableError, request_id: str) -> bytes:
    """``{"error": {"message", "type", "param", "code"}}``."""
    parameter = None
    if isinstance(error, RequestInvalid):
        parameter = error.problems[0].path
    elif isinstance(error, ModelNotFound | VersionNotFound | ConflictError):
        parameter = "model"
    code = "model_not_found" if isinstance(error, VersionNotFound) else error.code
    theirs = error.retryable or error.code in ("model_failed", "internal_error")
    kind = "server_error" if theirs else "invalid_request_error"
    if isinstance(error, LimitReached):
        kind = "insufficient_quota" if isinstance(error, QuotaExhausted) else "requests"
    content = {"message": error.message, "type": kind, "param": parameter, "code": code}
    return _encode({"error": content})
