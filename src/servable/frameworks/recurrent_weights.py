"""A recurrent network over token numbers as data: its sizes and its weights, without torch.

A model of this kind is a folder with ``recurrent.json``, a ``Description``, and ``weights.npz``, the arrays
of the network under torch's names.
"""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.files import storage_errors, write_file
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable
from servable.frameworks.text_numbers import FIRST
from servable.frameworks.text_program import Numbering, packed, unpacked

DESCRIPTION_FILE = "recurrent.json"
WEIGHTS_FILE = "weights.npz"
#: Gates of a gated recurrent unit.
GATES = 3


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A network and its sizes.

    It embeds the tokens, runs one gated recurrent layer in both directions, takes mean and maximum over the
    tokens, and ends in a linear layer.

    Attributes:
        signature: what the model takes and gives; a classifier.
        numbering: how texts become token numbers.
        width: size of a token's embedding.
        hidden: size of the recurrent state of each direction.
    """

    signature: Signature
    numbering: Numbering
    width: int
    hidden: int


class Recurrent(NamedTuple):
    """A trained network.

    Attributes:
        description: its sizes.
        weights: float32 arrays by torch's names, see ``shapes``.
    """

    description: Description
    weights: dict[str, NDArray[Any]]


def shapes(description: Description) -> dict[str, tuple[int, ...]]:
    """The shape of each array of the weights. Pure."""
    width, hidden = description.width, description.hidden
    tokens = FIRST + len(description.numbering.vocabulary)
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (tokens, width)}
    for end in ("l0", "l0_reverse"):
        found |= {
            f"gru.weight_ih_{end}": (GATES * hidden, width),
            f"gru.weight_hh_{end}": (GATES * hidden, hidden),
            f"gru.bias_ih_{end}": (GATES * hidden,),
            f"gru.bias_hh_{end}": (GATES * hidden,),
        }
    classes = len(description.signature.classes)
    return found | {"out.weight": (classes, 4 * hidden), "out.bias": (classes,)}


def write_recurrent(model: Recurrent, folder: Path) -> None:
    """Write a network into a folder, which is made.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    with storage_errors("writing the network"):
        folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / DESCRIPTION_FILE, msgspec.json.encode(model.description))
    write_file(folder / WEIGHTS_FILE, packed(model.weights))


def read_recurrent(folder: Path) -> Recurrent:
    """A network from its folder. Nothing in it is executed.

    Raises:
        ArtifactUnreadable: it is damaged.
    """
    path = folder / DESCRIPTION_FILE
    try:
        description = msgspec.json.decode(path.read_bytes(), type=Description)
    except OSError as error:
        raise ArtifactUnreadable(f"{path.name} cannot be read ({error.strerror}).") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactUnreadable(f"{path.name} describes no network ({error}); make it again.") from error
    weights = unpacked(folder / WEIGHTS_FILE)
    wanted = shapes(description)
    fits = weights.keys() == wanted.keys() and all(
        array.dtype == np.float32 and array.shape == wanted[name] for name, array in weights.items()
    )
    if not fits or len(description.signature.classes) < 2:
        raise ArtifactUnreadable(f"The arrays of {WEIGHTS_FILE} are not those that {path.name} describes.")
    return Recurrent(description, weights)
