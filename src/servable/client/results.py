"""What the client hands back: frozen records."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from servable.client import tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: One value of a row.
Scalar = float | str | None

#: One row: by column name, or in the signature's order.
Row = Mapping[str, Any] | list[Scalar] | tuple[Scalar, ...]

#: Several rows.
Rows: TypeAlias = "list[dict[str, Any]] | list[list[Any]] | list[tuple[Any, ...]] | NDArray[Any]"

#: One answer: a label for classifiers, a number for regressors, a cluster, or a tensor as nested lists.
Answer = Any


class Source:
    """What the rows of a request were, so that the answers can be given back alike.

    Args:
        library: ``rows pandas polars numpy pyarrow``.
        index: of a pandas frame.
    """

    __slots__ = ("index", "library")

    def __init__(self, library: str, index: Any = None) -> None:
        self.library = library
        self.index = index


_PLAIN = Source("rows")


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


class Piece(Prediction, frozen=True, kw_only=True):
    """A part of the answer to one row; all fields are those of ``Prediction``.

    The pieces of a text are put one behind the other; any other piece holds the next values. A model that
    answers whole gives one piece.
    """


class Predictions(msgspec.Struct, frozen=True, kw_only=True, dict=True):
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

    @property
    def source(self) -> Source:
        """What the rows were; no part of the answer, so it is neither compared nor written."""
        found: Source = self.__dict__.get("source_of_rows", _PLAIN)
        return found

    def of(self, source: Source) -> "Predictions":
        """These answers, with what the rows were."""
        self.__dict__["source_of_rows"] = source
        return self

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with the columns ``prediction`` and ``probability_<label>`` for each label.

        Rows that came as a DataFrame keep its index, so that the answers can be joined to it. A model of
        several outputs has a column for each, in place of ``prediction``.

        Raises:
            DependencyMissing: pandas is not installed.
        """
        return tables.library("pandas").DataFrame(self._columns(), index=self.source.index)

    def to_polars(self) -> Any:
        """A ``polars.DataFrame`` with the columns of ``to_pandas``.

        Raises:
            DependencyMissing: polars is not installed.
        """
        return tables.library("polars").DataFrame(self._columns(), strict=False)

    def to_frame(self) -> Any:
        """A DataFrame of the library from which the rows came: polars for polars, else pandas.

        Raises:
            DependencyMissing: the library is not installed.
        """
        return self.to_polars() if self.source.library == "polars" else self.to_pandas()

    def to_numpy(self, *, probabilities: bool = False) -> Any:
        """The answers as an array, rows on the first axis; null is NaN among numbers.

        Args:
            probabilities: give those, as ``[rows, labels]`` in the order of the model's labels.

        Raises:
            DependencyMissing: numpy is not installed.
        """
        if not probabilities:
            return tables.array(self.predictions)
        return tables.array([list(chances.values()) for chances in self.probabilities or ()])

    def _columns(self) -> dict[str, list[Any]]:
        return tables.columns(self.predictions, self.probabilities)


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
