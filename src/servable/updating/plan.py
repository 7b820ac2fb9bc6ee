"""When the next turn of the loop is due, and the steps that it takes. Pure functions of what was seen."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from servable.clock import span_s
from servable.errors import SettingInvalid
from servable.updating.schedule import in_zone, next_moment

#: The steps of a turn, in order. The outcome of each is kept before the next begins.
STEPS = ("collect", "train", "evaluate", "gate", "optimise", "register", "deploy")

#: What happens to a version that passed the gate: it takes over at once, in steps, is compared in the shadow
#: until a person decides, or is only registered.
Deploy = Literal["now", "canary", "shadow", "never"]

#: The longest pause after turns that failed, in seconds.
_LONGEST_REST_S = 86_400.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


class Triggers(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a turn due; any one of them does. None of them: every time that somebody asks.

    Attributes:
        every_s: seconds since the turn before began; 0 for never.
        cron: moments at which one is due, as a cron expression; empty for none.
        timezone: in which that is read, by its name in the IANA database.
        labels: rows whose labels came since the turn before; 0 for never.
        drift: whether drift that was found makes one due.
        quality: whether live quality that got worse makes one due.
        fewest: newly labelled rows without which nothing new can be learned, whatever else says so.
    """

    every_s: float = 0.0
    cron: str = ""
    timezone: str = "UTC"
    labels: int = 0
    drift: bool = False
    quality: bool = False
    fewest: int = 100

    @property
    def always(self) -> bool:
        """Whether a turn is made whenever somebody asks."""
        return not (self.every_s or self.cron or self.labels or self.drift or self.quality)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when somebody asks whether a turn is due.

    Attributes:
        fresh: rows that were labelled since the turn before collected its rows.
        since_s: seconds since the turn before began; None: there was none.
        now: the present moment.
        after: what a schedule counts from: when the turn before began, or, where there was none, when the
            present version was made.
        drift: what drifted in what the present version is asked, in one sentence; empty for nothing.
        quality: what got worse in its answers, in one sentence; empty for nothing.
        failures: how many turns failed since the last one that did not.
    """

    fresh: int
    since_s: float | None = None
    now: datetime = datetime.fromtimestamp(0, UTC)
    after: datetime = datetime.fromtimestamp(0, UTC)
    failures: int = 0
    drift: str = ""
    quality: str = ""


class Due(msgspec.Struct, frozen=True):
    """Whether a turn is due.

    Attributes:
        now: whether it is.
        reason: one sentence either way.
    """

    now: bool
    reason: str


def due(triggers: Triggers, seen: Seen) -> Due:
    """Whether the next turn is due, and why.

    What somebody asks for by hand is always due; what is left to triggers needs new labels first, so that
    an alarm that goes on does not make turn after turn out of the same rows.
    """
    if triggers.always:
        return Due(True, "asked for")
    pause = rest_s(seen.failures)
    if seen.since_s is not None and seen.since_s < pause:
        return Due(False, f"the last turn failed; the next one is tried in {spell(pause - seen.since_s)}")
    needed = max(triggers.fewest, 1)
    if seen.fresh < needed:
        return Due(False, f"{seen.fresh} rows were labelled since the last turn; {needed} are needed")
    if triggers.drift and seen.drift:
        return Due(True, f"drift: {seen.drift}")
    if triggers.quality and seen.quality:
        return Due(True, f"quality: {seen.quality}")
    if triggers.labels and seen.fresh >= triggers.labels:
        return Due(True, f"{seen.fresh} rows were labelled since the last turn")
    if triggers.every_s and (seen.since_s is None or seen.since_s >= triggers.every_s):
        past = (
            "there was no turn before"
            if seen.since_s is None
            else f"{spell(seen.since_s)} since the last turn"
        )
        return Due(True, past)
    if triggers.cron and seen.now >= _scheduled(triggers, seen):
        return Due(True, f"{triggers.cron} came at {_moment(triggers, seen)}")
    return Due(False, _waiting(triggers, seen))


def next_turn(triggers: Triggers, seen: Seen) -> datetime | None:
    """The moment from which a turn is due by time alone, in UTC; None where time makes none due.

    In the past for one that is due and waits for labels.
    """
    moments = []
    if triggers.every_s:
        pause = 0.0 if seen.since_s is None else triggers.every_s
        moments.append(seen.after + timedelta(seconds=pause))
    if triggers.cron:
        moments.append(_scheduled(triggers, seen))
    return min(moments, default=None)


def _scheduled(triggers: Triggers, seen: Seen) -> datetime:
    """The first moment of the schedule that no turn was made for; those missed are made up for by one."""
    return next_moment(triggers.cron, triggers.timezone, seen.after)


def _moment(triggers: Triggers, seen: Seen) -> str:
    return in_zone(_scheduled(triggers, seen), triggers.timezone)


def rest_s(failures: int) -> float:
    """Seconds after the beginning of a failed turn before the next is tried: a minute, doubled each time."""
    return min(60.0 * 2.0 ** (failures - 1), _LONGEST_REST_S) if failures else 0.0


def _waiting(triggers: Triggers, seen: Seen) -> str:
    """What is waited for."""
    waits = []
    if triggers.labels:
        waits.append(f"{triggers.labels - seen.fresh} more labelled rows")
    if triggers.every_s and seen.since_s is not None:
        waits.append(f"{spell(triggers.every_s - seen.since_s)} more")
    if triggers.cron:
        waits.append(_moment(triggers, seen))
    waits += [
        word for word, wanted in (("drift", triggers.drift), ("worse quality", triggers.quality)) if wanted
    ]
    return f"waiting for {' or '.join(waits)}"


def left(step: str) -> tuple[str, ...]:
    """The steps after one that was finished; all of them after none.

    Raises:
        ValueError: there is no such step.
    """
    return STEPS if not step else STEPS[STEPS.index(step) + 1 :]


def seconds_of(text: str) -> float:
    """A span of time such as ``90s``, ``10m``, ``6h``, ``1d`` or ``2w`` in seconds.

    Raises:
        SettingInvalid: it is none, or is no time at all.
    """
    found = span_s(text)
    if not found:
        raise SettingInvalid(f"{text!r} is no span of time; write for instance 10m, 6h or 1d.")
    return found


def spell(seconds: float) -> str:
    """A span of time in the largest unit that it fills."""
    size, unit = next(
        ((size, unit) for unit, size in reversed(_UNITS.items()) if seconds >= size), (1.0, "s")
    )
    return f"{max(seconds, 0.0) / size:.3g}{unit}"
