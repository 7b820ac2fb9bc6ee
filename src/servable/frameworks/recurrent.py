"""Recurrent networks over texts, trained here with torch; served from the compiled form without it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ModelFailed
from servable.frameworks.base import NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.recurrent_network import network_of, probabilities
from servable.frameworks.recurrent_weights import Recurrent, read_recurrent, write_recurrent
from servable.frameworks.text_numbers import numberer
from servable.tensors import PREDICTION, PROBABILITIES, STRINGS, Arrays, row_count

#: Where the network lies in a package.
_FOLDER = "recurrent"


class RecurrentPredictor:
    """The network as torch computes it. One call at a time."""

    concurrent = False

    def __init__(self, model: Recurrent) -> None:
        columns = len(model.description.signature.packed(STRINGS))
        self._numbers = numberer(model.description.numbering, columns)
        self._network = network_of(model)

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows.

        Raises:
            ModelFailed: a value is no text, or torch raised.
        """
        try:
            given = probabilities(self._network, *self._numbers(arrays[STRINGS]))
        except (TypeError, AttributeError, LookupError, RuntimeError) as foreign:
            raise ModelFailed(
                f"The network failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign
        return {PREDICTION: np.argmax(given, axis=1), PROBABILITIES: given}

    def close(self) -> None:
        """Drop the network."""
        del self._network


class RecurrentAdapter:
    """Networks that ``servable train`` made, and folders with a ``recurrent.json``."""

    name = "recurrent"
    suffixes: tuple[str, ...] = ()

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a folder with a network. It holds arrays and no code, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: damaged.
        """
        model = read_recurrent(path)
        RecurrentPredictor(model).close()
        return trained_of(model)

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Write the network's folder into a package."""
        write_recurrent(trained.model, folder / _FOLDER)
        return Variant(name=TRAINED, format=self.name, path=_FOLDER)

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The network of a package; see the seam."""
        return trained_of(read_recurrent(folder / variant.path))._replace(signature=signature)

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the network in a package.

        Raises:
            ArtifactUnreadable: it is damaged.
        """
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the network in memory."""
        return RecurrentPredictor(trained.model)


def trained_of(model: Recurrent) -> Trained:
    """A network in the form that adapters hand on."""
    libraries = {"torch": str(torch.__version__), "numpy": np.__version__}
    return Trained(model, model.description.signature, {}, libraries)


ADAPTER = RecurrentAdapter()
