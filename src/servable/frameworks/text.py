"""Compiled text models: tokens, counts and a linear model, or token numbers and a small network.

A form of its own beside ONNX, whose text operators do not split and fold texts as Python does. What a
folder holds is data (see ``text_program``): nothing of it is executed, and neither scikit-learn nor torch
is needed to run it. Made by ``optimization.text_forms``; safe for concurrent calls.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ModelFailed
from servable.frameworks.base import NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.text_answers import HEADS
from servable.frameworks.text_numbers import numberer
from servable.frameworks.text_program import (
    NETWORK_FILE,
    REST_FILE,
    Bag,
    Bags,
    Compiled,
    Network,
    Part,
    read_compiled,
    write_compiled,
)
from servable.frameworks.text_tokens import analyse
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays, row_count

Floats = NDArray[np.float64]

#: Where a model that is itself a compiled one lies in a package.
_FOLDER = "text"
_SCORES = "scores"


class BagsPredictor:
    """A linear model of counted tokens. Safe for concurrent calls."""

    concurrent = True

    def __init__(self, compiled: Compiled, body: Bags) -> None:
        signature, arrays = compiled.program.signature, compiled.arrays
        self._bias = _shaped(arrays, "bias", 1)
        width = len(self._bias)
        self._parts = [
            _adder(part, place, arrays, len(signature.packed(STRINGS)), width)
            for place, part in enumerate(body.parts)
        ]
        self._answer = HEADS[body.head]
        count = len(signature.classes)
        fits = {1: count == 2, count: count > 1}.get(width, False)
        if body.head != "value" and not fits:
            raise ArtifactUnreadable(f"A text model has {width} scores for {count} classes.")
        self._rest = _graph(compiled, REST_FILE, _rest_options(signature)) if body.rest else None

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows, one after the other.

        Raises:
            ModelFailed: a value is no text, or the numbers of other columns cannot be computed with.
        """
        rows = row_count(arrays)
        scores = np.tile(self._bias, (rows, 1))
        try:
            for add in self._parts:
                add(arrays[STRINGS], scores)
        except (TypeError, AttributeError, LookupError, ValueError) as foreign:
            raise ModelFailed(
                f"The text model failed on {rows} rows ({type(foreign).__name__})."
            ) from foreign
        if self._rest is not None:
            scores += self._rest.predict(arrays)[_SCORES]
        return self._answer(scores)

    def close(self) -> None:
        """Drop the arrays."""
        self._parts = []
        if self._rest is not None:
            self._rest.close()


def _adder(
    part: Part, place: int, arrays: Arrays, columns: int, width: int
) -> Callable[[NDArray[Any], Floats], None]:
    """The function that adds a part's scores ``[rows, width]`` for packed texts ``[rows, columns]``."""
    tokens = sum(len(bag.vocabulary) for bag in part.bags)
    weights = _shaped(arrays, f"weights_{place}", 2, tokens, width)
    idf = _shaped(arrays, f"idf_{place}", 1, tokens) if part.idf else None
    counters = []
    offset = 0
    for bag in part.bags:
        if not 0 <= bag.column < columns:
            raise ArtifactUnreadable("A text model reads a column that its signature does not have.")
        counters.append((bag.column, _counter(bag, offset)))
        offset += len(bag.vocabulary)

    def add(texts: NDArray[Any], scores: Floats) -> None:
        for row in range(len(texts)):
            counts: dict[int, int] = {}
            for column, count in counters:
                counts |= count(texts[row, column])
            if not counts:
                continue
            ids = np.fromiter(counts.keys(), np.intp, len(counts))
            values = np.fromiter(counts.values(), np.float64, len(counts))
            if part.sublinear:
                values = np.log(values) + 1.0
            if idf is not None:
                values *= idf[ids]
            if part.norm:
                size = np.sqrt(values @ values) if part.norm == "l2" else np.abs(values).sum()
                values /= size or 1.0
            scores[row] += values @ weights[ids]

    return add


def _counter(bag: Bag, offset: int) -> Callable[[str], dict[int, int]]:
    """The function from a text to how often each known token occurs, by the token's number."""
    tokens = analyse(bag.analyzer)
    number = {token: place for place, token in enumerate(bag.vocabulary, offset)}
    if len(number) != len(bag.vocabulary):
        raise ArtifactUnreadable("The vocabulary of a text model has the same token twice.")
    find = number.get
    once = bag.binary

    def count(text: str) -> dict[int, int]:
        counts: dict[Any, int] = Counter(map(find, tokens(text)))
        counts.pop(None, None)
        return dict.fromkeys(counts, 1) if once else counts

    return count


def _shaped(arrays: Arrays, name: str, dimensions: int, *sizes: int) -> Floats:
    """An array of a text model, which must be there in the right form.

    Raises:
        ArtifactUnreadable: it is not.
    """
    array = arrays.get(name)
    if array is None or array.dtype != np.float64 or array.ndim != dimensions:
        raise ArtifactUnreadable(f"A text model lacks its array {name!r}; make or copy it again.")
    if any(size != there for size, there in zip(sizes, array.shape, strict=False)):
        raise ArtifactUnreadable(f"The array {name!r} of a text model has a shape that does not fit.")
    return np.ascontiguousarray(array)


class NetworkPredictor:
    """A small network over token numbers. Safe for concurrent calls."""

    concurrent = True

    def __init__(self, compiled: Compiled, body: Network) -> None:
        self._numbers = numberer(body.numbering, len(compiled.program.signature.packed(STRINGS)))
        self._network = _graph(compiled, NETWORK_FILE, _NETWORK_OPTIONS)

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows at once.

        Raises:
            ModelFailed: a value is no text, or onnxruntime raised.
        """
        try:
            ids, lengths = self._numbers(arrays[STRINGS])
        except (TypeError, AttributeError, LookupError) as foreign:
            raise ModelFailed(
                f"The text model failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign
        probabilities = self._network.predict({"ids": ids, "lengths": lengths})[PROBABILITIES]
        return {PREDICTION: np.argmax(probabilities, axis=1), PROBABILITIES: probabilities}

    def close(self) -> None:
        """Drop the network."""
        self._network.close()


_NETWORK_OPTIONS = {
    "feeds": [{"input": name, "source": name, "dtype": "asis"} for name in ("ids", "lengths")],
    "outputs": {PROBABILITIES: {"output": PROBABILITIES, "form": "plain"}},
}


def _rest_options(signature: Signature) -> dict[str, Any]:
    kinds = {NUMBERS: "float64", STRINGS: "str"}
    return {
        "feeds": [
            {"input": array, "source": array, "dtype": kinds[array]}
            for array in (NUMBERS, STRINGS)
            if signature.packed(array)
        ],
        "outputs": {_SCORES: {"output": _SCORES, "form": "plain"}},
    }


def _graph(compiled: Compiled, name: str, options: dict[str, Any]) -> Predictor:
    """A graph of a text model, ready to run."""
    # Only text models with a graph need onnxruntime.
    from servable.frameworks import onnx

    with tempfile.TemporaryDirectory(prefix="servable-") as folder:
        path = Path(folder) / name
        path.write_bytes(compiled.graphs[name])
        return onnx.OnnxPredictor(onnx.open_session(path), options)


class TextAdapter:
    """Compiled text models, our own variants and folders with a ``text.json``."""

    name = "text"
    suffixes: tuple[str, ...] = ()

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in the folder of a compiled text model. It holds no code, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: damaged.
        """
        compiled = read_compiled(path)
        self._predictor(compiled).close()
        return Trained(compiled, compiled.program.signature, {}, {})

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Write the model's folder into a package."""
        compiled = msgspec.structs.replace(
            trained.model,
            program=msgspec.structs.replace(trained.model.program, signature=trained.signature),
        )
        write_compiled(compiled, folder / _FOLDER)
        return Variant(name=TRAINED, format=self.name, path=_FOLDER)

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package; see the seam."""
        return Trained(read_compiled(folder / variant.path), signature, {}, {})

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over a variant's folder.

        Raises:
            ArtifactUnreadable: it is damaged.
        """
        return self._predictor(read_compiled(folder / variant.path))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        return self._predictor(trained.model)

    @staticmethod
    def _predictor(compiled: Compiled) -> Predictor:
        body = compiled.program.body
        return BagsPredictor(compiled, body) if isinstance(body, Bags) else NetworkPredictor(compiled, body)


ADAPTER = TextAdapter()
