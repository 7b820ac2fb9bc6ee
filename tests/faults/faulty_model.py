"""A model in plain Python that sums its rows, and does something terrible with one of them.

Its process starts in a third of a second, which one of scikit-learn does not. This very file is what the
packages hold, so it names nothing else of the tests.
"""

import os
import time
from typing import TypedDict

import servable

#: The row.
ASKED = [6.0, 2.9, 4.5, 1.5]
#: What the linear classifier takes; its names are no names of Python.
Row = TypedDict(
    "Row",
    {
        "sepal length (cm)": float,
        "sepal width (cm)": float,
        "petal length (cm)": float,
        "petal width (cm)": float,
    },
)


class Faulty(servable.Model):
    """Sums rows; the file ``fault`` beside it says what it does with ``ASKED``."""

    def load(self) -> None:
        self.fault = (self.folder / "fault").read_text()

    def predict(self, rows: list[Row]) -> list[float]:
        if any(list(row.values()) == ASKED for row in rows):
            if self.fault == "errs":
                raise ValueError("no such row")
            if self.fault == "crashes":
                os._exit(3)
            time.sleep(600)
        return [sum(row.values()) for row in rows]
