"""What the client hands back: frozen records."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from numpy.typing import NDArray

#: One value of a row.
Scalar = float | str | None

#: One row: by column name, or in the signature's order.
Row = Mapping[str, Any] | list[Scalar] | tuple[Scalar, ...]

#: Several rows.
Rows = list[dict[str, Any]] | list[list[Any]] | list[tuple[Any, ...]] | NDArray[Any]

#: One answer: a label for classifiers, a number for regressors, a cluster, or a tensor as nested lists.
Answer = Any


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one row.

    Attributes:
        prediction: the label or value.
        probabilities: label (as text) to probability; None when the model gives none.
        model: the model that answered.
        version: the one version that answered.
        request_id: under which the server logged the request.
    """

    prediction: Answer = None
    probabilities: dict[str, float | None] | None = None
    model: str = ""
    version: int = 0
    request_id: str = ""


class Predictions(msgspec.Struct, frozen=True, kw_only=True):
    """The answers to several rows, in the order of the rows.

    Attributes:
        predictions: a label or value for each row.
        probabilities: for each row label (as text) to probability; None when the model gives none.
        model: the model that answered.
        version: the one version that answered all of them.
        request_id: under which the server logged the request.
    """

    predictions: tuple[Answer, ...] = ()
    probabilities: tuple[dict[str, float | None], ...] | None = None
    model: str = ""
    version: int = 0
    request_id: str = ""

    def __len__(self) -> int:
        """How many rows were answered."""
        return len(self.predictions)

    def __iter__(self) -> Iterator[Prediction]:
        """The answers one by one, each as a ``Prediction``."""
        for index in range(len(self.predictions)):
            yield self[index]

    def __getitem__(self, index: int) -> Prediction:
        """The answer to one row."""
        return Prediction(
            prediction=self.predictions[index],
            probabilities=None if self.probabilities is None else self.probabilities[index],
            model=self.model,
            version=self.version,
            request_id=self.request_id,
        )


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as its server describes it.

    Attributes:
        name: the model.
        version: the version that answers.
        details: everything that the server said about it.
    """

    name: str
    version: int | None = None
    details: dict[str, Any] = {}
