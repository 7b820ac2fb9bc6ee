"""What the author of a model in plain Python uses: a class to derive from, or a mark on a function.

::

    from typing import Literal
    import servable

    class Sentiment(servable.Model):
        files = ["weights.npz"]

        def load(self) -> None:
            self.weights = np.load(self.folder / "weights.npz")

        def predict(self, text: list[str]) -> list[Literal["bad", "good"]]:
            ...

``docs/python-models.md`` says which types there are. Nothing but the standard library is imported here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: The attribute under which a marked function keeps its mark.
MARK = "__servable_model__"


class Model:
    """A model in plain Python. Derive from it and write ``predict``; its type hints are the API.

    The class is made without arguments and ``load`` is called once, in the process that answers. ``predict``
    is called by one thread at a time. It takes lists (all rows at once) or single values (one row), may be
    ``async``, and may be a generator, which gives its answer in pieces.

    Attributes:
        files: files and folders beside the model's file that it needs, relative to it; they are copied into
            the package. Modules beside it that it imports are copied without being named.
        example: one row by the names of the parameters, for documentation and for warming up.
        network: whether it calls others over the network. Its process gets no connection otherwise, and
            not even then where its deployment says ``--no-network``.
        programs: whether it starts programs or processes. It cannot otherwise, and not even then where its
            deployment says ``--no-programs``.
        folder: where the files lie when the model runs.
    """

    files: ClassVar[Sequence[str]] = ()
    example: ClassVar[Mapping[str, Any] | None] = None
    network: ClassVar[bool] = False
    programs: ClassVar[bool] = False
    folder: Path = Path()

    def load(self) -> Any:
        """Read files and build what ``predict`` needs; called once. May be ``async``."""

    predict: Callable[..., Any]


def model(
    function: _Function | None = None,
    *,
    files: Sequence[str] = (),
    example: Mapping[str, Any] | None = None,
    network: bool = False,
    programs: bool = False,
) -> Any:
    """Mark a function as a model, which is found then when its file is added.

    Args:
        function: to be marked; stays what it is.
        files: as in ``Model``.
        example: as in ``Model``.
        network: as in ``Model``.
        programs: as in ``Model``.
    """

    def mark(marked: _Function) -> _Function:
        said = {"files": tuple(files), "example": example, "network": network, "programs": programs}
        setattr(marked, MARK, said)
        return marked

    return mark if function is None else mark(function)
