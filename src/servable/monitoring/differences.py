"""One column of one window of rows against its reference: tests, and how large the difference is. Pure.

A test says how surprising a difference is, an effect how large; on many rows everything is surprising, and
on few everything is large, so neither is enough. Rows that follow each other in time resemble each other,
and a test that takes them for independent is surprised by nothing: the number of rows is divided by how
many in a row say the same (see ``dependence``).
"""

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.errors import DependencyMissing
from servable.monitoring.reference import WRONG, Counts, Reference

#: The extra that brings what the tests are made of.
EXTRA = "monitoring"
#: Added to every bin before shares are compared, so that an empty one is no infinite difference.
_SMOOTHING = 0.5
#: Values of a category that are expected in fewer rows than this are tested together.
_LEAST_EXPECTED = 5.0
#: Most steps apart at which rows are looked at for likeness.
_LONGEST_LAG = 200

Codes = NDArray[np.int64]


class Comparison(NamedTuple):
    """How one window of a column differs from the reference.

    Attributes:
        rows: with and without a value.
        effective: as many independent rows would say as much as those with a value do.
        test: ``ks`` or ``chi2``; empty where no row has a value.
        statistic: of that test.
        p_value: of it.
        p_missing: of the share of missing values, by Fisher's exact test.
        psi: population stability index, less what chance alone gives on so few rows; 0 or more.
        jensen_shannon: distance between 0 and 1.
        wasserstein: how far values moved, in standard deviations; None for categories and constants.
        missing: share of the rows without a value.
        unseen: share of the values that the reference does not have: new categories, or out of range.
        worse: by how much a quality is worse: points of the share of wrong answers, or the part by which
            the mean error grew; 0 for inputs and outputs.
        counts: rows in each bin.
    """

    rows: int
    effective: float
    test: str
    statistic: float
    p_value: float
    p_missing: float
    psi: float
    jensen_shannon: float
    wasserstein: float | None
    missing: float
    unseen: float
    worse: float
    counts: Counts


@cache
def scipy_part(part: str) -> ModuleType:
    """A part of scipy.

    Raises:
        DependencyMissing: it is not installed; the message names the extra.
    """
    from importlib import import_module

    try:
        return import_module(f"scipy.{part}")
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"Drift is judged with {missing.name}, which is not installed; "
            f"run: pip install 'servable[{EXTRA}]'"
        ) from missing


def compare(reference: Reference, codes: Codes, numbers: Counts | None = None) -> Comparison:
    """Hold one window against the reference.

    Args:
        reference: what was.
        codes: ``reference.codes`` of the window's rows, in order of time, int64 ``[rows]``.
        numbers: of a number: the values themselves, float64 ``[rows]``; what is beyond the reference's range
            counts for as far as it went.

    Raises:
        DependencyMissing: scipy is not installed.
    """
    there = codes[codes >= 0]
    counts = np.bincount(there, minlength=len(reference.counts)).astype(np.float64)
    missing = 1 - len(there) / max(len(codes), 1)
    if not len(there):
        p_missing = _missing_test(reference, codes, 1.0)
        return Comparison(len(codes), 0.0, "", 0.0, 1.0, p_missing, 0.0, 0.0, None, missing, 0.0, 0.0, counts)
    alike = dependence(there, ordered=reference.kind == "number")
    effective = max(len(there) / alike, 1.0)
    name, statistic, p_value = _test(reference, counts, effective)
    return Comparison(
        rows=len(codes),
        effective=effective,
        test=name,
        statistic=statistic,
        p_value=p_value,
        p_missing=_missing_test(reference, codes, dependence((codes < 0).astype(np.int64), ordered=True)),
        psi=_psi(reference.counts, counts, effective),
        jensen_shannon=_distance(reference.counts, counts),
        wasserstein=_moved(reference, codes, counts, numbers),
        missing=missing,
        unseen=float(_unseen(reference, counts).sum() / counts.sum()),
        worse=_worse(reference, counts),
        counts=counts,
    )


def dependence(codes: NDArray[Any], *, ordered: bool) -> float:
    """How many rows in a row say the same: 1 where they are independent, more where neighbours are alike.

    The sum of the autocorrelations as far as they are positive and more than noise, which is by how much
    the variance of a mean grows.

    Args:
        codes: in order of time, ``[rows]``: int64, or where they are ordered float64.
        ordered: whether a larger code is a larger value; otherwise codes are equal or not.
    """
    size = len(codes)
    if size < 8 or (codes == codes[0]).all():
        return 1.0
    noise = 2.0 / np.sqrt(size)
    total = 1.0
    centred = codes - codes.mean()
    variance = float(centred @ centred) / size
    by_chance = 0.0 if ordered else float(((np.bincount(codes) / size) ** 2).sum())
    for lag in range(1, min(_LONGEST_LAG, size // 2)):
        if ordered:
            likeness = float(centred[:-lag] @ centred[lag:]) / (size - lag) / variance
        else:
            likeness = (float((codes[:-lag] == codes[lag:]).mean()) - by_chance) / (1 - by_chance)
        if likeness < noise:
            break
        total += 2 * likeness
    return total


def _test(reference: Reference, counts: Counts, effective: float) -> tuple[str, float, float]:
    """Name, statistic and p-value of the test that suits the kind."""
    if reference.kind == "number":
        before, now = np.cumsum(reference.counts) / reference.rows, np.cumsum(counts) / counts.sum()
        largest = float(np.abs(before - now).max())
        together = reference.rows * effective / (reference.rows + effective)
        # Between the bounds of bins the difference may be larger still, so this p-value is a cautious one.
        return "ks", largest, float(scipy_part("stats").kstwo.sf(largest, max(round(together), 1)))
    table = _pooled(np.vstack([reference.counts, counts * (effective / counts.sum())]))
    if table.shape[1] < 2:
        return "chi2", 0.0, 1.0
    found = scipy_part("stats").chi2_contingency(table, correction=table.shape[1] == 2)
    return "chi2", float(found.statistic), float(found.pvalue)


def _pooled(table: Counts) -> Counts:
    """Two rows of counts; columns too rare for the chi-square distribution are put together."""
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=0) * (table[1].sum() / table.sum())
    rare = expected < _LEAST_EXPECTED
    if rare.sum() < 2:
        return table
    return np.hstack([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)])


def _missing_test(reference: Reference, codes: Codes, alike: float) -> float:
    absent = float((codes < 0).sum())
    if not absent and not reference.missing:
        return 1.0
    size = max(len(codes) / alike, 1.0)
    share = absent / max(len(codes), 1)
    # The profile counts rows with a value; those without follow from their share.
    before = reference.rows / max(1 - reference.missing, 1e-12)
    table = [
        [round(before * reference.missing), round(reference.rows)],
        [round(size * share), round(size * (1 - share))],
    ]
    return float(scipy_part("stats").fisher_exact(table).pvalue)


def shares(counts: Counts) -> Counts:
    """Counts as shares, none of them zero."""
    held = counts + _SMOOTHING
    divided: Counts = held / held.sum()
    return divided


def _psi(before: Counts, now: Counts, effective: float) -> float:
    """The stability index beyond what so few rows give by chance."""
    used = (before > 0) | (now > 0)
    old, new = shares(before[used]), shares(now[used] * (effective / now.sum()))
    index = float(((new - old) * np.log(new / old)).sum())
    by_chance = (int(used.sum()) - 1) * (1 / effective + 1 / before.sum())
    return max(index - float(by_chance), 0.0)


def _distance(before: Counts, now: Counts) -> float:
    found = float(scipy_part("spatial.distance").jensenshannon(before, now, base=2))
    # Equal shares can come out as the root of a tiny negative number.
    return 0.0 if np.isnan(found) else found


def _moved(reference: Reference, codes: Codes, counts: Counts, numbers: Counts | None) -> float | None:
    """Wasserstein's distance in standard deviations, both sides cut into the same bins; None without any."""
    if reference.kind == "category" or not reference.spread:
        return None
    bounds = reference.bounds
    places = np.asarray([bounds[0], *(bounds[:-1] + bounds[1:]) / 2, bounds[-1]])
    if numbers is not None:
        for place in (0, len(places) - 1):
            beyond = numbers[codes == place]
            places[place] = beyond.mean() if len(beyond) else places[place]
    if not np.isfinite(places).all():
        return None
    distance = float(scipy_part("stats").wasserstein_distance(places, places, reference.counts, counts))
    return distance / reference.spread


def _unseen(reference: Reference, counts: Counts) -> Counts:
    """The counts of bins in which the reference has nothing; of bins of its rare values, what is more."""
    beyond = reference.counts == 0
    beyond[-1] = True
    if reference.kind == "number":
        beyond[0] = True
    expected = reference.counts / max(reference.rows, 1.0) * counts.sum()
    more: Counts = np.maximum(counts - expected, 0.0)[beyond]
    return more


def _worse(reference: Reference, counts: Counts) -> float:
    if reference.key.side != "quality":
        return 0.0
    if reference.kind == "category":
        place = reference.values.index(WRONG)
        return float(counts[place] / counts.sum() - reference.counts[place] / reference.rows)
    bounds = reference.bounds
    places = np.asarray([bounds[0], *(bounds[:-1] + bounds[1:]) / 2, bounds[-1]])
    before = float(np.average(places, weights=reference.counts))
    return float(np.average(places, weights=counts)) / before - 1 if before > 0 else 0.0
