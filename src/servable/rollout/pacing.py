"""Finds the outcomes of captured requests no more often than their reading takes time for."""

from collections.abc import Mapping
from datetime import datetime

from servable.clock import Clock
from servable.errors import ServableError
from servable.logs import fields, logger
from servable.registry.home import Home
from servable.registry.records import DeploymentRecord
from servable.rollout.outcomes import Finding, Outcomes, captured

_log = logger("rollout")
#: Least seconds between two readings for one model.
_LEAST_S = 2.0
#: So many times as long as a reading took lie between it and the next.
_TIMES = 10.0


class Paced:
    """Remembers the last outcomes of each model. Belongs to one thread.

    What cannot be read is logged, and the outcomes before hold.

    Args:
        clock: the time.
        outcomes: finds them.
    """

    def __init__(self, clock: Clock, outcomes: Finding = captured) -> None:
        self._clock = clock
        self._outcomes = outcomes
        self._known: dict[tuple[str, datetime], tuple[float, Mapping[int, Outcomes]]] = {}

    def __call__(self, home: Home, deployment: DeploymentRecord, since: datetime) -> Mapping[int, Outcomes]:
        """See ``Finding``."""
        key, now = (deployment.model, since), self._clock.monotonic()
        due, known = self._known.get(key, (now, {}))
        if now < due:
            return known
        try:
            known = self._outcomes(home, deployment, since)
        except ServableError as error:
            _log.warning(
                "outcomes cannot be read", extra=fields(model=deployment.model, reason=error.message)
            )
        took = self._clock.monotonic() - now
        # One rollout of a model goes on at a time.
        self._known = {other: found for other, found in self._known.items() if other[0] != key[0]}
        self._known[key] = (now + max(_LEAST_S, took * _TIMES), known)
        return known
