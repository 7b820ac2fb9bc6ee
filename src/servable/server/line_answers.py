"""JSON lines answered as they are ready: a body is cut into pieces, and each piece is a prediction.

A few pieces are on their way at once; their answers are sent in the order of the lines. A line that does
not fit, or on which the model fails, has an error in its place and the others are answered. The limits
are those of every prediction: the time that the caller gives counts for all of the lines.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from servable.errors import FieldProblem, ModelFailed, RequestInvalid, ServableError, UnavailableError
from servable.logs import fields, logger
from servable.protocols.answer_forms import EVENTS, Form, asked_form, end_event, event_of, headers_of, line_of
from servable.protocols.base import Head
from servable.protocols.codecs import LINES, Reads
from servable.protocols.compression import decompress
from servable.protocols.native_lines import LineCodec, Lines, Piece, PieceCodec, halves, pieces, wrong_line
from servable.server import checks as check
from servable.server.desk import Desk
from servable.server.http import HttpRequest
from servable.server.problems import known_error
from servable.server.streaming import Streamed
from servable.serving.answer import answer
from servable.serving.live import Live

_log = logger("server")
#: Pieces on their way at once.
_AT_ONCE = 4
#: More runs than pieces for one body, to find the lines on which a model fails.
_SPARE_RUNS = 64


async def begin(desk: Desk, reference: str, request: HttpRequest, request_id: str) -> Streamed:
    """Begin to answer the lines of a body.

    Args:
        desk: finds the model.
        reference: of the model.
        request: whose body is JSON lines.
        request_id: kept in the answer and in the log.

    Raises:
        ServableError: the body is too large or empty, the caller takes neither lines nor events, or the
            model is not there or has no time.
    """
    head, started = request.headers, asyncio.get_running_loop().time()
    form = asked_form(head.get(b"accept"), True)
    limit = check.limit_of(head, desk.settings.request_timeout_s)
    weight = check.weight_of(head)
    encoding = head.get(b"content-encoding", b"").decode("latin-1")
    body = request.body
    if encoding:
        body = await asyncio.to_thread(decompress, encoding, body, desk.settings.max_body_bytes)
    live = await desk.live(
        request.caller, reference, head, started + limit - asyncio.get_running_loop().time()
    )
    # Between finding the model and this nothing can come; it stays until the last line is answered.
    live.enter()
    course = _Course(live, form, request_id, started + limit, weight, head)
    try:
        first = await course.begin(bytes(body))
    except BaseException:
        live.leave()
        raise
    return Streamed(form.media_type, headers_of(live.model, live.version), course.parts(first))


def asks_for_lines(head: Head) -> bool:
    """Whether the answer to a body of JSON lines is wanted line by line; for bodies of this type only."""
    try:
        return asked_form(head.get(b"accept"), True).name in (LINES, EVENTS)
    except ServableError:
        return False


class _Course:
    """The answers to one body. Belongs to one event loop.

    Args:
        live: the model, entered; it is left when the parts are closed.
        form: lines or events.
        request_id: of all of them.
        deadline: by the clock of the loop.
        weight: against others when there is a queue.
        head: the headers of all of them.
    """

    def __init__(
        self, live: Live, form: Form, request_id: str, deadline: float, weight: float, head: Head
    ) -> None:
        self._live = live
        self._head = head
        self._codec = cast(LineCodec, live.codec_by(Reads(LINES)))
        self._events = form.name == EVENTS
        self._write = event_of if self._events else line_of
        self._request_id = request_id
        self._deadline = deadline
        self._weight = weight
        self._spare = _SPARE_RUNS
        self._begun = False
        self._rows = 0
        self._source: Iterator[Piece] = iter(())
        self._window: deque[asyncio.Task[bytes]] = deque()

    async def begin(self, body: bytes) -> bytes:
        """Answer the first piece; what says that the model has no time now is raised, not written."""
        if not body.strip():
            raise RequestInvalid([FieldProblem("inputs", "at least one line with a row", "no line")])
        self._codec.reader.check_count(body)
        self._source = pieces(body)
        text = await self._piece(next(self._source))
        self._begun = True
        return text

    async def parts(self, first: bytes) -> AsyncIterator[bytes]:
        """The text of one piece after the other."""
        window = self._window
        try:
            self._fill()
            if first:
                yield first
            while window:
                text = await window[0]
                window.popleft()
                self._fill()
                if text:
                    yield text
            if self._events:
                live = self._live
                yield end_event(live.model, live.version, self._request_id, self._rows)
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)
            self._live.leave()

    def _fill(self) -> None:
        while len(self._window) < _AT_ONCE:
            piece = next(self._source, None)
            if piece is None:
                return
            self._window.append(asyncio.create_task(self._piece(piece)))

    async def _piece(self, piece: Piece) -> bytes:
        lines = self._codec.reader.read(piece)
        for code in {error.code for error in lines.wrong.values()}:
            # Once for a piece: figures count requests, and a piece is one.
            self._live.meter.count(code, 0, 0.0)
        return await self._ask(lines)

    async def _ask(self, lines: Lines) -> bytes:
        """The answers to lines; where the model fails on them, to each half of them."""
        if not lines.numbers:
            return self._failed(lines, None)
        left = self._deadline - asyncio.get_running_loop().time()
        codec = PieceCodec(lines, self._codec, self._write)
        try:
            found = await answer(
                self._live,
                b"",
                self._request_id,
                codec=codec,
                head=self._head,
                limit_s=left,
                weight=self._weight,
                places=[number - 1 for number in lines.numbers],
            )
        except UnavailableError as error:
            if not self._begun:
                raise
            return self._failed(lines, error)
        except ModelFailed as error:
            if len(lines.numbers) > 1 and self._spare >= 2:
                self._spare -= 2
                one, other = halves(lines)
                return await self._ask(one) + await self._ask(other)
            return self._failed(lines, error)
        except Exception as error:  # noqa: BLE001 - as at every border of a request: these lines fail, the others are answered
            return self._failed(lines, error)
        self._rows += len(lines.numbers)
        return found.body

    def _failed(self, lines: Lines, error: BaseException | None) -> bytes:
        """The text of lines without any answer."""
        found: dict[int, ServableError] = dict(lines.wrong)
        if error is not None:
            if not isinstance(error, ServableError):
                _log.error("a line failed inside", extra=fields(request_id=self._request_id), exc_info=error)
            found |= dict.fromkeys(lines.numbers, known_error(error))
        written: list[dict[str, Any]] = [
            wrong_line(found[number], number, self._request_id) for number in sorted(found)
        ]
        return b"".join([self._write(line) for line in written])
