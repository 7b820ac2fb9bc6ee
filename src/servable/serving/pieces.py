"""Answers in pieces: decode, begin, write what comes as it comes, count. Knows no wire format and no HTTP.

A model that cannot answer in pieces, or that is asked about several rows, answers whole, and that is the only
piece. Streams do not wait in the queue of the batcher: their steps run between batches.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.errors import DeadlineExceeded, ModelFailed, Overloaded, ServableError, ServerStopping
from servable.logs import fields, logger
from servable.monitoring.capture_scope import MOST_ROW_BYTES
from servable.monitoring.metrics import OK
from servable.protocols.base import NO_HEAD, Head, PieceCodec, Writer
from servable.runtime.asking import ask
from servable.runtime.executor import Pieces
from servable.serving.answer import GONE
from servable.serving.live import NO_TAP, Live
from servable.serving.taps import Streamed
from servable.tensors import Arrays, Body, Request, Response

_log = logger("serving")
_now = time.monotonic
#: Answers in pieces of one model at once; more are refused.
MOST_STREAMS = 256
#: What is told about an error that is none of ours once half of the answer was sent.
_INTERNAL = "The server failed in the middle of the answer; its log knows more under this request id."


class Times(NamedTuple):
    """How long an answer in pieces may take, in seconds.

    Attributes:
        whole_s: altogether.
        piece_s: until the next piece.
    """

    whole_s: float = float("inf")
    piece_s: float = float("inf")


NO_LIMITS = Times()


class Begun(NamedTuple):
    """An answer of which the first piece is there.

    Attributes:
        media_type: of the whole.
        headers: more headers of the answer.
        parts: its bytes as they come; must be closed in any case, which stops the model.
    """

    media_type: str
    headers: tuple[tuple[bytes, bytes], ...]
    parts: AsyncGenerator[bytes, None]


async def begin(
    live: Live,
    codec: PieceCodec,
    body: Body,
    request_id: str,
    *,
    head: Head = NO_HEAD,
    times: Times = NO_LIMITS,
    weight: float = 1.0,
) -> Begun:
    """Begin an answer in pieces and wait for the first. Cancelling this takes the request back.

    Args:
        live: the model; between finding it and this the event loop must not turn.
        codec: of the body and of the answer.
        body: the whole body.
        request_id: kept in the answer and in the log.
        head: the request's headers, for the codec.
        times: how long it may take.
        weight: its share against other requests, where it waits in a queue.

    Raises:
        InputError: the body does not fit.
        UnavailableError: too many streams, the queue is full, or the time is over.
        ModelFailed: the model raised before the first piece.
    """
    course = _Course(live, request_id, times, head)
    try:
        request = codec.decode(body, request_id, head)
        course.agree(request)
        first = await course.first(request, codec, weight)
    except BaseException as error:
        if isinstance(error, ServableError):
            error.version = live.version
        await course.over(GONE if isinstance(error, asyncio.CancelledError) else _code(error))
        raise
    return Begun(course.writer.media_type, course.writer.headers, course.parts(first))


class _Course:
    """One answer on its way. Belongs to one event loop."""

    writer: Writer

    def __init__(self, live: Live, request_id: str, times: Times, head: Head) -> None:
        self._live = live
        self._head = head
        self._request_id = request_id
        self._started = _now()
        self._loop_started = asyncio.get_running_loop().time()
        self._times = times
        self._pieces: Pieces | _Whole | None = None
        self._request: Request | None = None
        #: Nobody is told of an answer that nobody wanted to be told of when it began.
        self._joined = None if live.tap is NO_TAP else _Joined()
        self._taken_s = 0.0
        self._over = False
        live.enter()
        live.meter.streams += 1

    def agree(self, request: Request) -> None:
        """Take what the body says about time; of two limits the shorter holds."""
        self._request = request
        if request.terms is not None and request.terms.limit_s is not None:
            self._times = self._times._replace(whole_s=min(self._times.whole_s, request.terms.limit_s))

    async def first(self, request: Request, codec: PieceCodec, weight: float) -> bytes:
        """Begin, and wait for the first piece; empty where there is none at all."""
        live = self._live
        if live.streams and request.rows == 1:
            if live.retired:
                raise ServerStopping(f"{live.model} is being unloaded; try again.")
            if live.executor.statistics().streams >= MOST_STREAMS:
                raise Overloaded(f"{live.model} already gives {MOST_STREAMS} answers in pieces; try again.")
            self._pieces = live.executor.stream(request.arrays)
        else:
            if request.terms is not None and request.terms.weight is not None:
                weight = request.terms.weight
            self._pieces = _Whole(live, request, self._started + self._times.whole_s, weight)
        self.writer = codec.writer(request, live.model, live.version)
        text = await self._next()
        live.meter.first_piece(_now() - self._started)
        return b"" if text is None else text

    async def parts(self, first: bytes) -> AsyncGenerator[bytes, None]:
        """The bytes of the answer."""
        code = GONE
        try:
            text: bytes | None = first
            while text is not None:
                if text:
                    yield text
                text = await self._next()
            code = OK
            if last := self.writer.end():
                yield last
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 - the border of the request: half of it is sent, so the rest is told there
            code = _code(error)
            if not isinstance(error, ServableError):
                _log.error("an answer broke off", extra=fields(request_id=self._request_id), exc_info=error)
                error = ServableError(_INTERNAL)
            yield self.writer.fail(error)
        finally:
            await self.over(code)

    async def _next(self) -> bytes | None:
        """The next piece as bytes; None after the last."""
        times, loop = self._times, asyncio.get_running_loop()
        until = min(self._loop_started + times.whole_s, loop.time() + times.piece_s)
        live, request, pieces, asked_at = self._live, self._request, self._pieces, _now()
        assert request is not None and pieces is not None  # noqa: S101, PT018 - by ``first``
        try:
            async with asyncio.timeout_at(until if until < float("inf") else None):
                arrays = await anext(pieces)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise DeadlineExceeded(
                f"The time for this answer of {live.model} was over before its end."
            ) from None
        finally:
            self._taken_s += _now() - asked_at
        live.meter.pieces += 1
        rows = request.rows
        if self._joined is not None:
            self._joined.add(arrays, rows)
        response = Response(
            arrays, rows, self._request_id, live.model, live.version, request.single, request.wish
        )
        try:
            return self.writer.piece(response)
        except (IndexError, ValueError) as raised:
            raise ModelFailed(
                f"{live.model}:{live.version} gave an answer that cannot be written."
            ) from raised

    async def over(self, code: str) -> None:
        """Stop the model, count, and let the model go."""
        if self._over:
            return
        self._over = True
        live = self._live
        try:
            if self._pieces is not None:
                await self._pieces.aclose()
        finally:
            live.meter.streams -= 1
            request, seconds = self._request, _now() - self._started
            live.meter.count(code, request.rows if request is not None and code == OK else 0, seconds)
            live.leave()
        if request is not None and self._joined is not None and code != GONE:
            whole = self._joined.whole() if code == OK else None
            asked = Streamed(request.arrays, request.rows, self._taken_s)
            asked.head = self._head
            live.tap.took(asked, self._request_id, whole, code, seconds)


class _Joined:
    """The pieces of one answer put together, for whoever is told of it; as far as that keeps them."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[NDArray[Any]]] = {}
        self._sizes: dict[str, int] = {}

    def add(self, arrays: Arrays, rows: int) -> None:
        """The next piece; of an output that gets too large nothing is kept."""
        for name, array in arrays.items():
            size = array.nbytes
            if array.dtype.hasobject:
                size += sum(len(each) for each in array.ravel().tolist() if isinstance(each, str))
            self._sizes[name] = self._sizes.get(name, 0) + size
            if self._sizes[name] <= MOST_ROW_BYTES * rows:
                self._pieces.setdefault(name, []).append(array.copy())
            else:
                self._pieces.pop(name, None)

    def whole(self) -> dict[str, NDArray[Any]]:
        """As the model gives it in one: parts of a text become one text, other values follow each other."""
        return {name: _together(pieces) for name, pieces in self._pieces.items()}


def _together(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    first = pieces[0]
    if len(pieces) == 1:
        return first
    if not first.dtype.hasobject:
        return np.concatenate([piece.reshape(len(piece), -1) for piece in pieces], axis=1)
    made = np.empty_like(first)
    for place in range(first.size):
        made.flat[place] = "".join(str(piece.flat[place]) for piece in pieces)
    return made


class _Whole:
    """The whole answer as the only piece."""

    def __init__(self, live: Live, request: Request, deadline: float, weight: float) -> None:
        self._ask = ask(live.batcher, request.arrays, request.rows, deadline=deadline, weight=weight)
        self._asked = False

    async def __anext__(self) -> dict[str, Any]:
        if self._asked:
            raise StopAsyncIteration
        self._asked = True
        return await self._ask

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def aclose(self) -> None:
        self._ask.close()


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, ServableError) else "internal_error"
