"""JSON lines: each line is a row, or ``{"input": row}``; empty lines are passed over.

``LineCodec`` reads a whole body and refuses it when one line does not fit. ``LineReader`` reads pieces of
a body, so that the server can answer them one after another; it tells which lines do not fit and keeps
the others.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from servable.artifact.signature import Signature
from servable.errors import InputError, RequestInvalid, RequestTooLarge, ServableError
from servable.protocols.base import HEAVY_BYTES, NO_HEAD, CodecLimits, Head, Heavy
from servable.protocols.json_values import read_json
from servable.protocols.native import NativeAnswer, error_body, most_cells
from servable.protocols.native_schema import Problems
from servable.protocols.rows import RowReader
from servable.tensors import Body, Request, Response, take

#: Rows of the first piece of a body; each piece is twice as long as the one before, up to the most.
_FIRST, _MOST = 8, 512
#: Commas beyond those of a full line that are still looked at, and bytes from which on they are counted.
_SPARE_COMMAS, _LONG = 1_000, 1 << 16
#: Bytes after which a piece ends, whatever its rows.
_PIECE_BYTES = 1 << 18


class Piece(NamedTuple):
    """Some lines of a body.

    Attributes:
        text: the lines.
        first: the number of the first line in the body, from 1.
    """

    text: bytes
    first: int


class Lines(NamedTuple):
    """What the lines of a piece hold.

    Attributes:
        arrays: packed; empty when no line fits.
        numbers: of the lines that the rows come from, in order.
        wrong: the other lines by number, and what is wrong with each.
    """

    arrays: dict[str, Any]
    numbers: list[int]
    wrong: dict[int, InputError]


def pieces(body: bytes) -> Iterator[Piece]:
    """A body cut between lines: small pieces first, so that the first answers are there soon."""
    start, line, rows = 0, 1, _FIRST
    while start < len(body):
        end = start
        for _ in range(rows):
            end = body.find(b"\n", end) + 1 or len(body)
            if end == len(body) or end - start >= _PIECE_BYTES:
                break
        text = body[start:end]
        yield Piece(text, line)
        line += text.count(b"\n")
        start, rows = end, min(rows * 2, _MOST)


class LineReader:
    """Reads lines for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes.
        limits: most rows of a body and deepest nesting of a line.
    """

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._max_rows = limits.max_rows
        deepest = max((len(field.shape) for field in signature.inputs), default=0)
        self._max_depth = max(limits.max_depth, 2 + deepest)
        self._rows = RowReader(signature, limits.max_rows)
        cells = most_cells(signature)
        self._most_commas = None if cells is None else cells + _SPARE_COMMAS
        # A row of such a model may itself be an object with this one key.
        self._wrapped = all(field.name != "input" for field in signature.inputs)

    def check_count(self, body: bytes) -> None:
        """Refuse a body that certainly holds too many rows, before anything of it is read.

        Raises:
            RequestTooLarge: there are more lines than rows are allowed, none of them empty.
        """
        lines = body.count(b"\n")
        if lines > self._max_rows and lines - body.count(b"\n\n") - body.count(b"\n\r\n") > self._max_rows:
            raise RequestTooLarge(
                f"The body holds more than the {self._max_rows} rows that are allowed; send several requests."
            )

    def read(self, piece: Piece) -> Lines:
        """The rows of a piece and what is wrong with its other lines; never raises for what they hold."""
        values: list[Any] = []
        numbers: list[int] = []
        wrong: dict[int, InputError] = {}
        for number, line in _numbered(piece):
            try:
                values.append(self._parse(line, number))
                numbers.append(number)
            except InputError as error:
                wrong[number] = error
        if not values:
            return Lines({}, [], wrong)
        try:
            return Lines(self._rows.read(values, "inputs"), numbers, wrong)
        except InputError:
            return self._read_one_by_one(values, numbers, wrong)

    def whole(self, body: bytes) -> tuple[dict[str, Any], int]:
        """Packed arrays of all lines of a body, and how many rows they hold.

        Raises:
            RequestMalformed: a line that is not JSON, or nested too deeply; it is named by its number.
            RequestInvalid: values that do not fit, named as ``inputs[0].age``; rows count from 0.
            RequestTooLarge: more rows than allowed.
        """
        self.check_count(body)
        values = []
        for number, line in _numbered(Piece(body, 1)):
            values.append(self._parse(line, number))
            self._rows.check_count(len(values))
        if not values:
            raise RequestInvalid(_no_rows())
        return self._rows.read(values, "inputs"), len(values)

    def _read_one_by_one(self, values: list[Any], numbers: list[int], wrong: dict[int, InputError]) -> Lines:
        kept: list[Any] = []
        fitting: list[int] = []
        for number, value in zip(numbers, values, strict=True):
            try:
                self._rows.read([value], "input", single=True)
            except InputError as error:
                wrong[number] = error
                continue
            kept.append(value)
            fitting.append(number)
        try:
            return Lines(self._rows.read(kept, "inputs") if kept else {}, fitting, wrong)
        except InputError as error:
            # Each fits on its own: tensors with free sizes that differ from line to line.
            return Lines({}, [], wrong | dict.fromkeys(fitting, error))

    def _parse(self, line: bytes, number: int) -> Any:
        value = read_json(
            line,
            "send a row on each line",
            max_depth=self._max_depth,
            max_commas=self._most_commas if len(line) > _LONG else None,
            called=f"Line {number}",
        )
        return self._unwrapped(value)

    def _unwrapped(self, value: Any) -> Any:
        """The row of a line, which may stand in an object as the native format has it."""
        if self._wrapped and type(value) is dict and len(value) == 1 and "input" in value:
            return value["input"]
        return value


class LineCodec(NativeAnswer, Heavy):
    """``application/x-ndjson`` read as a whole, for answers in one piece. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: most rows and deepest nesting.
    """

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature)
        #: Reads pieces of a body.
        self.reader = LineReader(signature, limits)

    def heavy(self, body: Body, head: Head) -> bool:
        """Many lines, which are read one by one."""
        return len(body) >= HEAVY_BYTES

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request; see ``LineReader.whole``."""
        arrays, rows = self.reader.whole(bytes(body))
        return Request(arrays, rows, request_id, False)


def _numbered(piece: Piece) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers."""
    start, number, text = 0, piece.first, piece.text
    while start < len(text):
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].strip()
        if line:
            yield number, line
        start, number = end + 1, number + 1


def _no_rows() -> Problems:
    problems = Problems()
    problems.note("inputs", "at least one line with a row", "no line")
    return problems


class PieceCodec:
    """One piece of a body, read already, and the text of its answers, lines that do not fit among them.

    Args:
        lines: what the piece holds; at least one line fits.
        answer: words the answers.
        write: one answer or one error, as plain values, to bytes.
    """

    media_type = "application/x-ndjson"

    def __init__(self, lines: Lines, answer: NativeAnswer, write: Callable[[dict[str, Any]], bytes]) -> None:
        self._lines = lines
        self._answer = answer
        self._write = write

    def decode(self, _body: Body, request_id: str, _head: Head = NO_HEAD) -> Request:
        """The rows that were read."""
        return Request(self._lines.arrays, len(self._lines.numbers), request_id, False)

    def encode(self, response: Response) -> bytes:
        """The answers in the order of the lines.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        numbers, wrong = self._lines.numbers, self._lines.wrong
        answers = dict(zip(numbers, self._answer.rows(response.arrays), strict=True))
        if wrong:
            answers |= {number: wrong_line(error, number, response.id) for number, error in wrong.items()}
        return b"".join([self._write(answers[number]) for number in sorted(answers)])

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As the native format."""
        return self._answer.encode_error(error, request_id)


def wrong_line(error: ServableError, number: int, request_id: str) -> dict[str, Any]:
    """What stands in the place of the answer to a line that has none: ``{"error": {...}, "line": 17}``."""
    return {"error": msgspec.Raw(error_body(error, request_id)[len(b'{"error":') : -1]), "line": number}


def halves(lines: Lines) -> tuple[Lines, Lines]:
    """The lines of a piece in two, the wrong ones with those that stand before them."""
    middle = len(lines.numbers) // 2
    border = lines.numbers[middle]
    return (
        Lines(
            take(lines.arrays, slice(0, middle)),
            lines.numbers[:middle],
            {number: error for number, error in lines.wrong.items() if number < border},
        ),
        Lines(
            take(lines.arrays, slice(middle, None)),
            lines.numbers[middle:],
            {number: error for number, error in lines.wrong.items() if number > border},
        ),
    )
