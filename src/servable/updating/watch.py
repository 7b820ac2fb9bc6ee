"""``update --watch``: asks again and again whether a turn is due, until it is told to end."""

import threading
from collections.abc import Callable
from pathlib import Path

from servable.clock import Clock, SystemClock
from servable.errors import NotFoundError, ServableError, SettingInvalid
from servable.logs import fields, logger
from servable.progress import NoProgress, Progress
from servable.updating.options import UpdateOptions
from servable.updating.update import UpdateOutcome, update

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
    waiting = ""
    while not over.is_set():
        try:
            outcome = update(
                name, options, home=home, progress=progress or NoProgress(), clock=clock or SystemClock()
            )
            if outcome.turn is not None:
                seen(outcome)
            elif outcome.reason != waiting:
                waiting = outcome.reason
                _log.info("no turn is due", extra=fields(model=name, reason=waiting))
        except (NotFoundError, SettingInvalid):
            raise
        except ServableError as error:
            # Another process that has its turn, or a disk that is full, is no reason to give up.
            _log.warning("nothing was updated", extra=fields(model=name, reason=error.message))
        over.wait(poll_s)
