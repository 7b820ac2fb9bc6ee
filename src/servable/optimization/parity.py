"""The verdict on two sets of answers: may the compiled form stand in for the trained one. Pure."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.manifest import Proof
from servable.errors import ParityFailed
from servable.tensors import Arrays, row_count

TOLERANCE = 1e-4
#: A score within a text, such as one of JSON.
_FRACTION = re.compile(r"\d+\.\d+(?:e-?\d+)?")


def compare(trained: Arrays, variant: Arrays, *, tolerance: float = TOLERANCE) -> Proof:
    """Hold a variant's answers against the trained model's, row for row.

    Equal means: whole-number answers (labels, clusters) the same on every row, texts the same but for
    fractions in them, every other value within ``tolerance``, absolutely or relative to the trained value,
    whichever is smaller. A missing or infinite value equals only itself. A tie in the trained
    probabilities excuses nothing: the label that the trained model gave is the right one, and a variant
    that breaks ties otherwise is refused.

    Args:
        trained: what the trained model answered.
        variant: what the variant answered for the same rows.
        tolerance: what is allowed, at least 0.
    """
    rows = row_count(trained)
    differences = 0
    worst = 0.0
    reason = _form(trained, variant)
    if reason:
        return Proof(
            equal=False, rows=rows, worst_difference=float("inf"), tolerance=tolerance, reason=reason
        )
    for name, expected in trained.items():
        given = variant[name]
        if expected.dtype.kind in "iub":
            differences += int(np.count_nonzero(_rows_differing(expected, given)))
        elif expected.dtype.kind in "OUT":
            pairs = zip(expected.ravel().tolist(), given.ravel().tolist(), strict=True)
            differences += sum(not _same_text(one, other, tolerance) for one, other in pairs)
        else:
            worst = max(worst, _worst(expected, given))
    if differences:
        reason = f"{differences} of {rows} rows get another label"
    if worst > tolerance:
        reason += " and " if reason else ""
        reason += f"a value differs by {worst:.2g}, more than {tolerance:g}"
    return Proof(
        equal=not reason,
        rows=rows,
        label_differences=differences,
        worst_difference=worst,
        tolerance=tolerance,
        reason=reason,
    )


def together(proofs: Mapping[str, Proof]) -> Proof:
    """Several comparisons as one: equal if all are; the reason names the first that is not.

    Args:
        proofs: what was compared, such as ``held-out rows``, to its outcome; at least one.
    """
    refused = [f"{what}: {proof.reason}" for what, proof in proofs.items() if not proof.equal]
    return Proof(
        equal=not refused,
        rows=sum(proof.rows for proof in proofs.values()),
        label_differences=sum(proof.label_differences for proof in proofs.values()),
        worst_difference=max(proof.worst_difference for proof in proofs.values()),
        tolerance=max(proof.tolerance for proof in proofs.values()),
        reason=refused[0] if refused else "",
    )


def require(proof: Proof, what: str) -> None:
    """Insist on equality.

    Raises:
        ParityFailed: the proof says no.
    """
    if not proof.equal:
        raise ParityFailed(f"{what} does not answer like the trained model: {proof.reason}.")


def _form(trained: Arrays, variant: Arrays) -> str:
    """Why two sets of answers cannot even be compared; empty when they can."""
    absent = [name for name in trained if name not in variant]
    if absent:
        return f"it gives no {absent[0]}"
    for name, expected in trained.items():
        if expected.shape != variant[name].shape:
            return f"its {name} have the shape {variant[name].shape} instead of {expected.shape}"
    return ""


def _rows_differing(expected: NDArray[Any], given: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows differ anywhere."""
    return np.asarray(np.asarray(expected != given).reshape(len(expected), -1).any(axis=1))


def _same_text(expected: object, given: object, tolerance: float) -> bool:
    """Whether two texts are the same, fractions in them within the tolerance."""
    if expected == given:
        return True
    if not isinstance(expected, str) or not isinstance(given, str):
        return False
    if _FRACTION.sub("", expected) != _FRACTION.sub("", given):
        return False
    numbers = zip(_FRACTION.findall(expected), _FRACTION.findall(given), strict=True)
    return all(abs(float(one) - float(other)) <= tolerance for one, other in numbers)


def _worst(expected: NDArray[Any], given: NDArray[Any]) -> float:
    """The largest difference of a cell, absolute or relative, the smaller of the two."""
    left = np.asarray(expected, dtype=np.float64).ravel()
    right = np.asarray(given, dtype=np.float64).ravel()
    same: NDArray[np.bool_] = np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        absolute = np.abs(left - right)
        relative = absolute / np.abs(left)
        smaller = np.fmin(absolute, relative)
    smaller = np.where(np.isfinite(left) & np.isfinite(right), smaller, np.inf)
    return float(np.where(same, 0.0, smaller).max())
