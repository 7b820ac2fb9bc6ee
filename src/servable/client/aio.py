"""The client for asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import httpx
import msgspec

from servable.client import encoding, wire
from servable.client.course import Course, Outcome, Terms, checked_concurrency
from servable.client.results import Prediction, Predictions, Row, Rows, ServedModel
from servable.clock import Clock
from servable.errors import RemoteError, ServerUnreachable

T = TypeVar("T")

#: How often ``wait_until_ready`` asks.
_POLL_S = 0.05


class AsyncClient:
    """Talks to one Servable server and keeps its connections open. Belongs to one event loop.

    Cancelling a call closes its connection and leaves the others alone.

    Example::

        async with AsyncClient("http://127.0.0.1:8000") as client:
            print((await client.predict("iris", [5.1, 3.5, 1.4, 0.2])).prediction)

    Args:
        url: the server's address.
        timeout_s: the most that one call may take, all its attempts together. The server is told what is
            left and gives up then as well.
        retries: more attempts after the first, made only when the failure is passing (no connection, 429,
            502, 503, 504), with growing random waits, the server's Retry-After honoured, and never more
            than a tenth of all requests beyond a small reserve.
        api_key: sent as ``Authorization: Bearer``.
        headers: sent with every request.
        clock: measures the time; a test can hand in its own.
        transport: carries the requests; a test can hand in one of httpx's.

    Raises:
        SettingInvalid: ``url`` is no http address, or ``timeout_s`` is not above 0.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout_s: float = 30.0,
        retries: int = 2,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._terms = Terms(url, timeout_s, retries, clock)
        self._http = httpx.AsyncClient(**wire.connection(self.url, headers, api_key), transport=transport)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._terms.url

    @overload
    async def predict(self, model: str | None, rows: Row, **how: Unpack[wire.How]) -> Prediction: ...

    @overload
    async def predict(self, model: str | None, rows: Rows, **how: Unpack[wire.How]) -> Predictions: ...

    @overload
    async def predict(self, model: str | None, rows: Any, **how: Unpack[wire.How]) -> Any: ...

    async def predict(
        self,
        model: str | None,
        rows: Any,
        *,
        version: int | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
        single: bool | None = None,
    ) -> Any:
        """Ask for the answer to one row or to several.

        Args:
            model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
            rows: one row (a dict by column name, or a flat list in the signature's order) gives one
                ``Prediction``; a list of rows, a DataFrame of pandas or polars or a two-dimensional array
                gives ``Predictions``. An array of numbers travels as it is, without text. For a model of
                pictures or sounds a row is the bytes of a file, or its path.
            version: asks for exactly this version.
            request_id: an id of the caller's own, found again in the server's log.
            timeout_s: the most that this call may take, instead of the client's.
            single: says whether ``rows`` is one row, where its form does not (one image as an array).

        Raises:
            RequestInvalid: a value that JSON cannot carry.
            RemoteError: the server refused or failed; carries status, code, fields and request id.
            ServerUnreachable: no answer within the time.
        """
        call = wire.predict(model, rows, version=version, request_id=request_id, single=single)
        return await self._run(Course(call, self._terms, timeout_s=timeout_s))

    def predict_stream(
        self,
        model: str | None,
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        version: int | None = None,
        batch_rows: int = 256,
        concurrency: int = 4,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Prediction]:
        """Ask for the answers to rows without end, and give them in the order of the rows.

        The rows go in batches, several at once. No more of them are taken from the iterator than are under
        way, so that neither the rows nor the answers have to fit into memory.

        Args:
            model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
            rows: an iterator or any iterable of rows, asynchronous or not, a DataFrame, or an array.
            version: asks for exactly this version.
            batch_rows: rows in one request.
            concurrency: requests under way at once.
            timeout_s: the most that one batch may take, instead of the client's.

        Raises:
            RequestInvalid: one row, or something that holds none.
            SettingInvalid: a number below 1.
            ServableError: as ``predict``, once the answers before the failing batch were given.
        """
        batches = encoding.async_batches(rows, batch_rows)
        calls = (wire.predict(model, batch, version=version, single=False) async for batch in batches)
        return self._stream(calls, checked_concurrency(concurrency), timeout_s)

    def predict_lines(
        self,
        model: str | None,
        rows: Any,
        *,
        version: int | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Prediction]:
        """Ask for several rows in one request, and give each answer as soon as the server has sent it.

        A server that answers only all at once is understood, too. What was begun is not tried again.

        Args:
            model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
            rows: several rows, in any form that ``predict`` takes.
            version: asks for exactly this version.
            request_id: an id of the caller's own, found again in the server's log.
            timeout_s: the most that all of it may take, instead of the client's.

        Raises:
            ServableError: as ``predict``, possibly after the answers to the first rows.
        """
        call = wire.predict_lines(model, rows, version=version, request_id=request_id)
        return self._lines(Course(call, self._terms, timeout_s=timeout_s))

    async def models(self) -> tuple[ServedModel, ...]:
        """What the server serves; raises as ``predict`` does."""
        return await self._run(Course(wire.models(), self._terms))

    async def model(self, name: str) -> ServedModel:
        """One model's description; raises as ``predict`` does."""
        return await self._run(Course(wire.model(name), self._terms))

    async def ready(self) -> bool:
        """Whether the server answers and has loaded its models; one attempt, never raises for a no."""
        try:
            return await self._run(Course(wire.ready(), self._terms, patient=False))
        except (RemoteError, ServerUnreachable):
            return False

    async def wait_until_ready(self, timeout_s: float = 30.0) -> None:
        """Return as soon as the server is ready.

        Raises:
            ServerUnreachable: it was not within ``timeout_s`` seconds.
        """
        deadline = self._terms.clock.monotonic() + timeout_s
        while not await self.ready():
            if self._terms.clock.monotonic() + _POLL_S > deadline:
                raise wire.not_ready(self.url, timeout_s)
            await asyncio.sleep(_POLL_S)

    async def close(self) -> None:
        """Close the connections. A closed client cannot be used again."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def _run(self, course: Course[T]) -> T:
        """Send, wait and send again as the course decides."""
        while True:
            outcome = await self._send(course)
            wait = course.wait_s(outcome)
            if wait is None:
                return course.result(outcome)
            await asyncio.sleep(wait)

    async def _send(self, course: Course[Any]) -> Outcome:
        """One attempt, its answer read whole."""
        try:
            async with (
                asyncio.timeout(course.remaining_s()),
                self._http.stream(**course.attempt()) as response,
            ):
                return await _whole(response)
        except TimeoutError:
            return httpx.ReadTimeout("The time is over.")
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            return failure

    async def _stream(
        self, calls: AsyncIterator[wire.Call[Predictions]], concurrency: int, timeout_s: float | None
    ) -> AsyncIterator[Prediction]:
        """The answers of many calls, in their order, so many of them under way at once."""
        waiting: deque[asyncio.Task[Predictions]] = deque()
        try:
            async for call in calls:
                course = Course(call, self._terms, timeout_s=timeout_s)
                waiting.append(asyncio.create_task(self._run(course)))
                if len(waiting) >= concurrency:
                    for answer in await waiting.popleft():
                        yield answer
            while waiting:
                for answer in await waiting.popleft():
                    yield answer
        finally:
            for task in waiting:
                task.cancel()
            # Failures behind the one that is raised have nobody to hear of them.
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _lines(self, course: Course[Predictions]) -> AsyncIterator[Prediction]:
        """The answers of one call, each as it comes."""
        while True:
            try:
                async with self._http.stream(**course.attempt()) as response:
                    if wire.comes_in_lines(response):
                        async for found in self._each(response, course):
                            yield found
                        return
                    outcome: Outcome = await _whole(response)
            except (httpx.HTTPError, httpx.InvalidURL) as failure:
                outcome = failure
            wait = course.wait_s(outcome)
            if wait is None:
                for answer in course.result(outcome):
                    yield answer
                return
            await asyncio.sleep(wait)

    async def _each(self, response: httpx.Response, course: Course[Any]) -> AsyncIterator[Prediction]:
        """The answers in the lines of a response.

        Raises:
            RemoteError: a line is an error, or none of Servable's.
            ServerUnreachable: the connection broke, or the time is over.
        """
        try:
            async for text in response.aiter_lines():
                course.check(response)
                found = wire.line(text, response.headers.get("x-request-id", ""))
                if found is not None:
                    yield found
        except httpx.HTTPError as failure:
            course.result(failure)
        except msgspec.MsgspecError as strange:
            raise course.not_ours(response) from strange


async def _whole(response: httpx.Response) -> wire.Reply:
    """A response read to its end."""
    return wire.Reply(response.status_code, response.headers, await response.aread())
