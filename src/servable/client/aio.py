"""The client for asyncio."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import httpx

from servable.client import wire
from servable.client.course import Course, Outcome, Terms
from servable.client.results import Prediction, Predictions, Row, Rows, ServedModel
from servable.clock import Clock, SystemClock
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
        timeout_s: the most that one call may take, all its attempts together.
        retries: more attempts after the first, made only when the failure is passing (no connection, 429,
            502, 503, 504), with growing random waits, the server's Retry-After honoured, and never more
            than a tenth of all requests beyond a small reserve.
        headers: sent with every request.
        clock: measures the time; a test can hand in its own.

    Raises:
        SettingInvalid: ``url`` is no http address.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout_s: float = 30.0,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._terms = Terms(url, timeout_s, retries, clock or SystemClock())
        self._http = httpx.AsyncClient(**wire.connection(self.url, headers))

    @property
    def url(self) -> str:
        """The server's address."""
        return self._terms.url

    @overload
    async def predict(
        self, model: str | None, rows: Row, *, version: int | None = None, request_id: str | None = None
    ) -> Prediction: ...

    @overload
    async def predict(
        self, model: str | None, rows: Rows, *, version: int | None = None, request_id: str | None = None
    ) -> Predictions: ...

    @overload
    async def predict(
        self,
        model: str | None,
        rows: Any,
        *,
        version: int | None = None,
        request_id: str | None = None,
        single: bool | None = None,
    ) -> Any: ...

    async def predict(
        self,
        model: str | None,
        rows: Any,
        *,
        version: int | None = None,
        request_id: str | None = None,
        single: bool | None = None,
    ) -> Any:
        """Ask for the answer to one row or to several.

        Args:
            model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
            rows: one row (a dict by column name, or a flat list in the signature's order) gives one
                ``Prediction``; a list of rows, a DataFrame or a two-dimensional array gives ``Predictions``.
            version: asks for exactly this version.
            request_id: an id of the caller's own, found again in the server's log.
            single: says whether ``rows`` is one row, where its form does not (one image as an array).

        Raises:
            RequestInvalid: a value that JSON cannot carry.
            RemoteError: the server refused or failed; carries status, code, fields and request id.
            ServerUnreachable: no answer within the time.
        """
        call: wire.Call[Any] = wire.predict(
            model, rows, version=version, request_id=request_id, single=single
        )
        return await self._run(call)

    async def models(self) -> tuple[ServedModel, ...]:
        """What the server serves; raises as ``predict`` does."""
        return await self._run(wire.models())

    async def model(self, name: str) -> ServedModel:
        """One model's description; raises as ``predict`` does."""
        return await self._run(wire.model(name))

    async def ready(self) -> bool:
        """Whether the server answers and has loaded its models; one attempt, never raises for a no."""
        try:
            return await self._run(wire.ready(), patient=False)
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

    async def _run(self, call: wire.Call[T], *, patient: bool = True) -> T:
        """Send, wait and send again as the course decides."""
        course = Course(call, self._terms, patient=patient)
        while True:
            outcome = await self._send(call, course.remaining_s())
            wait = course.wait_s(outcome)
            if wait is None:
                return course.result(outcome)
            await asyncio.sleep(wait)

    async def _send(self, call: wire.Call[Any], timeout_s: float) -> Outcome:
        """One attempt."""
        try:
            return await self._http.request(
                call.method, call.path, content=call.body, headers=call.headers, timeout=timeout_s
            )
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            return failure
