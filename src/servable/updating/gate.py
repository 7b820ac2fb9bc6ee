"""The gate of the loop: whether a challenger may take the champion's place. Pure functions.

Both answered the same rows, which neither learned from. The rows are drawn again with replacement, the same
ones for both, so that what is hard for both cancels out; since they are in order of time, and neighbours in
time are alike, they are drawn in blocks of neighbours.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import Signature
from servable.errors import SettingInvalid
from servable.tensors import PREDICTION, PROBABILITIES
from servable.training.bootstrap import Answered, differences
from servable.training.measures import HIGHER_IS_BETTER

#: How often the rows are drawn again.
_DRAWS = 400
#: Seconds of one call below which nobody notices a difference.
_UNNOTICED_S = 0.0005

Answers = Mapping[str, NDArray[Any]]
#: Which of two versions serves where the rows do not tell them apart.
Favour = Literal["present", "newer", "drift"]


class GateRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a challenger must reach.

    Attributes:
        metric: what is compared; empty for the one that the recipe was chosen by (rmse for numbers).
        margin: by how much the challenger must be better, in the metric's own unit; below 0: by how much it
            may be worse.
        confidence: how sure that must be, one-sided; 0.5 for the mere figure.
        favour: who has the benefit of the doubt. ``present``: the challenger passes once it is shown to gain
            more than the margin. ``newer``: it passes unless it is shown to gain less, which is right where
            the world moves, since there the older of two models that look alike is the one that gets worse.
            ``drift``: ``newer`` if drift or worse answers were found when the turn began, else ``present``.
        slices: columns whose values, each by itself, must not get worse, or ``column=value``.
        slice_loss: by how much a slice may be worse before it counts.
        slower: how many times as long an answer to one row may take.
    """

    metric: str = ""
    margin: float = 0.0
    confidence: float = 0.9
    favour: Favour = "present"
    slices: tuple[str, ...] = ()
    slice_loss: float = 0.02
    slower: float = 3.0


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """What a challenger gains over the champion on some rows, positive where it is better.

    Attributes:
        name: ``all``, or the slice as ``column=value``.
        rows: how many.
        champion: its metric.
        challenger: the other's.
        gain: the difference, in the metric's own direction.
        low: lower end of the 95 % interval.
        high: its upper end.
        sure: the gain that is reached with the confidence that was asked for.
        most: the gain that is not exceeded with that confidence.
    """

    name: str
    rows: int
    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    sure: float
    most: float = math.inf


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Champion and challenger on the same rows.

    Attributes:
        metric: what was compared.
        whole: on all rows.
        slices: on each slice that has enough rows.
    """

    metric: str
    whole: Gain
    slices: tuple[Gain, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """Whether a challenger passed, and why: one sentence for each reason."""

    passed: bool
    reasons: tuple[str, ...]


def check(rules: GateRules) -> None:
    """Refuse rules that mean nothing.

    Raises:
        SettingInvalid: no such metric, or a number out of its range.
    """
    if rules.metric and rules.metric not in HIGHER_IS_BETTER:
        raise SettingInvalid(f"{rules.metric!r} is no metric; known are {', '.join(HIGHER_IS_BETTER)}.")
    if not 0.5 <= rules.confidence < 1:
        raise SettingInvalid(f"The confidence must be from 0.5 to below 1, not {rules.confidence:g}.")
    if not np.isfinite(rules.margin):
        raise SettingInvalid(f"The margin must be a finite number, not {rules.margin}.")
    if rules.favour not in get_args(Favour):
        raise SettingInvalid(
            f"{rules.favour!r} is nobody to favour; known are {', '.join(get_args(Favour))}."
        )
    if rules.slower < 1:
        raise SettingInvalid(
            f"An answer may take at least as long as before: 1 or more, not {rules.slower:g}."
        )


def compare(
    rules: GateRules,
    truth: NDArray[Any],
    champion: Answers,
    challenger: Answers,
    *,
    classes: int,
    slices: Mapping[str, NDArray[np.bool_]] | None = None,
    fewest: int = 50,
    seed: int = 0,
) -> Comparison:
    """Measure both on the same rows.

    Args:
        rules: the metric, and how sure to be.
        truth: class index or value ``[rows]``, in order of time.
        champion: its ``prediction`` and perhaps ``probabilities``, of the same classes.
        challenger: the other's.
        classes: how many classes there are; 0 for numbers.
        slices: rows of each slice ``[rows]``, by name.
        fewest: rows of a slice that can be judged.
        seed: of the drawing.

    Raises:
        SettingInvalid: the metric has no meaning on these rows.
    """
    metric = rules.metric or ("accuracy" if classes else "rmse")
    everything = np.ones(len(truth), bool)
    parts = {name: mask for name, mask in (slices or {}).items() if int(mask.sum()) >= fewest}
    # Each of many slices has a chance to look worse, so each must be surer.
    strict = 1 - (1 - rules.confidence) / max(len(parts), 1)
    found = []
    for name, mask in {"all": everything, **parts}.items():
        sure = rules.confidence if name == "all" else strict
        found.append(_gain(name, metric, sure, truth[mask], _part(champion, mask), _part(challenger, mask),
                           classes, seed))  # fmt: skip
    whole = found[0]
    if whole is None:
        raise SettingInvalid(
            f"{metric} has no meaning on these {len(truth)} rows; compare by another metric."
        )
    return Comparison(
        metric=metric, whole=whole, slices=tuple(each for each in found[1:] if each is not None)
    )


def judge(rules: GateRules, comparison: Comparison, *, moved: bool = False) -> Verdict:
    """Whether the challenger may take over: its gain on all rows, and no slice that gets worse.

    Args:
        rules: what it must reach, and who has the benefit of the doubt.
        comparison: what was measured.
        moved: whether drift or worse answers were found when the turn began.
    """
    whole, metric = comparison.whole, comparison.metric
    said = f"{metric} {whole.champion:.4f} -> {whole.challenger:.4f} on {whole.rows} rows"
    newer = rules.favour == "newer" or (rules.favour == "drift" and moved)
    doubt = _short_of(rules, whole, newer=newer)
    failed = [f"{said}: {doubt}"] if doubt else []
    failed += [
        f"{each.name} gets worse: {metric} {each.champion:.4f} -> {each.challenger:.4f} on {each.rows} rows"
        for each in comparison.slices
        if each.gain < -rules.slice_loss and each.high < 0
    ]
    if failed:
        return Verdict(False, tuple(failed))
    unproven = newer and whole.sure <= rules.margin
    by_doubt = f", and one below {rules.margin:g} is not shown, so the newer version is favoured"
    return Verdict(True, (f"{said}: gain {whole.gain:+.4f}{by_doubt if unproven else ''}",))


def _short_of(rules: GateRules, whole: Gain, *, newer: bool) -> str:
    """What the gain on all rows lacks, whoever has the benefit of the doubt; empty for nothing."""
    if newer:
        if whole.most >= rules.margin:
            return ""
        return (
            f"a gain below {rules.margin:g} is shown with {rules.confidence:.0%} confidence "
            f"(at most {whole.most:+.4f})"
        )
    # Of two models that answer alike the present one stays, unless worse ones would be welcome too.
    if whole.sure > rules.margin or (rules.margin < 0 and whole.sure == rules.margin):
        return ""
    return (
        f"a gain above {rules.margin:g} is not shown with {rules.confidence:.0%} confidence "
        f"(shown: {whole.sure:+.4f})"
    )


def in_time(rules: GateRules, champion_s: float, challenger_s: float) -> Verdict:
    """Whether the challenger, in the form that serves, answers one row quickly enough.

    Args:
        rules: how much slower it may be.
        champion_s: seconds of one call with one row of the present version.
        challenger_s: the same of the new one, measured at the same time on the same machine.
    """
    most = max(champion_s * rules.slower, _UNNOTICED_S)
    said = f"one row takes {challenger_s * 1e6:.0f} us, before {champion_s * 1e6:.0f} us"
    if challenger_s > most:
        return Verdict(False, (f"{said}; at most {most * 1e6:.0f} us are allowed",))
    return Verdict(True, (said,))


def aligned(signature: Signature, answers: Answers, labels: tuple[Any, ...]) -> dict[str, NDArray[Any]]:
    """Answers of a classifier in the order of other labels, which hold all of its own.

    Args:
        signature: of the model that answered.
        answers: as it gave them.
        labels: the classes that are counted in.
    """
    place = {str(label): index for index, label in enumerate(labels)}
    places = np.asarray([place[str(label)] for label in signature.classes], np.int64)
    found: dict[str, NDArray[Any]] = {PREDICTION: places[np.asarray(answers[PREDICTION], np.int64)]}
    if PROBABILITIES in answers:
        given = np.asarray(answers[PROBABILITIES], np.float64)
        wide = np.zeros((len(given), len(labels)))
        wide[:, places] = given
        found[PROBABILITIES] = wide
    return found


def _part(answers: Answers, mask: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(values)[mask] for name, values in answers.items()}


def _gain(
    name: str, metric: str, confidence: float, truth: NDArray[Any], champion: Answers, challenger: Answers,
    classes: int, seed: int,
) -> Gain | None:  # fmt: skip
    """The gain on some rows with its interval; None where the metric has no meaning on them."""
    rows = len(truth)
    sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0

    one, other = (
        Answered(truth, answers[PREDICTION], answers.get(PROBABILITIES), classes)
        for answers in (champion, challenger)
    )
    before, after = one.whole(metric), other.whole(metric)
    if before is None or after is None:
        return None
    rng = np.random.default_rng(seed)
    gains = sign * differences(metric, one, other, lambda: blocks(rng, rows), _DRAWS)
    gain = sign * (after - before)
    quantiles = [0.025, 0.975, 1 - confidence, confidence]
    low, high, sure, most = np.quantile(gains if len(gains) else [gain], quantiles).tolist()
    # The mere figure is what half the confidence means, and it lies between the bounds.
    sure, most = (gain, gain) if confidence == 0.5 else (min(sure, gain), max(most, gain))
    return Gain(
        name=name, rows=rows, champion=before, challenger=after, gain=gain, low=low, high=high, sure=sure,
        most=most,
    )  # fmt: skip


def blocks(rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Row numbers ``[rows]`` drawn with replacement, in blocks of the length of the cube root of all."""
    length = max(round(rows ** (1 / 3)), 1)
    starts = rng.integers(0, rows, -(-rows // length))
    drawn: NDArray[np.int64] = (starts[:, None] + np.arange(length)).reshape(-1)[:rows] % rows
    return drawn
