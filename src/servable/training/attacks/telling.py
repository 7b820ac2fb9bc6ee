"""How well scores tell members from others: AUC, the share found at 1 % false alarms, intervals. Pure."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, rankdata

from servable.training.attacks.records import Attack

Floats = NDArray[np.float64]
#: For each row, 0 or 1.
Halves = NDArray[np.int64]

#: Share of the others that may be accused wrongly.
ALARMS = 0.01
#: Share of the reports at most in which an attack is called better than chance, and is not: what lies below a
#: 95 % interval.
CHANCE = 0.025
_CURVE = 120


class Scores(NamedTuple):
    """What an attack thinks of rows.

    Attributes:
        members: its scores of members ``[rows]``, higher where it thinks that they are.
        others: its scores of the others ``[rows]``.
        halves: of members and of others, where each half was judged by what was learned from the other half.
    """

    members: Floats
    others: Floats
    halves: tuple[Halves, Halves] | None = None


def attack(name: str, title: str, needs: str, scores: Scores, *, tried: int = 1) -> Attack:
    """The record of an attack.

    Args:
        name: of the attack.
        title: for people.
        needs: what the attacker has to have.
        scores: of members and others.
        tried: how many attacks are made in all; so much surer must each be.
    """
    members, others, _ = scores
    value, error = _judged(scores)
    half = float(norm.ppf(1 - CHANCE)) * error
    surely = value - float(norm.ppf(1 - CHANCE / tried)) * error
    low, high = found_between(members, others, tried)
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


def _judged(scores: Scores) -> tuple[float, float]:
    """The AUC of scores, and a standard error that is not too small.

    Where one half of the rows is judged by what was learned from the other, both models saw the same chance
    differences of the two files, so they are right together and wrong together. Both halves then say hardly
    more than one, and the mean of their errors holds whatever their correlation is.
    """
    if scores.halves is None:
        return auc(scores.members, scores.others)
    of_members, of_others = scores.halves
    parts = [auc(scores.members[of_members == half], scores.others[of_others == half]) for half in (0, 1)]
    value, error = np.mean(parts, axis=0)
    return float(value), float(error)


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


def found_between(
    members: Floats, others: Floats, tried: int = 1, alarms: float = ALARMS
) -> tuple[float, float]:
    """The least and the most of the members that can be found while ``alarms`` of all others are accused.

    A limit was taken from some of the others, so it is known the less what part of all others it accuses, the
    fewer there are. Order statistics (Clopper and Pearson) say within which bounds, for scores of any
    distribution. A limit that may accuse too many is good for as much smaller a share of what it finds,
    because an attacker may accuse by lot; one that surely accuses too many finds no fewer.

    Args:
        members: scores ``[rows]``.
        others: scores ``[rows]``.
        tried: how many attacks are made; the lower ends of all hold at once with 97.5 %, an upper end alone.
        alarms: share of the others that may be accused.
    """
    ranked, count, rest = np.sort(others)[::-1], len(members), len(others)
    allowed, half = int(alarms * rest), CHANCE / tried / 2
    found = int((members > ranked[allowed]).sum())
    accused = float(beta.ppf(1 - half, allowed + 1, rest - allowed))
    least = float(beta.ppf(half, found, count - found + 1)) if found else 0.0
    places = np.arange(allowed, rest)
    enough = places[beta.ppf(CHANCE / 2, places + 1, rest - places) >= alarms]
    surely = int((members >= ranked[enough[0]]).sum()) if len(enough) else count
    most = float(beta.ppf(1 - CHANCE / 2, surely + 1, count - surely)) if surely < count else 1.0
    return least * min(1.0, alarms / accused), most


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
