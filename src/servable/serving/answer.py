"""The one way of a request: decode, wait for its turn, run, encode, count. Knows no wire format and no HTTP.

``predict`` begins it and returns at once; what comes of it is told to an ``Audience``. That
costs neither a task nor a future, so that a short model is not outweighed by its surroundings.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from servable.errors import ModelFailed, ServableError
from servable.logs import fields, logger
from servable.monitoring.metrics import OK
from servable.protocols.base import NO_HEAD, Codec, Encoded, Head
from servable.runtime.waiting import Waiting
from servable.serving.live import Live
from servable.tensors import Body, Request, Response, Terms

_log = logger("serving")
_now = time.monotonic
#: The code under which a request is counted whose caller left before it was answered.
GONE = "client_gone"
_NOTHING: Mapping[str, Any] = {}


class Audience(Protocol):
    """Who is told what came of a request; exactly one of the two, once, in the event loop."""

    def answer(
        self,
        body: bytes,
        request_id: str,
        media_type: bytes,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """The answer, encoded."""
        ...

    def fail(self, error: BaseException, request_id: str) -> None:
        """Why there is none."""
        ...


class Prediction(Waiting):
    """One request on its way through a live model. Belongs to one event loop.

    Attributes:
        over: whether it was answered, refused or cancelled.
    """

    __slots__ = ("_audience", "_codec", "_key", "_live", "_single", "_started", "_wish", "over", "request_id")

    def __init__(
        self,
        live: Live,
        codec: Codec,
        request_id: str,
        audience: Audience,
        limit_s: float,
        weight: float = 1.0,
    ) -> None:
        started = _now()
        super().__init__(_NOTHING, 0, started + limit_s, weight)
        self._live = live
        self._codec = codec
        self._audience = audience
        self._key = b""
        self._single = False
        self._wish: Any = None
        self._started = started
        self.request_id = request_id
        self.over = False
        live.enter()

    def begin(self, body: Body, head: Head = NO_HEAD) -> None:
        """Decode and submit; whatever is wrong goes to the audience."""
        live = self._live
        self.head = head
        try:
            live.batcher.admit(self.deadline)
            self._submit(self._codec.decode(body, self.request_id, head))
        except Exception as error:  # noqa: BLE001 - the border of the request: the caller is answered whatever went wrong
            self.settle(None, error)

    async def begin_aside(self, body: Body, head: Head = NO_HEAD) -> None:
        """``begin`` with the body read in a thread, so that others are answered meanwhile.

        Cancelling it cancels the prediction.
        """
        self.head = head
        try:
            self._live.batcher.admit(self.deadline)
            request = await asyncio.to_thread(self._codec.decode, body, self.request_id, head)
            self._submit(request)
        except asyncio.CancelledError:
            self.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - as in begin
            self.settle(None, error)

    def _submit(self, request: Request) -> None:
        live = self._live
        self.arrays = request.arrays
        self.rows = request.rows
        self._single = request.single
        self._wish = request.wish
        if request.terms is not None:
            self._agree(request.terms)
        key = live.cache.key(request.arrays)
        if key:
            known = live.cache.get(key)
            if known is not None:
                self.settle(known, None)
                return
            self._key = key
        live.submit(self)

    def _agree(self, terms: Terms) -> None:
        """Take what the body says about time; of two limits the shorter holds."""
        if terms.limit_s is not None:
            self.deadline = min(self.deadline, self._started + terms.limit_s)
        if terms.weight is not None:
            self.weight = terms.weight

    def settle(self, arrays: dict[str, Any] | None, error: BaseException | None) -> None:
        """The answers are there, or the reason why not; called once."""
        if self.over:
            return
        live = self._live
        if arrays is not None:
            try:
                if self._key:
                    live.cache.put(self._key, arrays)
                encoded = self._codec.encode(
                    Response(
                        arrays, self.rows, self.request_id, live.model, live.version, self._single, self._wish
                    )
                )
            except (IndexError, ValueError) as raised:
                error = ModelFailed(
                    f"{live.model}:{live.version} gave an answer that is none of its classes."
                )
                error.__cause__ = raised
            else:
                self.over = True
                live.leave()
                seconds = _now() - self._started
                live.meter.count(OK, self.rows, seconds)
                if type(encoded) is bytes:
                    self._audience.answer(encoded, self.request_id, self._codec.media_type.encode())
                else:
                    body, media_type, headers = cast(Encoded, encoded)
                    self._audience.answer(body, self.request_id, media_type.encode(), headers)
                live.tap.took(self, self.request_id, arrays, OK, seconds)
                return
        self._failed(error or ModelFailed("The model gave no answer."))

    def _failed(self, error: BaseException) -> None:
        live = self._live
        self.over = True
        live.leave()
        code = "internal_error"
        if isinstance(error, ServableError):
            code, error.version = error.code, live.version
        if isinstance(error, ModelFailed):
            _log.error(
                "the model failed",
                extra=fields(model=live.model, version=live.version, request_id=self.request_id),
            )
        seconds = _now() - self._started
        live.meter.count(code, 0, seconds)
        self._audience.fail(error, self.request_id)
        live.tap.took(self, self.request_id, None, code, seconds)

    def cancel(self) -> None:
        """The caller left: what has not begun never will, and nobody is told."""
        if self.over:
            return
        self.over = True
        live = self._live
        live.batcher.cancel(self)
        live.leave()
        live.meter.count(GONE, 0, _now() - self._started)


class _Future:
    """An audience for a coroutine."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Encoded] = asyncio.get_running_loop().create_future()

    def answer(
        self,
        body: bytes,
        request_id: str,
        media_type: bytes,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """The answer, encoded."""
        if not self.future.done():
            self.future.set_result(Encoded(body, media_type.decode(), tuple(headers)))

    def fail(self, error: BaseException, request_id: str) -> None:
        """Why there is none."""
        if not self.future.done():
            self.future.set_exception(error)


async def answer(
    live: Live,
    body: Body,
    request_id: str,
    *,
    codec: Codec | None = None,
    head: Head = NO_HEAD,
    limit_s: float = float("inf"),
    weight: float = 1.0,
    places: Sequence[int] | None = None,
) -> Encoded:
    """Answer one request as a coroutine. Cancelling it takes the request back.

    Args:
        live: the model; it stays open until this returns.
        body: the whole body.
        request_id: kept in the answer and in the log.
        codec: of the body; the native JSON one when None.
        head: the request's headers, for the codec.
        limit_s: seconds within which the caller wants the answer.
        weight: its share against other requests when there is a queue.
        places: where the rows stand in the request that they are a piece of; None: they are all of it.

    Returns:
        The answer in the format of the codec.

    Raises:
        InputError: the body does not fit.
        UnavailableError: the queue is full or the deadline passed.
        ModelFailed: the model raised, or answered with something that the signature does not have.
    """
    told = _Future()
    prediction = Prediction(live, codec or live.codec, request_id, told, limit_s, weight)
    prediction.places = places
    prediction.begin(body, head)
    try:
        return await told.future
    finally:
        prediction.cancel()
