"""A graph with named inputs and outputs behind packed arrays, whichever library computes it.

The options of a variant say how to feed it and how to read it::

    {"feeds": [{"input": "numbers", "source": "numbers", "dtype": "float64",
                "columns": [0], "shape": [-1, 1]}, ...],
     "outputs": {"prediction": {"output": "label", "form": "plain"}, ...}}

``columns`` (which columns of the source) and ``shape`` are left out where the array goes in as it is. With
``"batch": 4`` the graph takes four rows at a time, no more and no less. ``text`` is the option of ``tokens``.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import ModelFailed
from servable.frameworks.base import Predictor
from servable.frameworks.devices import PROCESSOR, Placed
from servable.frameworks.fixed_batch import in_batches
from servable.frameworks.onnx_outputs import reader
from servable.frameworks.tokens import TEXT, TextPredictor
from servable.inputs.text import Tokenizer
from servable.tensors import STRINGS, Arrays, row_count

Feed = Mapping[str, Any]
#: Computes the outputs of these names from inputs by name. Called by several threads at once.
Run = Callable[[list[str], dict[str, Any]], Sequence[Any]]


class GraphPredictor:
    """A graph with its feeds worked out beforehand. Safe for concurrent calls.

    Args:
        run: computes the graph.
        options: see the module.
        placed: what computes it.
        failures: what ``run`` raises when the graph cannot be computed for these rows.

    Attributes:
        device: what computes it.
        device_note: why that is not what should; empty when it is.

    Raises:
        KeyError: an option is not there.
    """

    concurrent = True

    def __init__(
        self, run: Run, options: Mapping[str, Any], placed: Placed, failures: tuple[type[Exception], ...]
    ) -> None:
        feeds: list[Feed] = list(options["feeds"])
        outputs: Mapping[str, Mapping[str, Any]] = options["outputs"]
        self._run = run
        self._failures = failures
        self.device, self.device_note = placed
        self._batch = int(options.get("batch", 0))
        self._whole = [(feed["input"], feed["source"]) for feed in feeds if _is_whole(feed)]
        self._made = [(feed["input"], feed["source"], _maker(feed)) for feed in feeds if not _is_whole(feed)]
        #: Each output of the graph is asked for once, however many answers are read from it.
        self._names = list(dict.fromkeys(spec["output"] for spec in outputs.values()))
        self._answers = [
            (key, self._names.index(spec["output"]), reader(spec)) for key, spec in outputs.items()
        ]

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows; arrays that fit go in without a copy.

        Raises:
            ModelFailed: the library raised.
        """
        try:
            if self._batch and row_count(arrays) != self._batch:
                return in_batches(self._answer, arrays, self._batch)
            return self._answer(arrays)
        except self._failures as foreign:
            raise ModelFailed(
                f"The compiled model failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign

    def feed(self, arrays: Arrays) -> dict[str, Any]:
        """What the graph's inputs are given for these rows, by their names."""
        feed = {name: arrays[source] for name, source in self._whole}
        for name, source, make in self._made:
            feed[name] = make(arrays[source])
        return feed

    def _answer(self, arrays: Arrays) -> dict[str, Any]:
        found = self._run(self._names, self.feed(arrays))
        return {
            key: found[place] if read is None else read(found[place]) for key, place, read in self._answers
        }

    def close(self) -> None:
        """Drop the graph; its memory goes with the last reference."""
        self._run = _closed


def asked_with_texts(inner: Predictor, folder: Path, options: Mapping[str, Any]) -> Predictor:
    """The predictor itself, behind the tokenizer where the options name one.

    Args:
        inner: over the graph.
        folder: in which the variant's file lies, and the tokenizer.
        options: see the module.

    Raises:
        ArtifactUnreadable: the tokenizer is damaged.
        DependencyMissing: tokenizers is not installed.
    """
    if TEXT not in options:
        return inner
    return TextPredictor(Tokenizer.of(folder, options[TEXT]), inner, options[TEXT])


def graph_feed(folder: Path, options: Mapping[str, Any], rows: Arrays) -> dict[str, Any]:
    """What the inputs of a variant's graph are given for some rows, by their names; texts as tokens.

    Args:
        folder: in which the variant's file lies, and the tokenizer.
        options: see the module.
        rows: packed.

    Raises:
        ArtifactUnreadable: the tokenizer is damaged.
        DependencyMissing: tokenizers is not installed.
    """
    if TEXT in options:
        rows = Tokenizer.of(folder, options[TEXT]).encode(rows[STRINGS][:, 0].tolist())[0]
    return GraphPredictor(_closed, options, Placed(PROCESSOR), ()).feed(rows)


def _closed(*_: Any) -> Any:
    """Stands where the graph was.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("the predictor is closed")


def _is_whole(feed: Feed) -> bool:
    """Whether a source array goes in as it is."""
    return (
        feed.get("columns") is None
        and feed.get("shape") is None
        and feed["dtype"] in ("float64", "str", "asis")
    )


def _maker(feed: Feed) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """How to make an input from its source array: columns, then type, then shape."""
    columns, shape, name = feed.get("columns"), feed.get("shape"), feed["dtype"]
    dtype = np.dtype(object if name == "str" else name)
    place: Any = None
    if columns is not None:
        first, last = columns[0], columns[-1] + 1
        place = slice(first, last) if list(columns) == list(range(first, last)) else list(columns)
    size = None if shape is None else tuple(shape)

    def make(array: NDArray[Any]) -> NDArray[Any]:
        taken = array if place is None else array[:, place]
        if dtype.kind in "iu" and taken.dtype.kind == "f":
            taken = np.nan_to_num(taken)
        typed = np.ascontiguousarray(taken, dtype=dtype)
        return typed if size is None else typed.reshape(size)

    def make_shorter(array: NDArray[Any]) -> NDArray[Any]:
        # What is beyond the range of the shorter type becomes infinite, as in the trained model.
        with np.errstate(over="ignore"):
            return make(array)

    return make_shorter if dtype.kind == "f" and dtype.itemsize < 8 else make
