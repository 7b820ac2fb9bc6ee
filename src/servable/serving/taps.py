"""Who is told what a live model was asked: nobody, a capture, a shadow, or several."""

from collections.abc import Iterable
from typing import Protocol

from servable.logs import fields, logger
from servable.runtime.waiting import Waiting
from servable.tensors import Arrays

_log = logger("serving")


class Tap(Protocol):
    """Is told what was asked of a live model and what came of it: capture, a shadow, or nobody.

    Called in the event loop after the caller was answered. It must neither raise nor block nor change
    what it is given, and takes microseconds.
    """

    def took(
        self, asked: Waiting, request_id: str, answers: Arrays | None, code: str, seconds: float
    ) -> None:
        """One request is over.

        Args:
            asked: the request, with its decoded ``arrays`` and ``rows``; nothing in it is changed any more.
            request_id: as the caller knows it.
            answers: what the model answered; None when it failed.
            code: ``ok`` or the error's code, as in the metrics.
            seconds: from its arrival to its answer.
        """
        ...


class Streamed(Waiting):
    """A request that was answered in pieces, which needs no place in the queue of the batcher.

    Attributes:
        taken_s: seconds for which its pieces were waited for; a caller who reads slowly does not count.
    """

    __slots__ = ("taken_s",)

    def __init__(self, arrays: Arrays, rows: int, taken_s: float) -> None:
        super().__init__(arrays, rows)
        self.taken_s = taken_s


class NoTap:
    """Nobody is told."""

    def took(
        self, asked: Waiting, request_id: str, answers: Arrays | None, code: str, seconds: float
    ) -> None:
        """Do nothing."""


NO_TAP = NoTap()


class Taps:
    """Tells each of them, whatever the others make of it. Belongs to one event loop.

    Args:
        taps: in the order in which they are told.
    """

    def __init__(self, taps: Iterable[Tap]) -> None:
        self._taps = tuple(taps)
        self._broken = False

    def took(
        self, asked: Waiting, request_id: str, answers: Arrays | None, code: str, seconds: float
    ) -> None:
        """See ``Tap``; what one of them raises harms neither the request nor the others."""
        for tap in self._taps:
            try:
                tap.took(asked, request_id, answers, code, seconds)
            except Exception as error:  # noqa: BLE001 - the caller was answered, and others are to be told
                self._complain(tap, error)

    def _complain(self, tap: Tap, error: Exception) -> None:
        # Once, because it would be the same for every request.
        if not self._broken:
            self._broken = True
            _log.error("a tap failed", extra=fields(tap=type(tap).__name__), exc_info=error)


def taps_of(taps: Iterable[Tap]) -> Tap:
    """One tap in place of several; those that do nothing are left out."""
    given = [tap for tap in taps if tap is not NO_TAP]
    return Taps(given) if given else NO_TAP
