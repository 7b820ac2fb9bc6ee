"""TensorFlow's SavedModel folders, run through their signature ``serving_default``.

A folder is data as long as its graph only computes; one that reaches outside asks for trust.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUnsupported
from servable.frameworks.base import EXECUTES, NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.boosted import ORIGIN, first_line
from servable.frameworks.nets import OUTPUTS, NetPredictor, Port, described, shape_of
from servable.frameworks.quiet import imported
from servable.frameworks.scoring import LastStep
from servable.frameworks.tensorflow_audit import FILE, check

tf = imported("tensorflow")

#: The signature that serves, as TensorFlow Serving names it.
SERVED = "serving_default"
_FOLDER = "model"
#: What a SavedModel folder consists of; anything else in it stays behind.
_PARTS = (FILE, "fingerprint.pb", "variables", "assets")
#: Operations that only hand on what another one made.
_PASSING = frozenset({"Identity", "Cast", "Squeeze", "Reshape"})


class TensorflowAdapter:
    """SavedModel folders of TensorFlow and Keras."""

    name = "tensorflow"
    suffixes = ()

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a folder; see the seam.

        Raises:
            ArtifactUnreadable: damaged, or no SavedModel.
            ArtifactUntrusted: its graph reads or writes files or calls Python, and ``trust`` is false.
            ArtifactUnsupported: no signature ``serving_default``, or one with a fixed number of rows.
            SettingInvalid: a hint contradicts the model.
        """
        executes = bool(check(path, trust=trust))
        model = _loaded(path)
        served = _served(model, path)
        inputs, outputs = _inputs(served), _outputs(served)
        signature, options = described(inputs, outputs, hints, last=_last_step(served))
        options[ORIGIN] = str(path)
        if executes:
            options[EXECUTES] = True
        return Trained(model, signature, options, _libraries())

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the parts of the folder into the package; links are not followed."""
        options = dict(trained.options)
        origin = Path(str(options.pop(ORIGIN)))
        with storage_errors("copying the model"):
            for part in _PARTS:
                for source in [origin / part, *sorted((origin / part).rglob("*"))]:
                    if source.is_file() and not source.is_symlink():
                        target = folder / _FOLDER / source.relative_to(origin)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(source, target)
        return Variant(name=TRAINED, format=self.name, path=_FOLDER, options=options)

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory.

        Raises:
            ArtifactUntrusted: it would reach outside and ``trust`` is false.
            ArtifactUnreadable: damaged.
        """
        path = folder / variant.path
        check(path, trust=trust)
        return Trained(_loaded(path), signature, variant.options, _libraries())

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        served = trained.model.signatures[SERVED]
        names = [port.name for port in _inputs(served)]
        outputs = list(trained.options[OUTPUTS])

        def run(given: list[Any]) -> list[Any]:
            answer = served(**{name: _tensor(array) for name, array in zip(names, given, strict=True)})
            return [_array(answer[name]) for name in outputs]

        return NetPredictor(run, trained.options)


def _libraries() -> dict[str, str]:
    return {"tensorflow": tf.__version__, "numpy": np.__version__}


def _loaded(path: Path) -> Any:
    """The model in a folder that may be opened.

    Raises:
        ArtifactUnreadable: TensorFlow cannot open it.
    """
    try:
        return tf.saved_model.load(str(path))
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        raise ArtifactUnreadable(
            f"{path.name} cannot be opened by TensorFlow {tf.__version__} ({first_line(foreign)}); it may be "
            "damaged or incomplete; save or copy the folder again."
        ) from foreign


def _served(model: Any, path: Path) -> Any:
    """The function that serves.

    Raises:
        ArtifactUnsupported: there is none.
    """
    signatures = getattr(model, "signatures", {})
    if SERVED not in signatures:
        found = ", ".join(sorted(signatures)) or "none"
        raise ArtifactUnsupported(
            f"{path.name} has no signature {SERVED} (it has {found}); save it with "
            "signatures={'serving_default': ...}."
        )
    return signatures[SERVED]


def _inputs(served: Any) -> list[Port]:
    """The inputs by name, sorted as the signature keeps them."""
    return [_port(name, spec) for name, spec in served.structured_input_signature[1].items()]


def _outputs(served: Any) -> list[Port]:
    return [_port(name, spec) for name, spec in served.structured_outputs.items()]


def _port(name: str, spec: Any) -> Port:
    dtype = "str" if spec.dtype == tf.string else str(spec.dtype.name)
    return Port(name, dtype, shape_of(name, None if spec.shape.rank is None else spec.shape.as_list()))


def _tensor(array: Any) -> Any:
    return tf.constant(array.tolist(), tf.string) if array.dtype == object else tf.constant(array)


def _array(tensor: Any) -> Any:
    array = tensor.numpy()
    if tensor.dtype != tf.string:
        return array
    texts = [value.decode("utf-8", "replace") for value in array.reshape(-1).tolist()]
    return np.asarray(texts, dtype=object).reshape(array.shape)


def _last_step(served: Any) -> LastStep:
    """What makes the only output, if it is softmax or the logistic function; looked up through calls."""
    if len(served.outputs) != 1:
        return ""
    graph = served.graph
    library = {function.signature.name: function for function in graph.as_graph_def().library.function}
    tensor = served.outputs[0]
    while tensor.op.type in _PASSING:
        tensor = tensor.op.inputs[0]
    if tensor.op.type not in ("PartitionedCall", "StatefulPartitionedCall"):
        return _NAMES.get(tensor.op.type, "")
    function = library.get(tensor.op.get_attr("f").name)
    place = tensor.value_index
    return _made_by(library, function, place) if function is not None else ""


def _made_by(library: dict[str, Any], function: Any, place: int) -> LastStep:
    """The same inside a function of the library, which names its tensors ``node:output:number``."""
    for _ in range(100):
        nodes = {node.name: node for node in function.node_def}
        name = function.ret[function.signature.output_arg[place].name].partition(":")
        node = nodes.get(name[0])
        while node is not None and node.op in _PASSING:
            name = node.input[0].partition(":")
            node = nodes.get(name[0])
        if node is None or node.op not in ("PartitionedCall", "StatefulPartitionedCall"):
            return _NAMES.get(node.op, "") if node is not None else ""
        place = int(name[2].rpartition(":")[2] or 0)
        function = library.get(node.attr["f"].func.name)
        if function is None:
            return ""
    return ""


_NAMES: dict[str, LastStep] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}

ADAPTER = TensorflowAdapter()
