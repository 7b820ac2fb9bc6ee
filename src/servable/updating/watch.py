"""``update --watch``: asks again and again whether a turn is due, until it is told to end."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from servable.clock import Clock, SystemClock, timestamp
from servable.errors import NotFoundError, ServableError, SettingInvalid
from servable.logs import fields, logger
from servable.monitoring.segment_cache import SegmentCache
from servable.progress import NoProgress, Progress
from servable.registry.schedules import ScheduleRecord, keep_schedule
from servable.updating.options import UpdateOptions
from servable.updating.plan import Triggers
from servable.updating.update import UpdateOutcome, scheduled, update
from servable.workflows.homes import opened

_log = logger("updating")
#: Seconds between two looks.
POLL_S = 30.0


def watch(
    name: str,
    options: UpdateOptions,
    *,
    home: str | Path | None = None,
    poll_s: float = POLL_S,
    ended: threading.Event | None = None,
    told: Callable[[UpdateOutcome], None] | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> None:
    """Update a model whenever that is due.

    A turn that fails is logged, and the next one is tried later; what is served stays. What can never
    succeed, such as a model that does not exist, ends the watch.

    Args:
        name: the model.
        options: what makes a turn due, and what the new version must reach.
        home: the folder of the registry; looked up when None.
        poll_s: seconds between two looks.
        ended: set to end it; a turn that runs is finished first.
        told: is called with what came of each look that made a turn.
        progress: told of every stage.
        clock: tells the time.

    Raises:
        ModelNotFound: there is no such model.
        SettingInvalid: the options or the model do not allow it.
    """
    over, seen = ended or threading.Event(), told or (lambda outcome: None)
    board, known = _Board(name, options.triggers, home, clock or SystemClock()), SegmentCache()

    def updated() -> UpdateOutcome:
        return update(
            name, options, home=home, progress=progress or NoProgress(), clock=board.clock, known=known
        )

    try:
        while not over.is_set():
            _look(name, updated, board, seen)
            over.wait(poll_s)
    finally:
        board.take_down()


def _look(
    name: str,
    updated: Callable[[], UpdateOutcome],
    board: "_Board",
    seen: Callable[[UpdateOutcome], None],
) -> None:
    """Make a turn if one is due."""
    try:
        board.put_up()
        outcome = updated()
        if outcome.turn is not None:
            seen(outcome)
            board.put_up()
        else:
            board.waiting(outcome.reason)
    except (NotFoundError, SettingInvalid):
        raise
    except ServableError as error:
        # Another process that has its turn, or a disk that is full, is no reason to give up.
        _log.warning("nothing was updated", extra=fields(model=name, reason=error.message))


class _Board:
    """What others are told about a watch: when it makes the next turn, and what it waits for."""

    def __init__(self, name: str, triggers: Triggers, home: str | Path | None, clock: Clock) -> None:
        self.clock = clock
        self._name = name
        self._triggers = triggers
        self._home = home
        self._shown: ScheduleRecord | None = None
        self._reason = ""

    def put_up(self) -> None:
        """Keep the next moment where ``status`` finds it, if it is another than before.

        Raises:
            ServableError: the home does not answer, or there is no such model.
        """
        with opened(self._home) as place:
            moment = scheduled(place, self._name, self._triggers, self.clock)
            if moment is None:
                return
            record = ScheduleRecord(
                next_at=timestamp(moment),
                cron=self._triggers.cron,
                timezone=self._triggers.timezone,
                every_s=self._triggers.every_s,
            )
            if record != self._shown:
                keep_schedule(place.findings, self._name, record)
                self._shown = record

    def take_down(self) -> None:
        """Let nobody wait for a watch that has ended; best effort."""
        if self._shown is None:
            return
        with suppress(ServableError), opened(self._home) as place:
            keep_schedule(place.findings, self._name, None)

    def waiting(self, reason: str) -> None:
        """Log what is waited for, if it is something else than before."""
        if reason != self._reason:
            self._reason = reason
            _log.info("no turn is due", extra=fields(model=self._name, reason=reason))
