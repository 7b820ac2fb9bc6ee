"""What a rollout was asked to do, and how texts such as ``1,5,25,100`` and ``10m`` are read. Pure."""

import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from servable.clock import span_s
from servable.errors import SettingInvalid, StorageFailed

#: Share of the requests, in percent, at which nobody else answers.
ALL = 100.0
#: Steps that a rollout has at most; the stated error rate is divided among them.
MOST_STEPS = 20
#: A step that does not say otherwise may last so many times as long as it must.
PATIENT_STEPS = 10
_LEAST_PATIENCE_S = 3600.0
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Margins(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much worse than the champion a challenger may be. Within them versions count as equally good.

    Attributes:
        error_rate: share of failed requests that may be added: 0.001 is a tenth of a point.
        latency: factor by which median and 95th percentile of the durations may be longer.
        accuracy: share of right answers that may be lost.
        loss: factor by which the mean loss of numbers may be larger.
        reward: share of the champion's mean reward that may be lost.
        outputs: how much the share of any one answer may differ, up or down.
    """

    error_rate: float = 0.001
    latency: float = 1.2
    accuracy: float = 0.01
    loss: float = 1.05
    reward: float = 0.02
    outputs: float = 0.25


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rollout as it was asked for.

    Attributes:
        steps: share of the requests that the challenger gets in each step, in percent, rising; none: the
            versions are only compared.
        every_s: seconds that a step lasts at least, or that lie between two changes of a bandit's weights.
        min_requests: requests of the challenger, and of the champion while it answers, that a step needs.
        patience_s: seconds after which a step that could not be passed waits for a person.
        alpha: with what probability an equally good challenger is ever rolled back, over all steps, measures
            and looks together.
        max_error_rate: share of failed requests above which the challenger is rolled back, whatever the
            champion does; None: only the comparison counts.
        margins: what still counts as equally good.
    """

    steps: tuple[float, ...] = ()
    every_s: float = 600.0
    min_requests: int = 200
    patience_s: float = 6000.0
    alpha: float = 0.05
    max_error_rate: float | None = None
    margins: Margins = Margins()


def read_spec(stored: Mapping[str, Any]) -> Spec:
    """A spec as a record keeps it.

    Raises:
        StorageFailed: it is none.
    """
    try:
        return msgspec.convert(stored, Spec)
    except msgspec.ValidationError as error:
        raise StorageFailed(f"The registry holds a damaged spec of a rollout: {error}.") from error


def made_spec(
    steps: Iterable[float] = (),
    *,
    every_s: float = 600.0,
    min_requests: int = 200,
    patience_s: float | None = None,
    alpha: float = 0.05,
    max_error_rate: float | None = None,
    margins: Margins | None = None,
) -> Spec:
    """A spec whose values were looked at; the arguments are those of ``Spec``.

    Raises:
        SettingInvalid: a value that cannot be used; one sentence says which.
    """
    shares = tuple(float(share) for share in steps)
    if len(shares) > MOST_STEPS:
        raise SettingInvalid(f"A rollout has at most {MOST_STEPS} steps, not {len(shares)}.")
    rising = all(before < after for before, after in pairwise(shares))
    if not rising or not all(math.isfinite(share) and 0 < share <= ALL for share in shares):
        shown = ",".join(f"{share:g}" for share in shares)
        raise SettingInvalid(f"Steps are rising shares in percent such as 1,5,25,100, not {shown}.")
    if not 0 < every_s <= 365 * 86_400:
        raise SettingInvalid(f"A step must last above 0 seconds and at most a year, not {every_s:g} seconds.")
    if not 1 <= min_requests <= 10**9:
        raise SettingInvalid(f"A step needs 1 to 1,000,000,000 requests, not {min_requests:,}.")
    patience = max(PATIENT_STEPS * every_s, _LEAST_PATIENCE_S) if patience_s is None else patience_s
    if not patience >= every_s:
        raise SettingInvalid(
            f"The patience of {patience:g} seconds is shorter than a step of {every_s:g}; make it longer."
        )
    if not 0 < alpha <= 0.5:
        raise SettingInvalid(f"The rate of false roll-backs must be above 0 and at most 0.5, not {alpha:g}.")
    if max_error_rate is not None and not 0 < max_error_rate < 1:
        raise SettingInvalid(f"The error rate must be above 0 and below 1, not {max_error_rate:g}.")
    return Spec(
        steps=shares,
        every_s=every_s,
        min_requests=min_requests,
        patience_s=patience,
        alpha=alpha,
        max_error_rate=max_error_rate,
        margins=margins or Margins(),
    )


def steps_of(text: str) -> tuple[float, ...]:
    """The shares of a text such as ``1,5,25,100``, in percent.

    Raises:
        SettingInvalid: it is no list of numbers.
    """
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError:
        raise SettingInvalid(
            f"Steps are rising shares in percent such as 1,5,25,100, not {text[:60]!r}."
        ) from None


def seconds_of_text(text: str | float) -> float:
    """The seconds of a text such as ``30s``, ``10m``, ``2h`` or ``1d``; a number is in seconds already.

    Raises:
        SettingInvalid: it is no duration.
    """
    if isinstance(text, int | float):
        return float(text)
    found = float(text) if _NUMBER.fullmatch(text.strip()) else span_s(text)
    if found is None:
        raise SettingInvalid(f"A duration is one such as 30s, 10m, 2h or 1d, not {text[:60]!r}.")
    return found
