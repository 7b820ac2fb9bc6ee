"""How much of a metric a lossy form may cost: the limit as people write it, and the gate. Pure functions.

A form that computes with less precision answers a little differently on purpose, so equality cannot decide
about it. What decides is a metric on held-out rows whose true answers are known: the trained model's against
the form's, on the very same rows.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.loss import Loss, MaxLoss
from servable.artifact.signature import Signature
from servable.errors import SettingInvalid
from servable.tensors import PREDICTION, PROBABILITIES
from servable.training import measures
from servable.training.bootstrap import Answered, differences

#: With fewer rows a loss cannot be told from chance, so nothing passes.
FEWEST_ROWS = 50
#: Fewest and most times that the rows are drawn again for the interval, and rows drawn in all, about.
_FEWEST_DRAWS, _MOST_DRAWS, _DRAWN = 60, 400, 1_000_000
#: What computing with fractions adds to a loss that is exactly the limit.
_ROUNDING = 1e-12
_WRITTEN = re.compile(r"\s*(?P<metric>[a-z][a-z0-9_]*)\s*=\s*(?P<most>[^%\s]+)\s*(?P<share>%?)\s*")


def parse_max_loss(text: str) -> MaxLoss:
    """Read a limit such as ``accuracy=0.005`` or ``rmse=1%``.

    Raises:
        SettingInvalid: not of this form, or no number that is at least 0.
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise SettingInvalid(
            f"{text!r} is no largest loss; write metric=number, for instance accuracy=0.005 or rmse=1%."
        )
    try:
        most = float(written["most"])
    except ValueError:
        most = math.nan
    relative = bool(written["share"])
    return _sound(MaxLoss(written["metric"], most / 100 if relative else most, relative))


def _sound(limit: MaxLoss) -> MaxLoss:
    """The limit, if its number can be one.

    Raises:
        SettingInvalid: it cannot.
    """
    if not math.isfinite(limit.most) or limit.most < 0:
        raise SettingInvalid(
            f"The largest loss of {limit.metric} must be a number that is at least 0, for instance "
            f"{limit.metric}=0.005."
        )
    return limit


def measured_metrics(signature: Signature) -> tuple[str, ...]:
    """The metrics in which a loss of this model can be measured; none where answers are not true or false."""
    if signature.task == "regression":
        return measures.OF_VALUES
    if signature.task != "classification":
        return ()
    two = measures.OF_TWO_LABELS if len(signature.classes) == 2 else ()
    return (*measures.OF_LABELS, *two, *(measures.OF_PROBABILITIES if signature.probabilities else ()))


def check(limit: MaxLoss, signature: Signature) -> None:
    """Make sure that a limit can be held against a model's answers.

    Raises:
        SettingInvalid: its number is none, the model's answers have no truth, or its metric is not measured
            for this model.
    """
    _sound(limit)
    known = measured_metrics(signature)
    if not known:
        raise SettingInvalid(
            f"A loss of {limit.metric} cannot be measured, because the task is {signature.task}; it needs a "
            "classifier or a regressor."
        )
    if limit.metric not in known:
        why = (
            "is not measured for this model" if limit.metric in measures.HIGHER_IS_BETTER else "is no metric"
        )
        raise SettingInvalid(f"{limit.metric!r} {why}; a largest loss can be given in {', '.join(known)}.")


def gate(
    limit: MaxLoss,
    truth: NDArray[Any],
    trained: Mapping[str, NDArray[Any]],
    variant: Mapping[str, NDArray[Any]],
    *,
    classes: int = 0,
    seed: int = 0,
) -> Loss:
    """Whether a form's answers are good enough beside the trained model's, on the same rows.

    The loss is how much worse the form is in the metric's own direction; it passes when that is at most the
    limit. The interval tells how sure the figure is: rows are drawn again with replacement, the same ones for
    both, so that what is hard for both models cancels out.

    Args:
        limit: what is allowed.
        truth: class index or value ``[rows]``.
        trained: the trained model's ``prediction`` and perhaps ``probabilities`` for these rows.
        variant: the form's.
        classes: how many the model has; 0 for a regressor.
        seed: of the drawing.
    """
    rows = len(truth)
    if rows < FEWEST_ROWS:
        reason = f"{rows} rows are too few to tell a loss, {FEWEST_ROWS} are needed"
        return Loss(metric=limit.metric, rows=rows, passed=False, reason=reason)
    mine, theirs = (_answered(truth, answers, classes) for answers in (trained, variant))
    before, after = mine.whole(limit.metric), theirs.whole(limit.metric)
    if before is None or after is None:
        whose = "the trained model's" if before is None else "its"
        reason = f"{whose} answers to these rows have no {limit.metric}"
        return Loss(metric=limit.metric, rows=rows, passed=False, reason=reason)
    draws = int(np.clip(_DRAWN // rows, _FEWEST_DRAWS, _MOST_DRAWS))
    rng = np.random.default_rng(seed)
    worse = (theirs, mine) if measures.HIGHER_IS_BETTER[limit.metric] else (mine, theirs)
    losses = differences(limit.metric, *worse, lambda: rng.integers(0, rows, rows), draws)
    loss = _worse(limit.metric, before, after)
    low, high = np.quantile(losses, [0.025, 0.975]).tolist() if len(losses) else (loss, loss)
    most = limit.most * abs(before) if limit.relative else limit.most
    passed = loss <= most + _ROUNDING * max(1.0, abs(before))
    reason = f"{limit.metric} gets worse by {loss:.4g}, more than {most:.4g}"
    return Loss(
        metric=limit.metric,
        trained=before,
        variant=after,
        loss=loss,
        most=most,
        low=low,
        high=high,
        rows=rows,
        passed=passed,
        reason="" if passed else reason,
    )


def _worse(metric: str, trained: float, variant: float) -> float:
    """By how much a value is worse than another."""
    return trained - variant if measures.HIGHER_IS_BETTER[metric] else variant - trained


def _answered(truth: NDArray[Any], answers: Mapping[str, NDArray[Any]], classes: int) -> Answered:
    """A model's answers in the form in which they are measured."""
    given = np.asarray(answers[PREDICTION]).reshape(len(truth))
    chances = answers.get(PROBABILITIES)
    return Answered(
        truth,
        given.astype(np.int64 if classes else np.float64),
        None if chances is None else np.asarray(chances, dtype=np.float64),
        classes,
    )
