"""The client for plain code."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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


class Client:
    """Talks to one Servable server and keeps its connections open. Safe to share between threads.

    Example::

        with Client("http://127.0.0.1:8000") as client:
            print(client.predict("iris", [5.1, 3.5, 1.4, 0.2]).prediction)

    Args:
        url: the server's address.
        timeout_s: the most that one call may take, all its attempts together. The server is told what is
            left and gives up then as well.
        retries: more attempts after the first, made only when the failure is passing (no connection, 429,
            502, 503, 504), with growing random waits, the server's Retry-After honoured, and never more
            than a tenth of all requests beyond a small reserve.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._terms = Terms(url, timeout_s, retries, clock)
        connection = wire.connection(self.url, headers, key_of(api_key))
        self._http = httpx.Client(**connection, transport=transport, verify=trust_of(ca, cert))

    @property
    def url(self) -> str:
        """The server's address."""
        return self._terms.url

    @overload
    def predict(self, model: str | None, rows: Row, **how: Unpack[wire.How]) -> Prediction: ...

    @overload
    def predict(self, model: str | None, rows: Rows, **how: Unpack[wire.How]) -> Predictions: ...

    @overload
    def predict(self, model: str | None, rows: Any, **how: Unpack[wire.How]) -> Any: ...

    def predict(
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
        return self._run(Course(call, self._terms, timeout_s=timeout_s))

    def predict_stream(
        self,
        model: str | None,
        rows: Iterable[Any],
        *,
        version: int | None = None,
        batch_rows: int = 256,
        concurrency: int = 4,
        timeout_s: float | None = None,
    ) -> Iterator[Prediction]:
        """Ask for the answers to rows without end, and give them in the order of the rows.

        The rows go in batches, several at once. No more of them are taken from the iterator than are under
        way, so that neither the rows nor the answers have to fit into memory.

        Args:
            model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
            rows: an iterator or any iterable of rows, a DataFrame, or an array.
            version: asks for exactly this version.
            batch_rows: rows in one request.
            concurrency: requests under way at once.
            timeout_s: the most that one batch may take, instead of the client's.

        Raises:
            RequestInvalid: one row, or something that holds none.
            SettingInvalid: a number below 1.
            ServableError: as ``predict``, once the answers before the failing batch were given.
        """
        batches = encoding.batches(rows, batch_rows)
        calls = (wire.predict(model, batch, version=version, single=False) for batch in batches)
        return self._stream(calls, checked_concurrency(concurrency), timeout_s)

    def predict_lines(
        self,
        model: str | None,
        rows: Any,
        *,
        version: int | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Prediction]:
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
        return self._parts(Course(call, self._terms, timeout_s=timeout_s))

    def stream(
        self,
        model: str | None,
        row: Any,
        *,
        version: int | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Generator[Piece]:
        """Ask for the answer to one row in pieces, and give each as soon as the model has made it.

        Closing the iterator closes the connection, which stops the model; ``contextlib.closing`` does it in
        any case. What was begun is not tried again.

        Args:
            model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
            row: one row, in any form that ``predict`` takes.
            version: asks for exactly this version.
            request_id: an id of the caller's own, found again in the server's log.
            timeout_s: the most that all of it may take, which the server is told. Without it the client's
                time is for the wait for each piece, and the server's limits are for the whole.

        Raises:
            ServableError: as ``predict``, possibly after the first pieces: ``RemoteError`` with the server's
                code for what failed in the middle, ``ServerUnreachable`` for an answer that broke off.
        """
        call = wire.stream(model, row, version=version, request_id=request_id)
        return self._parts(Course(call, self._terms, timeout_s=timeout_s, by_part=timeout_s is None))

    def feedback(
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
        """Say what turned out about an answer; when this returns, the server has it on its disk.

        Saying it again changes nothing; saying something else corrects it.

        Args:
            model: its name.
            about: the answer, or the id of its request.
            outcome: the label or number that came true; for ``Predictions`` a list, one for each row.
            row: place of the row within a request of several.
            reward: what the answer was worth.
            observed_at: when it came true: a datetime, or ISO 8601.
            timeout_s: the most that this call may take, instead of the client's.

        Returns:
            How many rows of feedback were kept.

        Raises:
            RequestInvalid: a value that JSON cannot carry, or another number of outcomes than of answers.
            RemoteError: the server refused it, for instance for a class that the model does not know.
            ServerUnreachable: no answer within the time.
        """
        call = wire.feedback(model, about, outcome, row, {"reward": reward, "observed_at": observed_at})
        return self._run(Course(call, self._terms, timeout_s=timeout_s))

    def feedback_rows(self, model: str, rows: Any, *, timeout_s: float | None = None) -> int:
        """Say what turned out about many answers at once; all of it is kept, or nothing.

        Args:
            model: its name.
            rows: a list of dicts or a DataFrame with ``request_id`` and ``outcome`` or ``reward``, and
                ``row`` and ``observed_at`` where they are needed.
            timeout_s: the most that this call may take, instead of the client's.

        Returns:
            How many rows of feedback were kept.

        Raises:
            ServableError: as ``feedback``.
        """
        return self._run(Course(wire.feedback_rows(model, rows), self._terms, timeout_s=timeout_s))

    def models(self) -> tuple[ServedModel, ...]:
        """What the server serves; raises as ``predict`` does."""
        return self._run(Course(wire.models(), self._terms))

    def model(self, name: str) -> ServedModel:
        """One model's description; raises as ``predict`` does."""
        return self._run(Course(wire.model(name), self._terms))

    def ready(self) -> bool:
        """Whether the server answers and has loaded its models; one attempt, never raises for a no."""
        try:
            return self._run(Course(wire.ready(), self._terms, patient=False))
        except (RemoteError, ServerUnreachable):
            return False

    def wait_until_ready(self, timeout_s: float = 30.0) -> None:
        """Return as soon as the server is ready.

        Raises:
            ServerUnreachable: it was not within ``timeout_s`` seconds.
        """
        pause_s = self._terms.patience(timeout_s)
        while not self.ready():
            time.sleep(pause_s())

    def close(self) -> None:
        """Close the connections. A closed client cannot be used again."""
        self._http.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def _run(self, course: Course[T]) -> T:
        """Send, wait and send again as the course decides."""
        while True:
            outcome = self._send(course)
            wait = course.wait_s(outcome)
            if wait is None:
                return course.result(outcome)
            time.sleep(wait)

    def _send(self, course: Course[Any]) -> Outcome:
        """One attempt, its answer read whole."""
        try:
            with self._http.stream(**course.attempt()) as response:
                return _whole(response, course)
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            return failure

    def _stream(
        self, calls: Iterator[wire.Call[Predictions]], concurrency: int, timeout_s: float | None
    ) -> Iterator[Prediction]:
        """The answers of many calls, in their order, so many of them under way at once."""

        def ask(call: wire.Call[Predictions]) -> Predictions:
            return self._run(Course(call, self._terms, timeout_s=timeout_s))

        waiting: deque[Future[Predictions]] = deque()
        with ThreadPoolExecutor(concurrency, thread_name_prefix="servable-client") as pool:
            try:
                for call in calls:
                    waiting.append(pool.submit(ask, call))
                    if len(waiting) >= concurrency:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _parts(self, course: Course[Any]) -> Generator[Any]:
        """The parts of one answer, each as it comes."""
        while True:
            try:
                with self._http.stream(**course.attempt()) as response:
                    parts = course.parts(response)
                    if parts is not None:
                        with course.reading(response):
                            for data in response.iter_bytes():
                                yield from course.found(parts, data, response)
                            yield from parts.finish()
                        return
                    outcome: Outcome = _whole(response, course)
            except (httpx.HTTPError, httpx.InvalidURL) as failure:
                outcome = failure
            wait = course.wait_s(outcome)
            if wait is None:
                yield from course.result(outcome)
                return
            time.sleep(wait)


def _whole(response: httpx.Response, course: Course[Any]) -> replies.Reply:
    """A response read to its end, or to that of the call's time."""
    parts = []
    for part in response.iter_bytes():
        parts.append(part)
        course.check(response)
    return replies.Reply(response.status_code, response.headers, b"".join(parts))
