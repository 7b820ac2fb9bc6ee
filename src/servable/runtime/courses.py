"""The streams of a model process, which has one thread: their steps take turns with one another.

A stream is stepped as long as it has credit: the pieces that the server said it would take. One without
credit costs nothing and waits.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from servable.errors import ModelFailed
from servable.frameworks.base import Predictor, StreamingPredictor
from servable.runtime.framing import AHEAD
from servable.runtime.stepping import close_quietly
from servable.tensors import Arrays


class Told(Protocol):
    """Where the pieces go."""

    def piece(self, number: int, arrays: dict[str, Any]) -> None:
        """The next piece of a stream."""
        ...

    def ended(self, number: int) -> None:
        """A stream is over, by itself or because it was stopped."""
        ...


class _Course:
    __slots__ = ("credit", "number", "source")

    def __init__(self, number: int, source: Iterator[dict[str, Any]]) -> None:
        self.number = number
        self.source = source
        self.credit = AHEAD


class Courses:
    """All streams of one process. Belongs to its thread.

    Args:
        told: hears of pieces and ends.
        guarded: runs a step for a number, and tells the server what it raised; whether it went well.
    """

    def __init__(self, told: Told, guarded: Callable[[int, Callable[[], None]], bool]) -> None:
        self._told = told
        self._guarded = guarded
        self._open: dict[int, _Course] = {}
        self._turns: deque[_Course] = deque()

    @property
    def ready(self) -> bool:
        """Whether a step can be made."""
        return bool(self._turns)

    def begin(self, number: int, predictor: Predictor, arrays: Arrays) -> None:
        """Begin a stream.

        Args:
            number: of the stream.
            predictor: the model.
            arrays: one row, of the stream's own memory.

        Raises:
            ModelFailed: the model gives no answers in pieces, or raised.
        """
        if not isinstance(predictor, StreamingPredictor):
            raise ModelFailed("The model does not answer in pieces.")
        course = _Course(number, iter(predictor.stream(arrays)))
        self._open[number] = course
        self._turns.append(course)

    def step(self) -> None:
        """Make one piece of the stream whose turn it is."""
        course = self._turns.popleft()
        if not self._guarded(course.number, lambda: self._advance(course)):
            self._open.pop(course.number, None)
            close_quietly(course.source)
        elif course.number in self._open and course.credit:
            self._turns.append(course)

    def _advance(self, course: _Course) -> None:
        piece = next(course.source, None)
        if piece is None:
            self._end(course)
            return
        course.credit -= 1
        self._told.piece(course.number, piece)

    def more(self, number: int, pieces: int) -> None:
        """The server takes so many more; a stream that is over is not meant any more."""
        course = self._open.get(number)
        if course is not None:
            if not course.credit:
                self._turns.append(course)
            course.credit += pieces

    def stop(self, number: int) -> None:
        """Nobody wants more of a stream."""
        course = self._open.get(number)
        if course is not None:
            if course in self._turns:
                self._turns.remove(course)
            close_quietly(course.source)
            self._end(course)

    def _end(self, course: _Course) -> None:
        del self._open[course.number]
        self._told.ended(course.number)

    def close(self) -> None:
        """Close all; nobody is told."""
        for course in self._open.values():
            close_quietly(course.source)
        self._open.clear()
        self._turns.clear()
