"""Which tokens speak most for each class, as a linear model over texts has it."""

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from servable.artifact.signature import Signature
from servable.training.evaluate import Telling

MOST_TOKENS = 15
#: Classes that are shown at most.
_MOST_CLASSES = 30


def telling(pipeline: Pipeline, frame: Any, signature: Signature) -> list[Telling]:
    """The tokens of each class, most telling first; none for a model without weights.

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
    typical = np.asarray(prepare.transform(frame).mean(axis=0)).ravel()
    chosen = np.asarray(
        [place for place, name in enumerate(names) if name.startswith(("words_", "characters_"))]
    )
    found = []
    for label, row in list(zip(signature.classes, weights, strict=True))[:_MOST_CLASSES]:
        adds = row[chosen] * typical[chosen]
        best = np.argsort(-adds, kind="stable")[: 4 * MOST_TOKENS]
        tokens: dict[str, float] = {}
        for place in best:
            # A blank at the edge says that a word begins or ends there, and is hard to see.
            token = names[chosen[place]].partition("__")[2].strip()
            if token and adds[place] > 0 and len(tokens) < MOST_TOKENS:
                tokens.setdefault(token, float(adds[place]))
        found.append(Telling(label=str(label), tokens=list(tokens), weights=list(tokens.values())))
    return found
