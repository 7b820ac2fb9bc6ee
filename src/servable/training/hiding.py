"""An evaluation without what it says of the values of some columns."""

import msgspec

from servable.training.evaluate import Evaluation


def without(evaluation: Evaluation, hidden: frozenset[str]) -> Evaluation:
    """The evaluation without what it says of the values of some columns; their importance stays.

    Args:
        evaluation: is not changed.
        hidden: names of columns. The tokens that tell most are of texts, and are left out with any of them.
    """
    clusters = [
        msgspec.structs.replace(
            each, typical={name: value for name, value in each.typical.items() if name not in hidden}
        )
        for each in evaluation.clusters
    ]
    return msgspec.structs.replace(
        evaluation, clusters=clusters, telling=[] if hidden else evaluation.telling
    )
