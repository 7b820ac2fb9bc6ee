"""One candidate over texts, fitted: bags of words as a pipeline, or the recurrent network."""

import importlib.util
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.frameworks.base import Predictor, Trained
from servable.frameworks.lookup import adapter
from servable.progress import Progress
from servable.tensors import STRINGS, take
from servable.training import measures
from servable.training.candidates import DUMMY, tidy
from servable.training.crossval import fit_quietly
from servable.training.data import Problem
from servable.training.evaluate import Curve, Telling
from servable.training.outcome import trained_of
from servable.training.split import Rows
from servable.training.tasks import text_pipelines
from servable.training.tasks.text_pipelines import RECURRENT, TABLE, TextCandidate
from servable.training.tasks.text_telling import telling

#: Rows that the telling tokens are averaged over.
_TELLING_ROWS = 2_000
_CHUNK = 512


class Subject(NamedTuple):
    """What is learned, whatever the rows.

    Attributes:
        problem: with texts.
        spaced: whether their script puts blanks between words.
        seed: of solvers and networks.
    """

    problem: Problem
    spaced: bool
    seed: int


class Fitted(NamedTuple):
    """A fitted candidate: the adapter's name, the model, its answers, and what there is to show of it."""

    adapter: str
    trained: Trained
    predictor: Predictor
    telling: list[Telling]
    learning: list[Curve]


def has_torch() -> bool:
    """Whether PyTorch is there; does not import it."""
    return importlib.util.find_spec("torch") is not None


def fit_candidate(
    subject: Subject,
    rows: Rows,
    known: TextCandidate,
    params: Mapping[str, Any],
    until: float,
    progress: Progress,
) -> Fitted:
    """Fit a candidate on some rows of a problem.

    Args:
        subject: what is learned.
        rows: those that are learned from.
        known: the candidate.
        params: its parameters.
        until: the ``time.monotonic`` moment after which the network begins no further epoch.
        progress: told of every epoch.
    """
    if known.name == RECURRENT:
        return fit_network(subject, rows, until, progress)
    problem, seed = subject.problem, subject.seed
    pipeline = text_pipelines.pipeline(
        problem.signature, known, params, rows=len(rows), spaced=subject.spaced, seed=seed
    )
    frame = problem.frame(rows)
    fit_quietly(pipeline, frame, problem.truth_at(rows))
    tidy(pipeline)
    for _, step, _ in pipeline.named_steps["prepare"].transformers_:
        if hasattr(step, "vocabulary_"):
            # Plain numbers instead of numpy's, of which each would take a file of its own in a package.
            step.vocabulary_ = {token: int(place) for token, place in step.vocabulary_.items()}
    trained = trained_of(pipeline, problem.signature)
    some = frame.iloc[measures.sample(len(rows), _TELLING_ROWS, seed)]
    said = [] if known.name in (DUMMY, TABLE) else telling(pipeline, some, problem.signature)
    return Fitted("sklearn", trained, adapter("sklearn").wrap(trained), said, [])


def fit_network(subject: Subject, rows: Rows, until: float, progress: Progress) -> Fitted:
    """Fit the recurrent network; see ``fit_candidate``."""
    # Heavy, and there only with the extra torch.
    from servable.frameworks.recurrent import ADAPTER, trained_of
    from servable.training.tasks.text_network import learn

    problem = subject.problem
    groups = problem.groups()
    truth = problem.truth_at(rows)
    learned = learn(
        problem.signature,
        problem.arrays[STRINGS][rows],
        np.asarray(truth),
        spaced=subject.spaced,
        until=until,
        seed=subject.seed,
        progress=progress,
        groups=None if groups is None else groups[rows],
    )
    trained = trained_of(learned.model)
    return Fitted(ADAPTER.name, trained, ADAPTER.wrap(trained), [], learned.curves)


def answers(fitted: Fitted, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """A model's answers to any number of rows, some at a time."""
    count = len(next(iter(arrays.values())))
    parts = [fitted.predictor.predict(take(arrays, slice(at, at + _CHUNK))) for at in range(0, count, _CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
