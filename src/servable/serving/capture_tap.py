"""Captures the requests of one live model: chooses them, and appends them to a page in memory.

What the page is for, and how it is bounded, see ``capturing``, which keeps a tap for each live model.
"""

import time
from collections.abc import Callable
from typing import Protocol
from zlib import crc32

from servable.artifact.personal import subject_header
from servable.artifact.signature import Signature
from servable.monitoring.capture import PredictionTable
from servable.monitoring.capture_pages import Page
from servable.monitoring.capture_scope import Taken, scope_of
from servable.monitoring.metrics import OK, Meter
from servable.registry.policy import Policy
from servable.runtime.waiting import Waiting
from servable.serving.live import Live
from servable.tensors import Arrays

#: Seconds for which the thread stands back between two steps.
_PAUSE_S = 0.0002
_WHOLE = 2**32
_wall = time.time


def chosen(request_id: str, share: float) -> bool:
    """Whether a request belongs to the captured share; by its id, so that a repeated one falls alike."""
    return share >= 1.0 or crc32(request_id.encode("utf-8", "replace")) < share * _WHOLE


class Keeps(Protocol):
    """Who keeps what taps capture; belongs to one event loop."""

    def take(self, tap: "CaptureTap", page: Page, rows: int, size: int) -> bool:
        """So many rows and bytes more; whether there is room for them."""
        ...

    def crowded(self, reference: str) -> None:
        """There was no room for some rows of a version."""
        ...

    def opened(self, tap: "CaptureTap") -> None:
        """A tap began a page."""
        ...

    def hand_over(self, tap: "CaptureTap") -> None:
        """Its page is not filled any further."""
        ...


class CaptureTap:
    """Captures the requests of one live model; implements ``Tap``.

    Attributes:
        page: what is being filled; None when nothing was captured since the last was handed over.
        meter: counts what was captured and dropped.
    """

    __slots__ = (
        "__weakref__",
        "_header",
        "_live",
        "_made",
        "_policy",
        "_recorder",
        "_scope",
        "meter",
        "page",
    )

    def __init__(self, recorder: Keeps, live: Live) -> None:
        self._recorder = recorder
        self._live = live
        self._scope = scope_of(live.signature)
        self._made: PredictionTable | None = None
        #: The policy for which the header was made out that says whom a request is about; empty for none.
        self._policy: Policy | None = None
        self._header = b""
        self.page: Page | None = None
        self.meter: Meter = live.meter

    @property
    def model(self) -> str:
        """Its name."""
        return self._live.model

    @property
    def reference(self) -> str:
        """``name:version``."""
        return self._live.wanted.reference

    @property
    def signature(self) -> Signature:
        """Of the version."""
        return self._live.signature

    @property
    def subject(self) -> str:
        """The input or header that says whom a request is about; empty where nobody says."""
        return self._live.wanted.policy.capture_subject

    def table(self, key: Callable[[], bytes]) -> PredictionTable:
        """What makes tables of it; in the thread alone."""
        if self._made is None or self._made.subject != self.subject:
            self._made = PredictionTable(self.signature, self._live.version, key(), pause, self.subject)
        return self._made

    def took(
        self, asked: Waiting, request_id: str, answers: Arrays | None, code: str, seconds: float
    ) -> None:
        """See ``Tap``."""
        policy = self._live.wanted.policy
        share = policy.capture
        rows = asked.rows
        # Without rows nothing was decoded: the caller's bytes were no request.
        if not share or not rows or not (share >= 1.0 or chosen(request_id, share)):
            return
        if policy is not self._policy:
            self._policy = policy
            self._header = subject_header(policy.capture_subject).encode("ascii", "replace")
        page = self.page
        if page is None or page.share != share:
            page = self._begin(share)
        at, size = _wall(), 0
        about = _text(asked.head.get(self._header, b"")) if self._header else ""
        if answers is not None and code == OK and asked.places is None:
            columns = page.columns or page.learn(asked.arrays, answers, rows)
            size = columns.add(asked.arrays, answers, request_id, rows, seconds, at, about)
        if size:
            if not self._recorder.take(self, page, rows, size):
                columns.undo()
                self._no_room(rows)
            return
        taken = Taken(asked.arrays, rows, request_id, answers, code, seconds, at, 0, asked.places, about)
        taken = self._scope.copied(taken)
        page.others.append(taken)
        if not self._recorder.take(self, page, rows, taken.size):
            page.others.pop()
            self._no_room(rows)

    def _begin(self, share: float) -> Page:
        self._recorder.hand_over(self)
        self.page = page = Page(self._scope, share)
        self._recorder.opened(self)
        return page

    def _no_room(self, rows: int) -> None:
        self.meter.capture_dropped += rows
        self._recorder.crowded(self.reference)


def pause() -> None:
    """Let requests that wait for the interpreter have it; without any time they would not wake up for it."""
    time.sleep(_PAUSE_S)


def _text(value: bytes) -> str:
    """The value of a header, which is UTF-8 by custom and may be anything."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
