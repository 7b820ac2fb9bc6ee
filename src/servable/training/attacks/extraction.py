"""Attacks that copy a model by asking it: equations for linear ones, and copies that learn from its answers.

- Tramer et al., "Stealing machine learning models via prediction APIs", 2016: the log odds of a linear model
  are linear in the row, so that as many answers as it has weights give it away;
- Orekondy et al., "Knockoff nets: stealing functionality of black-box models", 2019: any model that learns
  from the labels of rows that the attacker chose; fidelity by number of queries.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from servable.artifact.signature import Signature
from servable.monitoring.intervals import wilson
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, row_count, take
from servable.training.attacks.features import Encoding, made_up
from servable.training.attacks.membership import Ask
from servable.training.attacks.records import Copied, Extraction

Floats = NDArray[np.float64]

#: Numbers of queries that are tried, as far as the budget allows.
STEPS = (25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
#: Rows on which a copy is compared with the model at most.
EXAM_ROWS = 2000
_LEAST = 1e-12
_RESAMPLES = 200


class Exam(NamedTuple):
    """What copies are held against.

    Attributes:
        seen: rows that no copy learned from, encoded.
        answers: of the model to them.
        numbers: whether the answers are numbers and no labels.
    """

    seen: Floats
    answers: Mapping[str, NDArray[Any]]
    numbers: bool

    def copied(self, queries: int, given: NDArray[Any]) -> Copied:
        """How good a copy is that gives these answers."""
        model = self.answers[PREDICTION]
        if not self.numbers:
            share = float((given == model).mean())
            low, high = wilson(share, len(model))
            return Copied(queries=queries, fidelity=share, low=low, high=high)
        chance = np.random.default_rng(0)
        found = []
        for _ in range(_RESAMPLES):
            drawn = chance.integers(0, len(model), len(model))
            found.append(_explained(model[drawn], given[drawn]))
        low, high = np.quantile(found, [0.025, 0.975])
        return Copied(queries=queries, fidelity=_explained(model, given), low=float(low), high=float(high))


def extracted(
    signature: Signature, rows: Arrays, ask: Ask, *, queries: int, seed: int = 0
) -> tuple[tuple[Extraction, ...], float]:
    """Try to copy a model of a table.

    Args:
        signature: of a table.
        rows: usual rows, of which half give the attacker usual values and half are what copies are
            compared on.
        ask: asks the model.
        queries: rows that the attacker may ask for, at most.
        seed: of what is left to chance.

    Returns:
        The attempts, and the fidelity of a copy that always gives the most frequent label, or the mean.
    """
    chance = np.random.default_rng(seed)
    order = chance.permutation(row_count(rows))
    half = len(order) // 2
    usual, fresh = take(rows, order[:half]), take(rows, order[half:][:EXAM_ROWS])
    encoding = Encoding(signature, usual)
    exam = Exam(encoding.of(fresh), ask(fresh), signature.task == "regression")
    asked = made_up(usual, queries, chance)
    seen, given = encoding.of(asked), ask(asked)
    found = []
    if exam.numbers or PROBABILITIES in given:
        found.append(_equations(seen, given, exam))
    found.append(_learned(seen, given, exam, seed))
    return tuple(found), _usual(exam)


def steps(most: int, *, first: int = 0) -> list[int]:
    """The numbers of queries to try, rising; ``first`` is among them where the budget allows it."""
    wanted = {step for step in STEPS if step < most} | {most}
    if 0 < first <= most:
        wanted.add(first)
    return sorted(wanted)


def _equations(seen: Floats, given: Mapping[str, NDArray[Any]], exam: Exam) -> Extraction:
    """Weights from answers: log odds against the first class, or values, as a linear function of the row."""
    wide = np.column_stack([seen, np.ones(len(seen))])
    exam_wide = np.column_stack([exam.seen, np.ones(len(exam.seen))])
    if exam.numbers:
        sides = np.asarray(given[PREDICTION], np.float64)[:, None]
    else:
        logs = np.log(np.clip(np.asarray(given[PROBABILITIES], np.float64), _LEAST, None))
        sides = logs[:, 1:] - logs[:, :1]
    points = []
    for count in steps(len(seen), first=int(np.linalg.matrix_rank(wide)) + 1):
        weights = np.linalg.lstsq(wide[:count], sides[:count], rcond=None)[0]
        solved = exam_wide @ weights
        if exam.numbers:
            points.append(exam.copied(count, solved[:, 0]))
        else:
            points.append(exam.copied(count, np.column_stack([np.zeros(len(solved)), solved]).argmax(1)))
    needs = "values" if exam.numbers else "probabilities"
    return Extraction(
        name="equations", title="equations of a linear model", needs=needs, points=tuple(points)
    )


def _learned(seen: Floats, given: Mapping[str, NDArray[Any]], exam: Exam, seed: int) -> Extraction:
    """A forest that learned from the model's answers."""
    answers, points = given[PREDICTION], []
    for count in steps(len(seen)):
        if exam.numbers:
            copy: Any = RandomForestRegressor(100, random_state=seed)
        elif len(np.unique(answers[:count])) > 1:
            copy = RandomForestClassifier(100, random_state=seed)
        else:
            copy = DummyClassifier()
        copy.fit(seen[:count], answers[:count])
        points.append(exam.copied(count, copy.predict(exam.seen)))
    needs = "values" if exam.numbers else "labels"
    title = "a forest that learns from answers"
    return Extraction(name="surrogate", title=title, needs=needs, points=tuple(points))


def _usual(exam: Exam) -> float:
    answers = exam.answers[PREDICTION]
    if exam.numbers:
        return 0.0
    return float(np.unique(answers, return_counts=True)[1].max() / len(answers))


def _explained(model: NDArray[Any], given: NDArray[Any]) -> float:
    """R² of a copy's values against the model's, 0 at least."""
    spread = float(((model - model.mean()) ** 2).sum())
    if not spread:
        return float(np.allclose(model, given))
    return max(0.0, 1 - float(((model - given) ** 2).sum()) / spread)


def best(found: Sequence[Extraction]) -> tuple[Extraction, Copied] | None:
    """The best copy of all; None where nothing was tried."""
    pairs = [(each, point) for each in found for point in each.points]
    return max(pairs, key=lambda pair: pair[1].fidelity) if pairs else None
