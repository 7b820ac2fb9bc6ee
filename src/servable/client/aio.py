"""The client for asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from servable.client import encoding, replies, wire
from servable.client.course import Course, Outcome, Terms, checked_concurrency
from servable.client.credentials import Certificate, key_of, trust_of
from servable.client.results import Piece, Prediction, Predictions, Row, Rows, ServedModel
from servable.clock import Clock
from servable.errors import RemoteError, ServerUnreachable

T = TypeVar("T")


class AsyncClient:
    """Talks to one Servable server and keeps its connections open. Belongs to one event loop.

    Cancelling a call closes its connection and leaves the others alone.

    Example::

        async with AsyncClient("http://127.0.0.1:8000") as client:
            print((await client.predict("iris", [5.1, 3.5, 1.4, 0.2])).prediction)

    Args:
        url: the server's address; this and all the rest as for ``Client``.
        timeout_s: the most that one call may take, all its attempts together.
        retries: more attempts after the first, made only when the failure is passing.
        api_key: sent as ``Authorization: Bearer``; None for that of the variable ``SERVABLE_API_KEY``.
        ca: file of the authorities in PEM whose certificates are trusted; None for that of the variable
            ``SSL_CERT_FILE``, or the usual ones.
        cert: file of the client's own certificate and its key in PEM, or a file for each; None for those of
            the variables ``SERVABLE_CLIENT_CERT`` and ``SERVABLE_CLIENT_KEY``, or none.
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
        ca: str | Path | None = None,
        cert: Certificate | None = None,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._terms = Terms(url, timeout_s, retries, clock)
        connection = wire.connection(self.url, headers, key_of(api_key))
        self._http = httpx.AsyncClient(**connection, transport=transport, verify=trust_of(ca, cert))

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
        """Ask for the answer to one row or to several; all as in ``Client.predict``."""
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

        As ``Client.predict_stream``, and ``rows`` may be asynchronous, too. Closing the iterator early
        cancels the requests that are under way.
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

        As ``Client.predict_lines``.
        """
        call = wire.predict_lines(model, rows, version=version, request_id=request_id)
        return self._parts(Course(call, self._terms, timeout_s=timeout_s))

    def stream(
        self,
        model: str | None,
        row: Any,
        *,
        version: int | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Piece]:
        """Ask for the answer to one row in pieces, and give each as soon as the model has made it.

        As ``Client.stream``. Leaving a loop over it does not close it at once; ``contextlib.aclosing`` does.
        """
        call = wire.stream(model, row, version=version, request_id=request_id)
        return self._parts(Course(call, self._terms, timeout_s=timeout_s, by_part=timeout_s is None))

    async def feedback(
        self,
        model: str,
        about: str | Prediction | Predictions,
        outcome: Any = None,
        *,
        row: int = 0,
        reward: float | None = None,
        observed_at: Any = None,
        timeout_s: float | None = None,
    ) -> int:
        """Say what turned out about an answer; as ``Client.feedback``."""
        call = wire.feedback(model, about, outcome, row, {"reward": reward, "observed_at": observed_at})
        return await self._run(Course(call, self._terms, timeout_s=timeout_s))

    async def feedback_rows(self, model: str, rows: Any, *, timeout_s: float | None = None) -> int:
        """Say what turned out about many answers at once; as ``Client.feedback_rows``."""
        return await self._run(Course(wire.feedback_rows(model, rows), self._terms, timeout_s=timeout_s))

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
        pause_s = self._terms.patience(timeout_s)
        while not await self.ready():
            await asyncio.sleep(pause_s())

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

    async def _parts(self, course: Course[Any]) -> AsyncGenerator[Any]:
        """The parts of one answer, each as it comes."""
        while True:
            try:
                async with self._http.stream(**course.attempt()) as response:
                    parts = course.parts(response)
                    if parts is not None:
                        with course.reading(response):
                            async for data in response.aiter_bytes():
                                for found in course.found(parts, data, response):
                                    yield found
                            for found in parts.finish():
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


async def _whole(response: httpx.Response) -> replies.Reply:
    """A response read to its end."""
    return replies.Reply(response.status_code, response.headers, await response.aread())
