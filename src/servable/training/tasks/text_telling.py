"""Which tokens speak most for each class, as a linear model over texts has it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from servable.artifact.anonymity import least_rows
from servable.artifact.signature import Signature
from servable.training.evaluate import Telling

MOST_TOKENS = 15
#: Classes that are shown at most.
_MOST_CLASSES = 30
#: Candidates for each token that is shown: many are parts of others.
_LOOKED_AT = 40


def telling(pipeline: Pipeline, frame: Any, signature: Signature) -> list[Telling]:
    """The tokens of each class, most telling first; none for a model without weights.

    A token counts by its weight, times how much more of it the rows of the class hold than all rows do.
    Tokens of fewer than ``least_rows`` of the rows are left out: rare words say who wrote a text.

    Args:
        pipeline: fitted, with the steps ``prepare`` and ``model``.
        frame: rows to average over.
        signature: of a classifier.
    """
    prepare, model = pipeline.named_steps["prepare"], pipeline.named_steps["model"]
    if signature.task != "classification":
        return []
    if hasattr(model, "coef_"):
        weights = np.asarray(model.coef_)
    elif hasattr(model, "feature_log_prob_"):
        weights = model.feature_log_prob_ - model.feature_log_prob_.mean(axis=0)
    else:
        return []
    if len(weights) == 1:
        weights = np.concatenate([-weights, weights])
    names = [str(name) for name in prepare.get_feature_names_out()]
    matrix = prepare.transform(frame)
    answers = np.asarray(model.predict(matrix))
    usual = np.asarray(matrix.mean(axis=0)).ravel()
    rare = np.asarray((matrix != 0).sum(axis=0)).ravel() < least_rows()
    # Where words are read, runs of characters say the same less clearly.
    kind = "words_" if any(name.startswith("words_") for name in names) else "characters_"
    chosen = np.asarray([place for place, name in enumerate(names) if name.startswith(kind)])
    found = []
    for place, label in list(enumerate(signature.classes))[:_MOST_CLASSES]:
        rows = np.flatnonzero(answers == place)
        more = np.asarray(matrix[rows].mean(axis=0)).ravel() - usual if len(rows) else 0.0 * usual
        adds = (weights[place] * more)[chosen]
        adds[(weights[place][chosen] <= 0) | (more[chosen] <= 0) | rare[chosen]] = 0.0
        best = np.argsort(-adds, kind="stable")[: _LOOKED_AT * MOST_TOKENS]
        tokens = _distinct((names[chosen[at]].partition("__")[2], float(adds[at])) for at in best)
        found.append(Telling(label=str(label), tokens=list(tokens), weights=list(tokens.values())))
    return found


def _distinct(ranked: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The first tokens of a ranking, none of which is a part of another or a single Latin letter."""
    found: dict[str, float] = {}
    for raw, adds in ranked:
        # A blank at the edge says that a word begins or ends there, and is hard to see.
        token = raw.strip()
        if adds <= 0 or not token or (len(token) == 1 and token.isascii()):
            continue
        if any(token in other or other in token for other in found):
            continue
        found[token] = adds
        if len(found) == MOST_TOKENS:
            break
    return found
