"""How well scores tell members from others: AUC, the share found at 1 % false alarms, intervals. Pure."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from servable.training.attacks.records import Attack

Floats = NDArray[np.float64]

#: Share of the others that may be accused wrongly.
ALARMS = 0.01
#: Share of the reports at most in which an attack is called better than chance, and is not: what lies below a
#: 95 % interval.
CHANCE = 0.025
_RESAMPLES = 300
_CURVE = 120


def attack(
    name: str, title: str, needs: str, members: Floats, others: Floats, *, tried: int = 1, seed: int = 0
) -> Attack:
    """The record of an attack.

    Args:
        name: of the attack.
        title: for people.
        needs: what the attacker has to have.
        members: its scores of members ``[rows]``, higher where it thinks so.
        others: its scores of the others ``[rows]``.
        tried: how many attacks are made in all; so much surer must each be.
        seed: of the resampling.
    """
    value, error = auc(members, others)
    half = float(norm.ppf(1 - CHANCE)) * error
    surely = value - float(norm.ppf(1 - CHANCE / tried)) * error
    low, high = _bootstrap(members, others, seed)
    x, y = roc(members, others)
    return Attack(
        name=name,
        title=title,
        needs=needs,
        auc=value,
        auc_low=max(0.0, value - half),
        auc_high=min(1.0, value + half),
        auc_sure=max(0.0, surely),
        sure=surely > 0.5,
        tpr=found_at(members, others),
        tpr_low=low,
        tpr_high=high,
        roc_x=tuple(x),
        roc_y=tuple(y),
    )


def auc(members: Floats, others: Floats) -> tuple[float, float]:
    """The area under the ROC curve and its standard error.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves: a nonparametric approach", 1988.
    """
    count, rest = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    of_members = (ranks[:count] - rankdata(members)) / rest
    of_others = 1 - (ranks[count:] - rankdata(others)) / count
    spread = of_members.var(ddof=1) / count + of_others.var(ddof=1) / rest
    return float(of_members.mean()), float(np.sqrt(spread))


def found_at(members: Floats, others: Floats, alarms: float = ALARMS) -> float:
    """The share of the members with a score above all but ``alarms`` of the others."""
    allowed = int(alarms * len(others))
    limit = np.partition(others, len(others) - 1 - allowed)[len(others) - 1 - allowed]
    return float((members > limit).mean())


def roc(members: Floats, others: Floats) -> tuple[list[float], list[float]]:
    """The ROC curve, thinned: most of its points are where false alarms are few."""
    limits = np.unique(np.concatenate([members, others]))[::-1]
    x = 1 - np.searchsorted(np.sort(others), limits, side="left") / len(others)
    y = 1 - np.searchsorted(np.sort(members), limits, side="left") / len(members)
    x, y = np.concatenate([[0.0], x]), np.concatenate([[0.0], y])
    if len(x) > _CURVE:
        wanted = np.concatenate([np.geomspace(1e-3, 1, _CURVE - 1) ** 1.0, [0.0]])
        kept = np.unique(np.clip(np.searchsorted(x, np.sort(wanted)), 0, len(x) - 1))
        x, y = x[kept], y[kept]
    return np.round(x, 5).tolist(), np.round(y, 5).tolist()


def _bootstrap(members: Floats, others: Floats, seed: int) -> tuple[float, float]:
    chance = np.random.default_rng(seed)
    found = [
        found_at(
            members[chance.integers(0, len(members), len(members))],
            others[chance.integers(0, len(others), len(others))],
        )
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
