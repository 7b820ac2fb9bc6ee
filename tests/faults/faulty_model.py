"""A model in plain Python that sums its rows, and does something terrible with one of them.

Its process starts in a third of a second, which one of scikit-learn does not. This very file is what the
packages hold, so it names nothing else of the tests.
"""

import os
import time

import servable

#: The row.
ASKED = [6.0, 2.9, 4.5, 1.5]


class Faulty(servable.Model):
    """Sums rows; the file ``fault`` beside it says what it does with ``ASKED``."""

    def load(self) -> None:
        self.fault = (self.folder / "fault").read_text()

    def predict(
        self,
        sepal_length: list[float],
        sepal_width: list[float],
        petal_length: list[float],
        petal_width: list[float],
    ) -> list[float]:
        rows = list(zip(sepal_length, sepal_width, petal_length, petal_width, strict=True))
        if tuple(ASKED) in rows:
            if self.fault == "errs":
                raise ValueError("no such row")
            if self.fault == "crashes":
                os._exit(3)
            time.sleep(600)
        return [sum(row) for row in rows]
