"""The native JSON format, compiled for one signature.

::

    {"input": row}         ->  {"prediction": ..., "probabilities": {...}, "model", "version", "request_id"}
    {"inputs": [row, ...]} ->  {"predictions": [...], "probabilities": [{...}, ...], ...}

A row is an object by column name or a list in the order of the signature; for a model whose only
input is one tensor, the row may be the nested list itself. The good case is decoded by ``msgspec``
straight into typed values, many numbers at once by ``native_large``; whatever these refuse is read
again by ``native_schema``, which accepts or names every problem.

A key that is given twice counts as it was given last, as in every common parser of JSON; what counts
is what was checked. Nesting beyond the limit is malformed wherever it stands.
"""

import math
from functools import lru_cache
from typing import Any

import msgspec

from servable.artifact.signature import Signature
from servable.errors import (
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
    ServableError,
)
from servable.protocols.answers import answer_chances, answer_values, label_key
from servable.protocols.base import NO_HEAD, Head
from servable.protocols.json_values import read_json, undisturbed
from servable.protocols.native_compiled import typed_decoder
from servable.protocols.native_depth import MAX_DEPTH, more_commas_than
from servable.protocols.native_large import LARGE_BYTES, LargeReader, reads_large
from servable.protocols.native_schema import Problems, joined, shown
from servable.protocols.rows import RowReader
from servable.tensors import PROBABILITIES, Body, Request, Response

#: Most rows in one request unless the codec is told otherwise.
MAX_ROWS = 100_000
#: Codecs that are kept for the next model with the same signature.
_KEPT = 64
#: Commas beyond those of a full request that are still looked at, so that small mistakes get their own words.
_SPARE_COMMAS = 1_000
_MEDIA_TYPE = "application/json"
_encode = msgspec.json.Encoder().encode


class NativeAnswer:
    """The answers of the native format for one signature. Immutable and safe to share.

    Args:
        signature: what the model gives.
    """

    #: The content type of what ``encode`` returns.
    media_type = _MEDIA_TYPE

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._labels = signature.classes
        self._label_keys = tuple(label_key(label) for label in signature.classes)

    def encode(self, response: Response) -> bytes:
        """A Response to bytes; NaN and infinity become null.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        return _encode(self.content(response))

    def content(self, response: Response) -> dict[str, Any]:
        """A Response as plain values; see the module.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        arrays = response.arrays
        answers = answer_values(arrays, self._labels)
        content: dict[str, Any] = {"prediction": answers[0]} if response.single else {"predictions": answers}
        chances = answer_chances(arrays, self._label_keys)
        if chances is not None:
            content[PROBABILITIES] = chances[0] if response.single else chances
        content["model"] = response.model
        content["version"] = response.version
        content["request_id"] = response.id
        return content

    def rows(self, arrays: dict[str, Any]) -> list[dict[str, Any]]:
        """The answer to each row on its own: ``prediction`` and, where there are any, ``probabilities``.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        answers = answer_values(arrays, self._labels)
        chances = answer_chances(arrays, self._label_keys)
        if chances is None:
            return [{"prediction": answer} for answer in answers]
        return [
            {"prediction": answer, PROBABILITIES: each} for answer, each in zip(answers, chances, strict=True)
        ]

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """An error in the native shape; see ``error_body``."""
        return error_body(error, request_id)


class NativeCodec(NativeAnswer):
    """The native format for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        max_rows: more rows in one request are refused with ``RequestTooLarge``.
        max_depth: a body that is nested deeper is refused with ``RequestMalformed``; never less than
            the signature itself needs.
    """

    def __init__(self, signature: Signature, *, max_rows: int = MAX_ROWS, max_depth: int = MAX_DEPTH) -> None:
        super().__init__(signature)
        self._max_rows = max_rows
        # The body, its list of rows, the row, and the axes of a tensor within.
        self._max_depth = max(max_depth, 3 + max((len(field.shape) for field in signature.inputs), default=0))
        self._rows = RowReader(signature, max_rows)
        self._decode_typed = None if self._rows.types is None else typed_decoder(self._rows.types[1])
        cells = most_cells(signature)
        self._most_commas = None if cells is None else max_rows * cells + _SPARE_COMMAS
        self._large = LargeReader(signature) if reads_large(signature) else None

    # ------------------------------------------------------------------ decoding

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not JSON, nested too deeply, or not an object.
            RequestInvalid: the values do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        if type(body) is not bytes:
            # A copy of a view costs little beside the parsing of as much text.
            body = bytes(body)
        if len(body) < LARGE_BYTES:
            return self._decode_quickly(body, request_id) or self._decode_slowly(body, request_id)
        if self._most_commas is not None and more_commas_than(body, self._most_commas):
            raise RequestTooLarge(
                f"The body holds more values than the {self._max_rows} rows that are allowed; "
                "send them in several requests."
            )
        if self._large is not None:
            found = self._large.read(body)
            if found is not None:
                arrays, rows, single = found
                self._rows.check_count(rows)
                return Request(arrays, rows, request_id, single)
        return self._decode_quickly(body, request_id) or self._decode_slowly(body, request_id)

    def _decode_quickly(self, body: bytes, request_id: str) -> Request | None:
        """The good case; None when anything at all is unusual."""
        if self._decode_typed is None:
            return None
        try:
            content = undisturbed(self._decode_typed, body)
            if (row := content.input) is not msgspec.UNSET:
                if content.inputs is not msgspec.UNSET:
                    return None
                return Request(self._rows.pack_one(row), 1, request_id, True)
            rows = content.inputs
            if rows is msgspec.UNSET or not rows:
                return None
            self._rows.check_count(len(rows))
            return Request(self._rows.pack(rows), len(rows), request_id, False)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            # ValueError: a value that is no date or no member, or a ragged tensor.
            return None

    # ------------------------------------------------------------------ decoding, when something is unusual

    def _decode_slowly(self, body: bytes, request_id: str) -> Request:
        content = parse(body, self._max_depth)
        problems = Problems()
        rows, single = self._rows_of(content, problems)
        if not single:
            self._rows.check_count(len(rows))
        place = "input" if single else "inputs"
        arrays = self._rows.read_exactly(rows, place, problems, single=single)
        return Request(arrays, len(rows), request_id, single)

    def _rows_of(self, content: dict[str, Any], problems: Problems) -> tuple[list[Any], bool]:
        for key in content:
            if problems.full:
                break
            if key not in ("input", "inputs"):
                hint = problems.hint(key, ("input", "inputs"))
                problems.note(
                    joined("", key).lstrip("."), f'"input" or "inputs" and nothing else{hint}', "this key"
                )
        if "input" in content and "inputs" in content:
            problems.note("input", 'either "input" (one row) or "inputs" (a list of rows)', "both")
        elif "input" in content:
            return [content["input"]], True
        elif "inputs" not in content:
            problems.note("input", '"input" (one row) or "inputs" (a list of rows)', "neither")
        elif not isinstance(content["inputs"], list):
            problems.note("inputs", "a list of rows", shown(content["inputs"]))
        elif not content["inputs"]:
            problems.note("inputs", "a list of at least one row", "an empty list")
        else:
            return content["inputs"], False
        return [], False


def error_body(error: ServableError, request_id: str) -> bytes:
    """``{"error": {"code", "message", "request_id", "details": [{"path", "expected", "got"}]}}``."""
    problems = error.problems if isinstance(error, RequestInvalid) else ()
    return _encode(
        {
            "error": {
                "code": error.code,
                "message": error.message,
                "request_id": request_id,
                "details": [problem._asdict() for problem in problems],
            }
        }
    )


def parse(body: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """A request's body as plain JSON values.

    Args:
        body: the whole body.
        max_depth: most levels of lists and objects within each other.

    Raises:
        RequestMalformed: not JSON, nested too deeply, or not an object.
    """
    content = read_json(body, 'send {"input": row} or {"inputs": [row, ...]}', max_depth=max_depth)
    if not isinstance(content, dict):
        raise RequestMalformed(
            f'The body is {shown(content)}; send an object {{"input": row}} or {{"inputs": [row, ...]}}.'
        )
    return content


class _Face:
    """What of a signature a codec is compiled for, to be looked up: all but its example row."""

    __slots__ = ("_bytes", "signature")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        parts = (signature.task, signature.inputs, signature.outputs, signature.probabilities)
        self._bytes = msgspec.msgpack.encode(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Face) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


@lru_cache(maxsize=_KEPT)
def _codec_of(face: _Face, max_rows: int, max_depth: int) -> NativeCodec:
    return NativeCodec(face.signature, max_rows=max_rows, max_depth=max_depth)


def native_codec(
    signature: Signature, *, max_rows: int = MAX_ROWS, max_depth: int = MAX_DEPTH
) -> NativeCodec:
    """The codec of a signature, the one from before where it was asked for lately; see ``NativeCodec``.

    A version mostly has the signature of the one before, and compiling takes longer than many answers. Safe
    to call from several threads.
    """
    return _codec_of(_Face(signature), max_rows, max_depth)


def most_cells(signature: Signature) -> int | None:
    """The values of one row; None when a free size leaves that open."""
    if any(size < 0 for field in signature.inputs for size in field.shape):
        return None
    return max(1, sum(math.prod(field.shape) for field in signature.inputs))
