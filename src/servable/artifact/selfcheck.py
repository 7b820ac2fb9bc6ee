"""The example row of a package with the answers that its forms gave when it was made.

``selfcheck.npz`` has the form of ``sample.npz``. The row's arrays are named ``row/NAME``, the answers
``VARIANT/NAME``. The row is kept as the model takes it, so that nothing that makes it of the signature's
example can change what is asked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from servable.artifact.files import write_file
from servable.artifact.manifest import SELF_CHECK_FILE
from servable.artifact.sample import packed, unpacked
from servable.tensors import Arrays

_ROW = "row"


class Recorded(NamedTuple):
    """What was asked and answered when the package was made.

    Attributes:
        row: the example, packed.
        answers: by the variant that gave them.
    """

    row: Arrays
    answers: Mapping[str, Arrays]


def write_recorded(folder: Path, recorded: Recorded) -> None:
    """Put the example with its answers into a package that is being made.

    Raises:
        TypeError: an object array holds something other than texts.
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    arrays = {f"{_ROW}/{name}": array for name, array in recorded.row.items()}
    for variant, answers in recorded.answers.items():
        arrays |= {f"{variant}/{name}": array for name, array in answers.items()}
    write_file(folder / SELF_CHECK_FILE, packed(arrays))


def read_recorded(folder: Path) -> Recorded | None:
    """The example with its answers; None in packages that keep none.

    Raises:
        ArtifactUnreadable: they are damaged.
    """
    path = folder / SELF_CHECK_FILE
    if not path.is_file():
        return None
    row: dict[str, NDArray[Any]] = {}
    answers: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in unpacked(path).items():
        whose, _, rest = name.partition("/")
        if whose == _ROW:
            row[rest] = array
        else:
            answers.setdefault(whose, {})[rest] = array
    return Recorded(row, answers)
