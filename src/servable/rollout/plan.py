"""What follows from the evidence of a step: go on, wait, go back, or promote the challenger. Pure.

A challenger goes back as soon as the evidence against it is certain at the stated rate (``evidence``), at
any moment of any step. It goes on when the step lasted long enough and saw enough requests, and it does not
look worse at this look either. Otherwise it waits, and a step that waits beyond the patience waits for a
person.
"""

from typing import NamedTuple

from servable.rollout.evidence import Comparison, Evidence, compare
from servable.rollout.sequential import Interval
from servable.rollout.spec import ALL, Spec


class Step(NamedTuple):
    """Where a rollout stands.

    Attributes:
        number: of the step, from 0.
        since: when it began, in seconds since 1970.
        held: whether a person is waited for.
    """

    number: int
    since: float
    held: bool = False


class Advance(NamedTuple):
    """The next step may begin."""

    reason: str
    comparisons: tuple[Comparison, ...] = ()


class Hold(NamedTuple):
    """Nothing is changed.

    Attributes:
        reason: one sentence.
        cause: ``time``, ``sample``, ``doubt``, ``load``, ``compared``, ``held`` or ``patience``; the last
            means that from now on a person is waited for.
        comparisons: the measures.
    """

    reason: str
    cause: str
    comparisons: tuple[Comparison, ...] = ()


class RollBack(NamedTuple):
    """The champion answers everything again."""

    reason: str
    comparisons: tuple[Comparison, ...] = ()


class Promote(NamedTuple):
    """The challenger is deployed."""

    reason: str
    comparisons: tuple[Comparison, ...] = ()


Decision = Advance | Hold | RollBack | Promote


def plan(spec: Spec, step: Step, evidence: Evidence, now: float) -> Decision:
    """Decide. The same arguments always give the same decision.

    Args:
        spec: what was asked for.
        step: where the rollout stands.
        evidence: what was seen.
        now: seconds since 1970.
    """
    if evidence.failures and not evidence.loaded and not evidence.whole.challenger.requests:
        why = next(iter(evidence.failures.values())).rstrip(".")
        return RollBack(f"The challenger could not be loaded anywhere: {why}.")
    comparisons = compare(spec, evidence)
    if not spec.steps:
        return Hold("The versions are compared; nothing is changed by itself.", "compared", comparisons)
    worse = [said(each) for each in comparisons if each.worse]
    if worse:
        return RollBack(_sentence(worse), comparisons)
    if step.held:
        return Hold("A person is waited for.", "held", comparisons)
    waiting = _waiting(spec, step, evidence, comparisons, now)
    if waiting is not None:
        if waiting.cause != "time" and now - step.since >= spec.patience_s:
            why = waiting.reason[0].lower() + waiting.reason[1:]
            reason = f"No progress within {spec.patience_s:,.0f} seconds: {why}"
            return Hold(reason, "patience", comparisons)
        return waiting
    seen = evidence.step.challenger.requests
    passed = f"Nothing speaks against it after {seen:,} requests in {now - step.since:,.0f} seconds."
    last = step.number + 1 >= len(spec.steps)
    return Promote(passed, comparisons) if last else Advance(passed, comparisons)


def _waiting(
    spec: Spec, step: Step, evidence: Evidence, comparisons: tuple[Comparison, ...], now: float
) -> Hold | None:
    """Why the step is not passed yet; None when it is."""
    lasted = now - step.since
    if lasted < spec.every_s:
        return Hold(f"The step lasts {spec.every_s:,.0f} seconds at least.", "time", comparisons)
    wanted, pair = spec.min_requests, evidence.step
    if pair.challenger.requests < wanted:
        reason = (
            f"The challenger got {pair.challenger.requests:,} of the {wanted:,} requests that a step needs."
        )
        return Hold(reason, "sample", comparisons)
    if spec.steps[step.number] < ALL and pair.champion.requests < wanted:
        reason = f"The champion got {pair.champion.requests:,} of the {wanted:,} requests that a step needs."
        return Hold(reason, "sample", comparisons)
    if evidence.failures:
        server, why = next(iter(evidence.failures.items()))
        return Hold(f"It could not be loaded by {server}: {why.rstrip('.')}.", "load", comparisons)
    doubts = [said(each) for each in comparisons if each.doubtful]
    if doubts:
        return Hold(f"It looks worse and is not certain yet: {_sentence(doubts)}", "doubt", comparisons)
    return None


def said(comparison: Comparison) -> str:
    """A comparison in words, without an end."""
    name = comparison.measure + (f" {comparison.of!r}" if comparison.of else "")
    theirs = _shown(comparison.challenger, comparison.challenger_interval, comparison.unit)
    ours = _shown(comparison.champion, comparison.champion_interval, comparison.unit)
    return f"{name} {theirs} against {ours}"


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _shown(value: float | None, interval: Interval | None, unit: str) -> str:
    shown = "nothing" if value is None else in_unit(value, unit)
    if interval is None:
        return shown
    return f"{shown} ({in_unit(interval[0], unit)} to {in_unit(interval[1], unit)})"


def in_unit(value: float, unit: str) -> str:
    """A number in the unit of its measure, for people."""
    if value == float("inf"):
        return "∞"
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "seconds":
        return f"{value * 1000:.3g} ms"
    return f"{value:.4g}"
