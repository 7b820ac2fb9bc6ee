"""A fitted scikit-learn model or pipeline to one ONNX graph over the packed inputs."""

from typing import Any

from onnx import TensorProto

from servable.artifact.signature import Signature, is_table
from servable.frameworks.base import Trained
from servable.optimization.columns import Source, View
from servable.optimization.graph import Graph, Unconvertible
from servable.optimization.models import compile_model
from servable.optimization.steps import as_matrix, compile_step
from servable.optimization.targets import Answer, Target
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS


def convert(trained: Trained, *, single: bool = False) -> bytes:
    """Compile a trained model.

    Inputs of the graph are ``numbers`` double and ``strings``, those that the signature has; outputs are
    ``prediction`` (int64 index or double, ``[rows]``) and, where the signature says so, ``probabilities``.

    Args:
        trained: a scikit-learn model or pipeline with its signature; ``options["style"]`` says how its
            frame looks.
        single: compute the model in float32; the preparation stays in double.

    Returns:
        The serialised model.

    Raises:
        Unconvertible: a part has no compiled form; the text names it.
    """
    signature = trained.signature
    if not is_table(signature.inputs):
        raise Unconvertible("the model takes whole tensors")
    graph = Graph()
    source = Source(graph, signature)
    value: Any = View(source, signature.inputs, str(trained.options.get("style", "canonical")))
    *steps, model = steps_of(trained.model)
    for step in steps:
        value = compile_step(graph, step, value)
    answer = compile_model(Target(graph, single), model, as_matrix(graph, value))
    return finished(graph, signature, answer, type(model).__name__)


def finished(graph: Graph, signature: Signature, answer: Answer, name: str) -> bytes:
    """The serialised graph, once its outputs are known to be those that the signature promises.

    Raises:
        Unconvertible: they are not; the text begins with the name.
    """
    integer = signature.task in ("classification", "clustering")
    if integer != answer.is_index:
        raise Unconvertible(f"{name} does not answer like a {signature.task}")
    element = TensorProto.INT64 if integer else TensorProto.DOUBLE
    outputs: dict[str, tuple[str, int, int | None]] = {PREDICTION: (answer.prediction, element, None)}
    if signature.probabilities:
        if answer.probabilities is None:
            raise Unconvertible(f"{name} gives no probabilities when compiled")
        outputs[PROBABILITIES] = (answer.probabilities, answer.element, len(signature.classes))
    return graph.model(outputs)


def steps_of(model: Any) -> list[Any]:
    """The steps of a pipeline, nested ones laid flat, the model last."""
    if type(model).__name__ == "Pipeline":
        return [*(step for _, step in model.steps[:-1]), *steps_of(model.steps[-1][1])]
    return [model]


def feeds(signature: Signature) -> dict[str, Any]:
    """The variant's options that go with ``convert``."""
    arrays = [array for array in (NUMBERS, STRINGS) if signature.packed(array)]
    kinds = {NUMBERS: "float64", STRINGS: "str"}
    outputs = [PREDICTION, PROBABILITIES] if signature.probabilities else [PREDICTION]
    return {
        "feeds": [{"input": array, "source": array, "dtype": kinds[array]} for array in arrays],
        "outputs": {name: {"output": name, "form": "plain"} for name in outputs},
    }
