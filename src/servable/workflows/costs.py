"""What a candidate of ``select`` costs: compiled, proven, and timed on one row as it would be served."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from servable.artifact.manifest import TRAINED, Variant
from servable.frameworks import lookup
from servable.frameworks.base import Trained
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, take
from servable.workflows.losses import Allowance, Truth
from servable.workflows.outcomes import LeaderboardEntry

if TYPE_CHECKING:
    from servable.optimization.choose import Optimised
    from servable.training.crossval import CandidateResult

#: One row at a time is what a caller of the API waits for.
_BATCHES = (1,)
#: Rows of one run while measuring what a lossy form costs, as the gate measures it.
_ASKED_AT_ONCE = 32


class Candidate(NamedTuple):
    """A candidate that was compared, and fitted for this.

    Attributes:
        result: how it did.
        trained: the fitted model.
        variant: its trained form, as its adapter wrote it.
        rows: packed, on which compiled forms are proven and timed.
        truth: the true answers to them, which the fitted model never saw; None where they are not known.
    """

    result: "CandidateResult"
    trained: Trained
    variant: Variant
    rows: Arrays
    truth: Truth | None = None


class Terms(NamedTuple):
    """What forms of every candidate must reach, and what candidates are compared by.

    Attributes:
        metric: by which they are compared, higher is better.
        tolerance: largest difference at which a form counts as equal.
        allowed: what lossy forms may cost.
    """

    metric: str
    tolerance: float
    allowed: Allowance


def entry(candidate: Candidate, folder: Path, terms: Terms) -> LeaderboardEntry:
    """A candidate's line: its forms made in an empty folder, proven, timed on one row, and the best one told.

    Raises:
        DataError: a loss needs true answers and there are none.
        ModelFailed: the trained model does not answer the sample.
    """
    from servable.optimization.choose import optimise

    result, trained, variant, rows, truth = candidate
    found = optimise(
        trained,
        rows,
        folder,
        fallback=variant,
        tolerance=terms.tolerance,
        batches=_BATCHES,
        lossy=terms.allowed.lossy(trained.signature, truth),
    )
    seconds = {each.name: each.timings[0].seconds for each in found.variants if each.timings}
    served = next(each for each in found.variants if each.name == found.serving)
    loss = served.proof.loss if served.proof is not None else None
    cost = 0.0 if loss is None or truth is None else _cost(candidate, served, truth, folder, terms.metric)
    trained_s, served_s = seconds.get(TRAINED), seconds.get(found.serving)
    return LeaderboardEntry(
        name=result.name,
        score=result.score,
        score_std=result.score_std,
        served_score=result.score - cost,
        fit_seconds=result.fit_seconds,
        trained_us_per_row=None if trained_s is None else trained_s * 1e6,
        served_us_per_row=None if served_s is None else served_s * 1e6,
        served_variant=found.serving,
        loss=loss,
        online=result.online,
        note=result.note or _note(found, lossy=terms.allowed.needs_truth),
    )


def _cost(candidate: Candidate, served: Variant, truth: Truth, folder: Path, metric: str) -> float:
    """By how much a lossy form is worse than the trained model in the metric of the comparison.

    Both answer the rows on which the gate measured the form, in runs of the same size.
    """
    from servable.optimization.lossy import split
    from servable.optimization.questions import answers
    from servable.training.measures import single

    places = split(len(truth)).measured
    rows, signature = take(candidate.rows, places), candidate.trained.signature
    models = (
        lookup.adapter(candidate.variant.format).wrap(candidate.trained),
        lookup.adapter(served.format).load(folder, served, signature, trust=False),
    )
    values = []
    for model in models:
        try:
            given = answers(model, rows, chunk=_ASKED_AT_ONCE)
        finally:
            model.close()
        chances = given.get(PROBABILITIES)
        found = single(metric, truth[places], given[PREDICTION], chances, len(signature.classes))
        # Without a meaning on these rows, for both models alike, nothing is known to be lost.
        values.append(0.0 if found is None else found)
    return values[0] - values[1]


def _note(found: "Optimised", *, lossy: bool) -> str:
    """One line on a candidate's forms: why the trained one serves, or why no lossy one was kept."""
    equal = [each for each in found.refused if each.proof and each.proof.loss is None and each.note]
    if found.serving == TRAINED and (equal or not lossy):
        return equal[0].note if equal else "".join(found.notes[:1])
    if not lossy or any(each.proof and each.proof.loss for each in found.variants):
        return ""
    measured = [f"{each.name} {each.note}" for each in found.refused if each.proof and each.proof.loss]
    return (measured or list(found.notes) or [""])[0]
