"""What forms are asked, with the trained model's answers: held-out rows, and rows made to be nasty."""

from typing import Any

import numpy as np

from servable.artifact.manifest import Proof
from servable.errors import ModelFailed
from servable.frameworks.base import Predictor, Trained
from servable.optimization import nasty, parity
from servable.tensors import Arrays, row_count, stack, take

#: Rows that are asked one by one.
_ONE_BY_ONE = 32
#: Rows handed over in one call while comparing.
_CHUNK = 4096
#: The group of real rows.
HELD_OUT = "held-out rows"


class Questions:
    """Rows to compare on and the trained model's answers to them, made once for all candidates.

    Attributes:
        signature: of the model.
        rows: the held-out rows.
        asked: what is compared, by name: rows and the trained model's answers.
        declined: groups of nasty rows that the trained model itself refuses; nothing can be compared there.
    """

    def __init__(self, trained: Trained, model: Predictor, rows: Arrays) -> None:
        self.signature = trained.signature
        self.rows = rows
        self.asked: dict[str, tuple[Arrays, Arrays]] = {HELD_OUT: (rows, answers(model, rows))}
        self.declined: list[str] = []
        for name, group in nasty.make(trained, rows).items():
            try:
                self.asked[name] = (group, answers(model, group))
            except ModelFailed:
                self.declined.append(name)

    def answered(self) -> Arrays:
        """The trained model's answers to the held-out rows."""
        return self.asked[HELD_OUT][1]

    def made(self) -> list[tuple[Arrays, Arrays]]:
        """Rows made to be nasty, with the trained model's answers, in groups."""
        return [group for name, group in self.asked.items() if name != HELD_OUT]

    def prove(self, variant: Predictor, tolerance: float) -> Proof:
        """Compare a variant on every group, and on some held-out rows one by one."""
        proofs: dict[str, Proof] = {}
        for name, (rows, expected) in self.asked.items():
            try:
                given = answers(variant, rows)
            except ModelFailed as failure:
                proofs[name] = Proof(
                    equal=False, rows=row_count(rows), tolerance=tolerance, reason=failure.message
                )
                continue
            proofs[name] = parity.compare(expected, given, tolerance=tolerance)
        count = min(_ONE_BY_ONE, row_count(self.rows))
        first = take(self.rows, slice(0, count))
        expected = take(self.asked[HELD_OUT][1], slice(0, count))
        proofs["rows one by one"] = parity.compare(
            expected, answers(variant, first, chunk=1), tolerance=tolerance
        )
        return parity.together(proofs)


def answers(predictor: Predictor, rows: Arrays, *, chunk: int = _CHUNK) -> dict[str, Any]:
    """A predictor's answers to any number of rows, asked in chunks.

    Raises:
        ModelFailed: the model raised.
    """
    count = row_count(rows)
    return stack([predictor.predict(_part(rows, at, chunk)) for at in range(0, count, chunk)])


def _part(rows: Arrays, at: int, chunk: int) -> Arrays:
    """A chunk of rows, laid out as a decoder hands them in."""
    return {name: np.ascontiguousarray(array) for name, array in take(rows, slice(at, at + chunk)).items()}
