"""The compiled form of networks of Keras and TensorFlow: one ONNX graph in the model's own precision."""

import contextlib
import io
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.files import write_file
from servable.artifact.manifest import Variant
from servable.artifact.signature import Field
from servable.frameworks.base import Trained
from servable.frameworks.nets import HEAD, OUTPUTS, SHAPES, Head
from servable.frameworks.quiet import imported
from servable.optimization.forms import FOLDER, Form
from servable.optimization.graph import Unconvertible
from servable.tensors import PREDICTION, PROBABILITIES

tf = imported("tensorflow")

NAME = "onnx-fp32"
_OPSET = 18
#: protobuf holds no message beyond 2 GiB.
_LARGEST = 2_000_000_000


def forms(trained: Trained) -> tuple[Form, ...]:
    """The forms to try, see ``forms.Form``."""
    return (Form(NAME, partial(_make, trained)),)


def _make(trained: Trained, folder: Path) -> Variant:
    """Export, add what is made of the scores, and write.

    Raises:
        Unconvertible: tf2onnx is not there or cannot export the model, or it is too large.
    """
    head = msgspec.convert(trained.options[HEAD], Head)
    model, outputs = _exported(trained)
    answers = _Answers(model, outputs, head, list(trained.options[OUTPUTS]))
    path = f"{FOLDER}/{NAME}.onnx"
    if model.ByteSize() > _LARGEST:
        raise Unconvertible("its tensors are larger than one ONNX file holds")
    write_file(folder / path, model.SerializeToString())
    shapes = trained.options[SHAPES]
    options = {
        "feeds": [
            _feed(place, field, shape)
            for place, (field, shape) in enumerate(zip(trained.signature.inputs, shapes, strict=True))
        ],
        "outputs": {name: {"output": made, "form": "plain"} for name, made in answers.made.items()},
    }
    return Variant(name=NAME, format="onnx", path=path, options=options)


def _feed(place: int, field: Field, shape: list[int] | None) -> dict[str, Any]:
    """How one input is made from what callers send."""
    feed: dict[str, Any] = {"input": f"x{place}", "source": field.name}
    return feed | {"dtype": "asis"} if shape is None else feed | {"dtype": field.dtype, "shape": [-1, *shape]}


def _exported(trained: Trained) -> tuple[Any, list[str]]:
    """The graph as tf2onnx makes it, with the names of its outputs in order."""
    try:
        tf2onnx = imported("tf2onnx")
    except ModuleNotFoundError as missing:
        raise Unconvertible("tf2onnx is not installed") from missing
    function, specs = _function(trained)
    try:
        with _silent():
            model, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=_OPSET)
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        told = " ".join(str(foreign).split())[:200].rstrip(".")
        raise Unconvertible(f"tf2onnx cannot export it ({type(foreign).__name__}: {told})") from foreign
    _mend(model.graph)
    names = [output.name for output in model.graph.output]
    return model, sorted(names, key=lambda name: int(name.lstrip("y").partition(":")[0]))


def _mend(graph: Any) -> None:
    """Write ``Erfc``, which tf2onnx takes for an operator of ONNX, as one minus ``Erf``."""
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type == "Erfc" and not node.domain:
            one, erf = f"{node.name}_one", f"{node.name}_erf"
            graph.initializer.append(numpy_helper.from_array(np.asarray(1, dtype=np.float32), one))
            graph.node.insert(place, helper.make_node("Erf", list(node.input), [erf], name=erf))
            graph.node[place + 1].CopyFrom(
                helper.make_node("Sub", [one, erf], list(node.output), name=f"{node.name}_sub")
            )


def _function(trained: Trained) -> tuple[Any, list[Any]]:
    """The model as one function of its inputs in order, and their forms."""
    fields = trained.signature.inputs
    specs = [
        tf.TensorSpec(
            [None, *(None if size < 0 else size for size in (shape or field.shape))],
            tf.string if field.dtype == "str" else tf.as_dtype(field.dtype),
            name=f"x{place}",
        )
        for place, (field, shape) in enumerate(zip(fields, trained.options[SHAPES], strict=True))
    ]
    run = _saved(trained) if hasattr(trained.model, "signatures") else _of_keras(trained.model)
    return tf.function(
        lambda *given: {f"y{place}": output for place, output in enumerate(run(given))}, input_signature=specs
    ), specs


def _saved(trained: Trained) -> Any:
    served = trained.model.signatures["serving_default"]
    names = list(served.structured_input_signature[1])
    outputs = list(trained.options[OUTPUTS])

    def run(given: Any) -> list[Any]:
        answer = served(**dict(zip(names, given, strict=True)))
        return [answer[name] for name in outputs]

    return run


def _of_keras(model: Any) -> Any:
    from servable.frameworks.keras import arranged, keras

    if keras.backend.backend() != "tensorflow":
        raise Unconvertible(
            f"Keras runs on {keras.backend.backend()} here; models are exported through TensorFlow"
        )

    def run(given: Any) -> list[Any]:
        answer = model(arranged(model, list(given)), training=False)
        return list(keras.tree.flatten(answer))

    return run


class _Answers:
    """Adds the nodes that make the answers of the signature from the raw outputs.

    Attributes:
        made: name of the answer to the graph's output.
    """

    def __init__(self, model: Any, outputs: list[str], head: Head, names: list[str]) -> None:
        self._graph = model.graph
        self.made: dict[str, str] = {}
        if head.form == "plain":
            self.made = dict(zip(names, outputs, strict=True))
            return
        raw = self._graph.output[0]
        element = raw.type.tensor_type.elem_type
        del self._graph.output[:]
        if head.form == "value":
            flat = self._node("Reshape", [raw.name, self._constant(np.asarray([-1], dtype=np.int64))])
            self._publish(
                PREDICTION, self._node("Cast", [flat], to=TensorProto.DOUBLE), TensorProto.DOUBLE, None
            )
            return
        scores, width = raw.name, 2
        if element != TensorProto.DOUBLE:
            scores, element = self._node("Cast", [scores], to=TensorProto.FLOAT), TensorProto.FLOAT
        if head.form == "positive":
            chances = self._both(scores, element, logits=head.logits)
            ranked = chances
        else:
            width = raw.type.tensor_type.shape.dim[1].dim_value
            chances = self._node("Softmax", [scores], axis=-1) if head.logits else scores
            ranked = scores
        index = self._node("ArgMax", [ranked], axis=1, keepdims=0)
        self._publish(PREDICTION, index, TensorProto.INT64, None)
        self._publish(PROBABILITIES, chances, element, width)

    def _both(self, scores: str, element: int, *, logits: bool) -> str:
        """The probabilities of both classes from the score of the second."""
        second = self._node("Reshape", [scores, self._constant(np.asarray([-1, 1], dtype=np.int64))])
        if logits:
            wide = self._node("Sigmoid", [self._node("Cast", [second], to=TensorProto.DOUBLE)])
            second = self._node("Cast", [wide], to=element)
        one = self._constant(np.asarray(1, dtype=helper.tensor_dtype_to_np_dtype(element)))
        return self._node("Concat", [self._node("Sub", [one, second]), second], axis=1)

    def _constant(self, array: Any) -> str:
        name = f"servable_constant_{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"servable_{operator.lower()}_{len(self._graph.node)}"
        self._graph.node.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def _publish(self, answer: str, tensor: str, element: int, width: int | None) -> None:
        public = f"servable_{answer}"
        self._graph.node.append(helper.make_node("Identity", [tensor], [public], name=public))
        shape = ["rows"] if width is None else ["rows", width]
        self._graph.output.append(helper.make_tensor_value_info(public, element, shape))
        self.made[answer] = public


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter speaks to its developers, on every way there is."""
    former = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(former)
