"""Calls of a model in plain Python: packed rows to its own types, its answers to arrays."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from servable.artifact.signature import Signature
from servable.errors import ModelFailed
from servable.frameworks.python_hints import Plan
from servable.frameworks.python_types import Record, Scalar, Tensor, columns
from servable.logs import fields, logger
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays, row_count

_log = logger("model")
_T = TypeVar("_T")
_END = object()


class Awaiter:
    """An event loop in a thread of its own, begun when the first thing is awaited. Safe to share.

    The same loop serves every call, so that connections and tasks of the model live on between calls. It ends
    when nobody has the awaiter any more.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def finished(self, value: Any) -> Any:
        """The value, or what comes of it when it must be awaited."""
        return self.wait(value) if asyncio.iscoroutine(value) else value

    def wait(self, work: "Coroutine[Any, Any, _T]") -> _T:
        """What comes of a coroutine; blocks."""
        return asyncio.run_coroutine_threadsafe(work, self._started()).result()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=[loop], name="servable-model", daemon=True).start()
                weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, and close it."""
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


class Answering(Protocol):
    """A model that was loaded."""

    @property
    def function(self) -> Callable[..., Any]:
        """What answers."""
        ...

    @property
    def plan(self) -> Plan:
        """How it is called."""
        ...

    @property
    def where(self) -> str:
        """Its file and name, for sentences and the log."""
        ...

    @property
    def awaiter(self) -> Awaiter:
        """Runs what is asynchronous."""
        ...


class PythonPredictor:
    """A function behind packed arrays. One call at a time.

    Args:
        model: what answers, and how it is called; its files stay as long as the predictor has it.
        signature: what it takes and gives.
    """

    concurrent = False

    def __init__(self, model: Answering, signature: Signature) -> None:
        self._model: Answering | None = model
        self._function: Callable[..., Any] | None = model.function
        self._plan = model.plan
        self._where = model.where
        self._awaiter = model.awaiter
        packed = [signature.packed(array) for array in (NUMBERS, STRINGS)]
        self._places = {field.name: place for group in packed for place, field in enumerate(group)}
        self._probabilities = signature.probabilities
        self._labels = {label: index for index, label in enumerate(signature.classes)}
        self._name = signature.answer.name
        self._task = signature.task

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows: in one call, or in one call a row.

        Raises:
            ModelFailed: the model raised, or gave what its types do not say. The log has the cause.
        """
        rows = row_count(arrays)
        given = self._given(arrays, rows)
        try:
            if self._plan.batch:
                answers = self._called(**given)
            elif self._plan.asynchronous and not self._plan.pieces:
                answers = self._awaiter.wait(self._together(given, rows))
            elif self._plan.pieces:
                answers = [list(self._steps(_row(given, row))) for row in range(rows)]
            else:
                answers = [self._called(**_row(given, row)) for row in range(rows)]
        except Exception as raised:  # Code of a user's may raise anything.
            raise self._failed(raised, f"on {rows} rows") from raised
        return self._packed(answers, rows)

    def stream(self, arrays: Arrays) -> Iterator[dict[str, Any]]:
        """Answer one row in pieces; see the seam.

        Raises:
            ModelFailed: as ``predict``.
        """
        steps = self._steps(_row(self._given(arrays, 1), 0))
        try:
            while True:
                try:
                    piece = next(steps, _END)
                except Exception as raised:  # Code of a user's may raise anything.
                    raise self._failed(raised, "in the middle of an answer") from raised
                if piece is _END:
                    return
                yield self._packed([[piece]], 1)
        finally:
            steps.close()

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        self._function = self._model = None
        self._awaiter = Awaiter()

    # ------------------------------------------------------------------ calls

    def _given(self, arrays: Arrays, rows: int) -> dict[str, Any]:
        return {
            name: columns(item, name, arrays, self._places, rows) for name, item in self._plan.takes.items()
        }

    def _called(self, **given: Any) -> Any:
        return self._awaiter.finished(cast("Callable[..., Any]", self._function)(**given))

    async def _together(self, given: dict[str, Any], rows: int) -> list[Any]:
        """All rows at once, so that they wait side by side."""
        function = cast("Callable[..., Any]", self._function)
        return list(await asyncio.gather(*[function(**_row(given, row)) for row in range(rows)]))

    def _steps(self, given: dict[str, Any]) -> "Generator[Any, None, None]":
        """The pieces of one row, as the model gives them; closing it closes the model's generator."""
        source = cast("Callable[..., Any]", self._function)(**given)
        if not hasattr(source, "__anext__"):
            try:
                yield from source
            finally:
                close = getattr(source, "close", None)
                if close is not None:
                    close()
            return

        async def following() -> Any:
            return await anext(source, _END)

        try:
            while (piece := self._awaiter.wait(following())) is not _END:
                yield piece
        finally:
            if hasattr(source, "aclose"):
                self._awaiter.wait(source.aclose())

    def _failed(self, raised: Exception, when: str) -> ModelFailed:
        if isinstance(raised, ModelFailed):
            return raised
        _log.error("a model raised", extra=fields(model=self._where), exc_info=raised)
        return ModelFailed(
            f"The model raised {type(raised).__name__} {when}; the server's log knows where."
        )  # fmt: skip

    # ------------------------------------------------------------------ answers

    def _packed(self, answers: Any, rows: int) -> dict[str, Any]:
        """The model's answers as arrays.

        Raises:
            ModelFailed: not one for each row, or none of the type that was promised.
        """
        try:
            count = len(answers)
        except TypeError:
            raise self._wrong(f"a {type(answers).__name__} instead of {rows} answers") from None
        if count != rows:
            raise self._wrong(f"{count} answers to {rows} rows")
        try:
            return self._arrays(answers)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            # What was raised may quote the answer, which belongs to the caller alone.
            raise self._wrong(f"what its types do not say ({type(error).__name__})") from error

    def _arrays(self, answers: Any) -> dict[str, Any]:
        gives, item = self._plan.gives, self._plan.gives.item
        if self._plan.pieces:
            return {self._name: self._joined(answers)}
        if gives.chances:
            return self._chances(answers)
        if isinstance(item, Record):
            return {
                name: scalar.column([item.look(answer, name) for answer in answers])
                for name, scalar in item.fields.items()
            }
        if isinstance(item, Tensor):
            if item.rows:
                return {self._name: item.checked(answers)}
            return {self._name: np.stack([item.checked(answer) for answer in answers])}
        if gives.labels:
            return {PREDICTION: np.array([self._labels[item.plain(each)] for each in answers], np.int64)}
        column = item.column(answers)
        return {PREDICTION if self._task == "regression" else self._name: column}

    def _chances(self, answers: Any) -> dict[str, Any]:
        found = np.zeros((len(answers), len(self._labels)))
        named = cast("Scalar", self._plan.gives.item)
        for row, chances in enumerate(answers):
            for label, chance in chances.items():
                found[row, self._labels[named.plain(label)]] = float(chance)
        return {PREDICTION: found.argmax(axis=1).astype(np.int64), PROBABILITIES: found}

    def _joined(self, answers: list[list[Any]]) -> Any:
        """The pieces of each row put together: a text, or their values one after the other."""
        item = self._plan.gives.item
        if isinstance(item, Tensor):
            return np.stack([np.stack([item.checked(piece) for piece in row]) for row in answers])
        scalar = cast("Scalar", item)
        if scalar.dtype != "str":
            return np.stack([scalar.column(row) for row in answers])
        texts = np.empty(len(answers), object)
        texts[:] = ["".join([scalar.plain(piece) for piece in row]) for row in answers]
        return texts

    def _wrong(self, what: str) -> ModelFailed:
        _log.error("a model gave what it does not promise: %s", what, extra=fields(model=self._where))
        return ModelFailed(f"{self._where} gave {what}.")


def _row(given: dict[str, Any], row: int) -> dict[str, Any]:
    return {name: values[row] for name, values in given.items()}
