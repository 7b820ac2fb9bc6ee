"""Compiled forms of networks on OpenVINO, which computes them on processors of its maker and others.

Only forms made by ``optimization.openvino_forms`` are of this format; nothing is trained in it and no file of
a user's is. A variant is a folder with the graph, ``model.xml``, and its weights, ``model.bin``; a tokenizer
lies beside them. Its options are those of ``graph_predictor``, and in what precision it is computed::

    {"precision": "f32"}

It is always said: left alone, OpenVINO takes bfloat16 on processors that have it, and other answers come out.
"""

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUnsupported
from servable.frameworks.base import NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.devices import PROCESSOR, Placed
from servable.frameworks.graph_predictor import GraphPredictor, asked_with_texts
from servable.frameworks.onnx_session import usable_cores

GRAPH_FILE, WEIGHTS_FILE = "model.xml", "model.bin"
#: Option of a variant: the precision of its arithmetic.
PRECISION = "precision"
#: What the precisions ask of OpenVINO.
_HINTS: Mapping[str, Mapping[str, str]] = {
    "f32": {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16", "EXECUTION_MODE_HINT": "PERFORMANCE"},
}
#: Runs that go on at once, at most; each computes in one thread, as those of onnxruntime do.
_MOST_STREAMS = 8
#: What the library raises, all of it without a class of its own.
_FAILURES: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError, LookupError)


class Requests:
    """A compiled graph, and as many requests for it as were ever under way. Safe for concurrent calls.

    Arrays whose shape is none of the graph's never reach it: on some processors a graph that was given
    such an array keeps failing afterwards. Whatever else makes it keep failing is answered by compiling
    it once more.

    Args:
        make: compiles the graph.
    """

    def __init__(self, make: Callable[[], ov.CompiledModel]) -> None:
        self._make = make
        self._compiled = make()
        self._places = {
            name: place for place, port in enumerate(self._compiled.outputs) for name in port.get_names()
        }
        self._shapes = {
            name: port.get_partial_shape() for port in self._compiled.inputs for name in port.get_names()
        }
        # Taking from a list and putting back are each one step of the interpreter, so no lock is needed.
        self._idle: list[Any] = []
        self._doubted = False
        self._mending = threading.Lock()

    def has(self, names: Sequence[str]) -> bool:
        """Whether the graph gives all of these outputs."""
        return set(names) <= self._places.keys()

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        """Compute outputs by name; they are copies, which the next run leaves alone.

        Raises:
            ValueError: an array is of a shape that the graph does not take, or has no row.
            RuntimeError: OpenVINO cannot compute them.
        """
        for name, array in feed.items():
            shape = np.shape(array)
            if 0 in shape or not self._shapes[name].compatible(ov.PartialShape(list(shape))):
                raise ValueError(f"{name} of shape {shape}")
        compiled = self._compiled
        try:
            outputs = self._run(compiled, feed)
        except RuntimeError:
            # The first failure is the rows' own until the next run fails as well.
            if not self._doubted:
                self._doubted = True
                raise
            outputs = self._run(self._mended(compiled), feed)
        self._doubted = False
        return [outputs[self._places[name]] for name in names]

    def _run(self, compiled: ov.CompiledModel, feed: dict[str, Any]) -> list[Any]:
        try:
            owner, request = self._idle.pop()
        except IndexError:
            owner = None
        if owner is not compiled:
            request = compiled.create_infer_request()
        # Inputs that may be written to go in without a copy; nothing writes to them.
        outputs = list(request.infer(feed, share_inputs=True).values())
        # One that failed is not used again.
        self._idle.append((compiled, request))
        return outputs

    def _mended(self, broken: ov.CompiledModel) -> ov.CompiledModel:
        """The graph compiled again; of several callers at once one does, and the others wait for it."""
        with self._mending:
            if self._compiled is broken:
                self._compiled = self._make()
                self._idle.clear()
            return self._compiled


def compiled(path: Path, precision: str) -> ov.CompiledModel:
    """The graph of a folder, ready to run on the processor.

    Args:
        path: the folder.
        precision: ``f32`` or ``bf16``.

    Raises:
        ArtifactUnreadable: the graph or its weights are not there, damaged, or not for this OpenVINO.
        KeyError: an unknown precision.
    """
    streams = max(1, min(usable_cores(), _MOST_STREAMS))
    hints: dict[str, Any] = {
        **_HINTS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        # Callers' threads belong to the server, which does not want them tied to a core.
        "ENABLE_CPU_PINNING": False,
    }
    graph, weights = path / GRAPH_FILE, path / WEIGHTS_FILE
    if not graph.is_file() or not weights.is_file():
        raise ArtifactUnreadable(f"The package lacks {GRAPH_FILE} or {WEIGHTS_FILE} of its form {path.name}.")
    core = ov.Core()
    try:
        return core.compile_model(core.read_model(str(graph), str(weights)), "CPU", hints)
    except _FAILURES as foreign:
        raise ArtifactUnreadable(
            f"{path.name} of the package is no network that OpenVINO {version()} can load; it may be damaged "
            "or made by a newer one; make it again with servable optimize."
        ) from foreign


def version() -> str:
    """The version of OpenVINO, without the commit that it was built from."""
    return str(ov.__version__).partition("-")[0]


def _predictor(path: Path, options: Mapping[str, Any]) -> Predictor:
    """A predictor over a folder.

    Raises:
        ArtifactUnreadable: it is damaged.
        KeyError: the options are.
    """
    precision = options[PRECISION]
    requests = Requests(lambda: compiled(path, precision))
    if not requests.has([spec["output"] for spec in options["outputs"].values()]):
        raise KeyError("outputs")
    graph = GraphPredictor(requests.run, options, Placed(PROCESSOR), _FAILURES)
    return asked_with_texts(graph, path, options)


class OpenVinoAdapter:
    """Compiled forms on OpenVINO."""

    name = "openvino"
    suffixes: tuple[str, ...] = ()

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Refuse: a graph of OpenVINO says too little of what it takes, and the ONNX file says it.

        Raises:
            ArtifactUnsupported: always.
        """
        raise ArtifactUnsupported(
            f"{path.name} is not taken in: add the ONNX file that it was made from, which OpenVINO then runs "
            "where that is faster."
        )

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the folder of a form into a package."""
        with storage_errors("copying the model"):
            shutil.copytree(trained.model, folder / "model")
        return Variant(name=TRAINED, format=self.name, path="model", options=dict(trained.options))

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The folder of a form with what is known of it; nothing is loaded yet."""
        return Trained(folder / variant.path, signature, variant.options, {"openvino": version()})

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over a form. It holds no code, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: its files or its options are damaged.
        """
        try:
            return _predictor(folder / variant.path, variant.options)
        except (KeyError, TypeError, AttributeError) as foreign:
            raise ArtifactUnreadable(f"The options of variant {variant.name!r} are damaged.") from foreign

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the folder of a form."""
        return _predictor(Path(trained.model), trained.options)


ADAPTER = OpenVinoAdapter()
