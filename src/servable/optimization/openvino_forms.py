"""The forms of compiled networks that OpenVINO computes: in single precision, and in bfloat16."""

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from servable.artifact.files import storage_errors
from servable.artifact.manifest import Variant
from servable.frameworks.base import MADE_FROM
from servable.frameworks.onnx_session import SESSION
from servable.frameworks.tokens import TEXT
from servable.optimization.forms import FOLDER, Form
from servable.optimization.graph import Unconvertible

if TYPE_CHECKING:
    import openvino as ov

FORMAT = "openvino"
EXACT, ROUNDED = "openvino-fp32", "openvino-bf16"
#: What a graph is a network by: one of these, or two products of matrices. A linear model, which has one, is
#: computed sooner than OpenVINO is called.
_LAYERS = frozenset({"Convolution", "GroupConvolution", "LSTMSequence", "GRUSequence", "RNNSequence"})
_PRODUCT, _FEWEST_PRODUCTS = "MatMul", 2
#: How OpenVINO names operators of trees and of text, which it has not.
_OTHERS = "ai.onnx.ml"


def derived(variant: Variant, folder: Path) -> tuple[Form, ...]:
    """The forms to try; none where OpenVINO is not installed, or where the variant is no network.

    Args:
        variant: of format ``onnx``.
        folder: the package in which its file lies.
    """
    try:
        import openvino as ov
    except ModuleNotFoundError:
        return ()
    core = ov.Core()
    try:
        model = core.read_model(str(folder / variant.path))
    except RuntimeError as foreign:
        if _OTHERS in str(foreign):
            return ()
        return (Form(EXACT, partial(_unread, str(foreign))),)
    if not is_network([operation.get_type_name() for operation in model.get_ops()]):
        return ()
    exact = Form(EXACT, partial(_make, EXACT, "f32", model, variant, folder))
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return (exact,)
    return (exact, Form(ROUNDED, partial(_make, ROUNDED, "bf16", model, variant, folder), lossy=True))


def is_network(operations: list[str]) -> bool:
    """Whether a graph is one that OpenVINO may be faster at; pure.

    Args:
        operations: the type of each, as OpenVINO names it.
    """
    return not _LAYERS.isdisjoint(operations) or operations.count(_PRODUCT) >= _FEWEST_PRODUCTS


def _make(
    name: str, precision: str, model: "ov.Model", variant: Variant, package: Path, folder: Path
) -> Variant:
    """Write the graph, its weights and its tokenizer, each once, into a folder of the form.

    Raises:
        Unconvertible: OpenVINO cannot write the graph.
    """
    import openvino as ov

    from servable.frameworks.openvino import GRAPH_FILE, PRECISION

    path = f"{FOLDER}/{name}"
    with storage_errors("writing a compiled form"):
        (folder / path).mkdir()
        try:
            # Half precision is the default of this function, and would round the weights.
            ov.save_model(model, str(folder / path / GRAPH_FILE), compress_to_fp16=False)
        except RuntimeError as foreign:
            raise Unconvertible(f"OpenVINO cannot write it ({_first_line(str(foreign))})") from foreign
        if TEXT in variant.options:
            file = str(variant.options[TEXT]["file"])
            shutil.copyfile((package / variant.path).parent / file, folder / path / file)
    kept = {key: value for key, value in variant.options.items() if key != SESSION}
    options = {**kept, PRECISION: precision, MADE_FROM: variant.name}
    return Variant(name=name, format=FORMAT, path=path, options=options)


def _unread(told: str, folder: Path) -> Variant:
    """Say why it cannot be made.

    Raises:
        Unconvertible: always.
    """
    raise Unconvertible(f"OpenVINO cannot read the graph ({_first_line(told)})")


def _first_line(told: str) -> str:
    """The first thing that OpenVINO says after the places in its own source, on one line."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (said or lines or ["no reason given"])[0].rstrip(".:")[:160]
