"""The Codec seam: a fake, and the check for all codecs."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from servable.errors import (
    FieldProblem,
    InputError,
    RequestInvalid,
    RequestMalformed,
    ServableError,
)
from servable.protocols.base import NO_HEAD, Codec, Encoded, Head
from servable.tensors import NUMBERS, PREDICTION, Body, Request, Response, row_count
from servable.testing.expect import expect, outcome_of

#: Bytes that are no well-formed body of any format.
GARBAGE: tuple[bytes, ...] = (b"", b"\xff\xfe", b"{", b"[" * 100_000, b'{"input": [1', b"\x00" * 16)


class FakeCodec:
    """Rows of numbers as lines of a text: ``1 2`` is a row of two."""

    media_type = "text/plain"

    def __init__(self, columns: int = 2) -> None:
        self._columns = columns

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Lines to rows.

        Raises:
            RequestMalformed: not text, or no line.
            RequestInvalid: a line with another count of numbers, or something that is no number.
        """
        body = bytes(body)
        try:
            lines = body.decode("ascii").strip("\n").split("\n")
        except UnicodeDecodeError:
            raise RequestMalformed("The body is not text.") from None
        if not body.isascii() or not body.strip() or b"\x00" in body:
            raise RequestMalformed("The body holds no line.")
        rows = [self._row(line, index) for index, line in enumerate(lines)]
        return Request({NUMBERS: np.array(rows)}, len(rows), request_id, len(rows) == 1)

    def _row(self, line: str, index: int) -> list[float]:
        """One line's numbers."""
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError:
            raise RequestMalformed(f"Line {index + 1} is not numbers.") from None
        if len(numbers) != self._columns:
            expected = f"{self._columns} numbers"
            raise RequestInvalid([FieldProblem(f"inputs[{index}]", expected, str(len(numbers)))])
        return numbers

    def encode(self, response: Response) -> bytes:
        """One line for each answer; NaN and infinity as ``-``."""
        lines = [repr(float(value)) if np.isfinite(value) else "-" for value in response.arrays[PREDICTION]]
        return "\n".join(lines).encode()

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """Code, message and request id in a line."""
        return f"{error.code}: {error.message} ({request_id})".encode()


def check_codec(
    codec: Codec, *, good: Mapping[bytes, int], invalid: Sequence[bytes], response: Response
) -> None:
    """Try what the Codec seam promises.

    Args:
        codec: compiled for some signature.
        good: bodies that fit the signature, with how many rows each holds.
        invalid: well-formed bodies whose values do not fit the signature.
        response: an answer that the codec can encode, with at least one float in its prediction.

    Raises:
        AssertionError: a promise is broken.
    """
    expect(bool(codec.media_type), "a codec has a media type")
    for body, rows in good.items():
        _check_good(codec, body, rows)
    for body in invalid:
        error = outcome_of(lambda body=body: codec.decode(body, "id"))  # type: ignore[misc]  # bound default
        expect(isinstance(error, RequestInvalid), f"{body[:60]!r} is refused with RequestInvalid")
        expect(all(problem.path for problem in error.problems), "every problem is named by its path")
    for body in GARBAGE:
        error = outcome_of(lambda body=body: codec.decode(body, "id"))  # type: ignore[misc]  # bound default
        expect(
            isinstance(error, InputError), f"garbage such as {body[:20]!r} is refused as the caller's fault"
        )
    wish = codec.decode(next(iter(good)), "id").wish if good else None
    _check_encoding(codec, msgspec.structs.replace(response, wish=wish))
    refusals = (RequestMalformed("Not this format."), RequestInvalid([FieldProblem("input.a", "b", "c")]))
    for error in refusals:
        text = codec.encode_error(error, "the-id")
        expect(error.message.encode() in text, "an encoded error carries its message")


def _check_good(codec: Codec, body: bytes, rows: int) -> None:
    """A body that fits."""
    first, second = codec.decode(body, "id-1"), codec.decode(body, "id-2")
    expect(first.rows == rows and row_count(first.arrays) == rows, "rows are counted right")
    expect((first.id, second.id) == ("id-1", "id-2"), "a request keeps its id")
    same = all(_equal(array, second.arrays[name]) for name, array in first.arrays.items())
    expect(same, "decoding is pure: the same bytes give the same arrays")
    viewed = codec.decode(memoryview(bytearray(body)), "id-1")
    same = all(_equal(array, viewed.arrays[name]) for name, array in first.arrays.items())
    expect(same, "a view of memory is decoded like bytes")


def _equal(one: Any, other: Any) -> bool:
    """Whether two arrays are the same, NaN being NaN."""
    return one.dtype == other.dtype and bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _encoded(codec: Codec, response: Response) -> Encoded:
    """What a codec makes of a response, with its media type."""
    made = codec.encode(response)
    return Encoded(made, codec.media_type) if isinstance(made, bytes) else made


def _check_encoding(codec: Codec, response: Response) -> None:
    """An answer, and the same with NaN and infinity in it."""
    expect(_encoded(codec, response) == _encoded(codec, response), "encoding is pure")
    arrays = dict(response.arrays)
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            arrays[name] = np.full_like(array, np.nan)
            arrays[name].flat[0] = np.inf
    odd, media_type, _ = _encoded(codec, msgspec.structs.replace(response, arrays=arrays))
    if "json" in media_type:
        decoder = msgspec.json.Decoder()
        decode = decoder.decode_lines if "ndjson" in media_type else decoder.decode
        valid = outcome_of(lambda: decode(odd))
        expect(not isinstance(valid, Exception), "NaN and infinity never become invalid JSON")
    expect(b"NaN" not in odd and b"Infinity" not in odd, "NaN and infinity are not written as such")
