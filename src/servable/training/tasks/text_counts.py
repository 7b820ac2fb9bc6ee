"""Tokens counted once for all folds and candidates, and weighed for each fold by its own rows alone."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from servable.training.columns import UNSPACED
from servable.training.data import Problem
from servable.training.split import Rows
from servable.training.tasks.text_pipelines import MOST_TOKENS, READINGS, TextCandidate, others

#: Texts from which the script is judged, and the share of letters from which on it is one without blanks.
_JUDGED = 1_000
_UNSPACED_SHARE = 0.3


def texts_of(problem: Problem, rows: Rows) -> list[NDArray[Any]]:
    """The text columns of some rows, each object ``[rows]``."""
    frame = problem.frame(rows)
    return [frame[field.name].to_numpy(dtype=object) for field in problem.texts]


def spaced(problem: Problem, rows: Rows) -> bool:
    """Whether the script of most texts puts blanks between words."""
    some = [str(text) for column in texts_of(problem, rows[:_JUDGED]) for text in column]
    together = "".join(some)
    letters = sum(character.isalpha() for character in together)
    return len(re.findall(UNSPACED, together)) <= _UNSPACED_SHARE * max(letters, 1)


class Counts:
    """The tokens of some rows of a problem. Reads what is asked for the first time, and keeps it.

    Args:
        problem: with texts.
        rows: those that are compared on.
        blanks: whether the script puts blanks between words.
    """

    def __init__(self, problem: Problem, rows: Rows, *, blanks: bool) -> None:
        self._problem, self._rows, self._blanks = problem, rows, blanks
        self._texts = texts_of(problem, rows)
        self._counted: dict[str, list[Any]] = {}

    def matrices(self, known: TextCandidate, fit: Rows, check: Rows) -> tuple[Any, Any]:
        """What the model of a candidate sees of the rows that it fits and of those that it is checked on.

        The same numbers that the candidate's pipeline would make, which reads every text once more.

        Args:
            known: a candidate with readings.
            fit: positions among the rows.
            check: the same.
        """
        parts = [
            _weighed(counts, fit, check, READINGS[self._blanks][reading].least(len(fit)))
            for reading in known.readings
            for counts in self._counts(reading)
        ]
        steps = others(self._problem.signature) if known.others else []
        if steps:
            frame = self._problem.frame(self._rows)
            prepare = ColumnTransformer(steps, sparse_threshold=0.0)
            fitted = prepare.fit_transform(frame.iloc[fit])
            parts.append((sp.csr_matrix(fitted), sp.csr_matrix(prepare.transform(frame.iloc[check]))))
        return _beside([one for one, _ in parts]), _beside([other for _, other in parts])

    def _counts(self, reading: str) -> Sequence[Any]:
        """Counts of each text column, int64 ``[rows, tokens]``."""
        if reading not in self._counted:
            vectorizer = READINGS[self._blanks][reading].vectorizer(len(self._rows))
            settings = {
                name: getattr(vectorizer, name) for name in ("analyzer", "ngram_range", "token_pattern")
            }
            self._counted[reading] = [
                CountVectorizer(**settings).fit_transform(column) for column in self._texts
            ]
        return self._counted[reading]


def _weighed(counts: Any, fit: Rows, check: Rows, least: int) -> tuple[Any, Any]:
    """TF-IDF of the tokens that the fitted rows know."""
    known = counts[fit]
    held_by = np.bincount(known.indices, minlength=counts.shape[1])
    kept = np.flatnonzero(held_by >= least)
    if len(kept) > MOST_TOKENS:
        total = np.asarray(known.sum(axis=0)).ravel()[kept]
        kept = np.sort(kept[np.argsort(-total, kind="stable")[:MOST_TOKENS]])
    weigh = TfidfTransformer(sublinear_tf=True)
    return weigh.fit_transform(known[:, kept]), weigh.transform(counts[check][:, kept])


def _beside(parts: Sequence[Any]) -> Any:
    return sp.csr_matrix(sp.hstack(parts)) if len(parts) > 1 else sp.csr_matrix(parts[0])
