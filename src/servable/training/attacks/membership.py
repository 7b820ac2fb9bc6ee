"""Attacks that tell whether a model learned from a row, by its answers alone.

None needs models of the attacker's own that imitate the training (shadow models): what they would be
calibrated with comes from rows that the model did not learn from. The signals are those of

- Yeom et al., "Privacy risk in machine learning: analyzing the connection to overfitting", 2018: whether the
  answer is right, and how wrong it is;
- Song and Mittal, "Systematic evaluation of privacy risks of machine learning models", 2021: entropy that
  knows the right answer;
- Carlini et al., "Membership inference attacks from first principles", 2022: confidence on the scale of log
  odds, and why the share found at few false alarms is what counts;
- Bertran et al., "Scalable membership inference attacks via quantile regression", 2023: confidence against
  what is usual for such a row;
- Shokri et al., "Membership inference attacks against machine learning models", 2017: a model of the attacker
  that learned from answers to members that it knows;
- Choquette-Choo et al., "Label-only membership inference attacks", 2021: whether the label stays when the row
  is moved a little;
- Das et al., "Blind baselines beat membership inference attacks for foundation models", 2024: what the rows
  tell without any model.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from servable.artifact.signature import Signature
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays, row_count, take
from servable.training.attacks import telling
from servable.training.attacks.features import Encoding, is_table
from servable.training.attacks.records import Attack
from servable.training.attacks.telling import Scores

Floats = NDArray[np.float64]
#: Asks the model: packed arrays to its answers.
Ask = Callable[[Arrays], Mapping[str, NDArray[Any]]]

#: Rows of each side that are moved a little, and how often each.
MOVED_ROWS, COPIES = 400, 24
#: How far numbers are moved, in standard deviations, and how often a category changes.
_STEPS = (0.05, 0.15, 0.4)
_SWITCHED = 0.1
_LEAST = 1e-12
_ROW = "a row with its right answer"


class Side(NamedTuple):
    """Rows with their right answers and what the model said to them.

    Attributes:
        arrays: the rows, packed.
        truth: class indexes int64 or values float64 ``[rows]``.
        answers: of the model, row for row.
    """

    arrays: Arrays
    truth: NDArray[Any]
    answers: Mapping[str, NDArray[Any]]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.truth)


class Found(NamedTuple):
    """What the attacks found.

    Attributes:
        attacks: the strongest first.
        blind: telling the rows apart without the model; None where they are no table.
    """

    attacks: tuple[Attack, ...]
    blind: Attack | None


class _Plan(NamedTuple):
    """One attack: its names, what it needs, and the scores of members and others."""

    name: str
    title: str
    needs: str
    scores: Callable[[], Scores]


def attacked(signature: Signature, members: Side, others: Side, ask: Ask, *, seed: int = 0) -> Found:
    """Try all attacks that the task and the rows allow.

    Args:
        signature: of the model.
        members: rows that it learned from, at least ten.
        others: rows that it did not learn from, at least ten.
        ask: asks it more.
        seed: of what is left to chance.
    """
    plans = _plans(signature, members, others, ask, seed)
    found = []
    for plan in plans:
        scores = plan.scores()
        found.append(telling.attack(plan.name, plan.title, plan.needs, scores, tried=len(plans)))
    blind = None
    if is_table(signature):
        encoding = Encoding(signature, others.arrays)
        seen = [np.column_stack([encoding.of(side.arrays), side.truth]) for side in (members, others)]
        scores = _learned(seen[0], seen[1], seed)
        blind = telling.attack("blind", "rows alone", "rows, and no model", scores)
    return Found(tuple(sorted(found, key=lambda one: -one.auc)), blind)


def _plans(signature: Signature, members: Side, others: Side, ask: Ask, seed: int) -> list[_Plan]:
    both = (members, others)
    signal = error if signature.task == "regression" else confidence
    plans: list[_Plan] = []
    if signature.task == "regression" or PROBABILITIES in members.answers:
        title = "small error" if signature.task == "regression" else "confidence in the right answer"
        plans.append(_Plan("confidence", title, _ROW, lambda: _of(both, signal)))
        known = "half of the members already, and looks for the others"
        plans.append(_Plan("learned", "a model of the attacker", known, lambda: _learning(both, seed)))
        if is_table(signature):
            needs = "such rows of others to compare with"
            plans.append(
                _Plan(
                    "calibrated",
                    "against what is usual for such a row",
                    needs,
                    lambda: _calibrated(signature, members, others, signal, seed),
                )
            )
    if signature.task == "classification":
        if PROBABILITIES in members.answers:
            plans.append(_Plan("entropy", "modified entropy", _ROW, lambda: _of(both, entropy)))
        plans.append(_Plan("label", "right label", f"{_ROW}, and sees labels only", lambda: _of(both, right)))
        if is_table(signature):
            needs = f"{_ROW}, sees labels only and asks {COPIES} times"
            plans.append(
                _Plan(
                    "robustness",
                    "label stays when the row is moved",
                    needs,
                    lambda: _robust(signature, members, others, ask, seed),
                )
            )
    return plans


def _of(both: tuple[Side, Side], signal: Callable[[Side], Floats]) -> Scores:
    return Scores(signal(both[0]), signal(both[1]))


def confidence(side: Side) -> Floats:
    """The probability of the right class as log odds ``[rows]``."""
    right_one = _probability_of_truth(side)
    return np.asarray(np.log(np.clip(right_one, _LEAST, None)) - np.log(np.clip(1 - right_one, _LEAST, None)))


def entropy(side: Side) -> Floats:
    """Minus the modified entropy ``[rows]``: high where the model is sure and right."""
    chances = np.clip(np.asarray(side.answers[PROBABILITIES], np.float64), _LEAST, 1 - 1e-9)
    others = -chances * np.log(1 - chances)
    rows = np.arange(side.rows)
    of_truth = chances[rows, side.truth]
    others[rows, side.truth] = -(1 - of_truth) * np.log(of_truth)
    return np.asarray(-others.sum(axis=1))


def error(side: Side) -> Floats:
    """Minus the absolute error of a number ``[rows]``."""
    return np.asarray(-np.abs(np.asarray(side.answers[PREDICTION], np.float64) - side.truth))


def right(side: Side) -> Floats:
    """1 where the label is right, else 0 ``[rows]``."""
    return np.asarray(side.answers[PREDICTION] == side.truth, np.float64)


def _probability_of_truth(side: Side) -> Floats:
    chances = np.asarray(side.answers[PROBABILITIES], np.float64)
    return np.asarray(chances[np.arange(side.rows), side.truth])


def _calibrated(
    signature: Signature, members: Side, others: Side, signal: Callable[[Side], Floats], seed: int
) -> Scores:
    """The signal less what it is on rows like this one that are no members.

    Each row is judged by a model that did not learn from it.
    """
    encoding = Encoding(signature, others.arrays)
    seen = [np.column_stack([encoding.of(side.arrays), side.truth]) for side in (members, others)]
    signals = [signal(members), signal(others)]
    scores = [np.empty(members.rows), np.empty(others.rows)]
    halves = [_halves(side.rows, seed) for side in (members, others)]
    for half in (0, 1):
        model = HistGradientBoostingRegressor(max_iter=60, early_stopping=False, random_state=seed)
        learned = halves[1] != half
        model.fit(seen[1][learned], signals[1][learned])
        for place in (0, 1):
            judged = halves[place] == half
            scores[place][judged] = signals[place][judged] - model.predict(seen[place][judged])
    return Scores(scores[0], scores[1])


def _learning(both: tuple[Side, Side], seed: int) -> Scores:
    """A model of the attacker over the answers and the right answer."""
    seen = []
    for side in both:
        columns = [np.asarray(side.truth, np.float64)]
        if PROBABILITIES in side.answers:
            chances = np.asarray(side.answers[PROBABILITIES], np.float64)
            columns += [confidence(side), entropy(side), *np.sort(chances, axis=1)[:, ::-1][:, :3].T]
        else:
            columns += [np.asarray(side.answers[PREDICTION], np.float64), error(side)]
        seen.append(np.column_stack(columns))
    return _learned(seen[0], seen[1], seed)


def _learned(members: Floats, others: Floats, seed: int) -> Scores:
    """The scores that a model gives each half of the rows after it learned from the other half."""
    rows = np.concatenate([members, others])
    truth = np.repeat([1, 0], [len(members), len(others)])
    of_members, of_others = _halves(len(members), seed), _halves(len(others), seed)
    halves = np.concatenate([of_members, of_others])
    scores = np.empty(len(rows))
    for half in (0, 1):
        model = HistGradientBoostingClassifier(
            max_iter=60, early_stopping=False, class_weight="balanced", random_state=seed
        )
        model.fit(rows[halves != half], truth[halves != half])
        scores[halves == half] = model.predict_proba(rows[halves == half])[:, 1]
    return Scores(scores[: len(members)], scores[len(members) :], (of_members, of_others))


def _halves(rows: int, seed: int) -> NDArray[np.int64]:
    """0 or 1 for each row, by chance, as many of each."""
    return np.asarray(np.random.default_rng(seed).permutation(rows) % 2, np.int64)


def _robust(signature: Signature, members: Side, others: Side, ask: Ask, seed: int) -> Scores:
    """The share of moved copies of a row that still get the right label."""
    encoding = Encoding(signature, others.arrays)
    chance = np.random.default_rng(seed)
    found = []
    for side in (members, others):
        some = chance.permutation(side.rows)[:MOVED_ROWS]
        rows, truth = take(side.arrays, some), side.truth[some]
        right_ones = np.zeros(len(some))
        for copy in range(COPIES):
            moved = _moved(rows, others.arrays, encoding, _STEPS[copy % len(_STEPS)], chance)
            right_ones += ask(moved)[PREDICTION] == truth
        # Rows that stay all the time are still told apart by whether they were right at all.
        found.append(right_ones / COPIES + 0.5 / COPIES * right(side)[some])
    return Scores(found[0], found[1])


def _moved(
    rows: Arrays, usual: Arrays, encoding: Encoding, step: float, chance: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Copies of rows with numbers moved by so many standard deviations, and some texts replaced by others."""
    count, size = row_count(rows), row_count(usual)
    moved = {name: array.copy() for name, array in rows.items()}
    for place, spread in encoding.spreads:
        moved[NUMBERS][:, place] += chance.normal(0, step * spread, count)
    if STRINGS in moved:
        switched = chance.random(moved[STRINGS].shape) < _SWITCHED
        drawn = usual[STRINGS][chance.integers(0, size, count)]
        moved[STRINGS] = np.where(switched, drawn, moved[STRINGS])
    return moved
