"""Forms of an ONNX graph with less precision: int8 with scales found at each run or beforehand, and float16.

All are made from one graph in single precision, see ``prepared``. They answer a little differently on
purpose; ``lossy`` says whether that is little enough.
"""

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from servable.artifact.manifest import Variant
from servable.frameworks.base import MIXES
from servable.frameworks.graph_predictor import graph_feed
from servable.frameworks.onnx_session import SESSION
from servable.frameworks.tokens import TEXT
from servable.optimization.forms import FOLDER, FP16, INT8_DYNAMIC, INT8_STATIC, Form
from servable.optimization.graph import Unconvertible
from servable.optimization.single import single, weight_count
from servable.tensors import Arrays, row_count, take

#: Graphs that multiply with fewer weights take as long to call as to compute; nothing is gained there.
FEWEST_WEIGHTS = 1_000
#: Tensors beyond this many bytes lie in a file beside the graph, which protobuf limits to 2 GiB.
LARGEST_IN_FILE = 1_500_000_000
#: What onnxruntime computes in int8 with scales found at each run.
_DYNAMIC = ("Attention", "Conv", "Gemm", "LSTM", "MatMul")
#: The same with scales found beforehand, and what may stay in int8 between convolutions.
_STATIC = ("Conv", "Gemm", "MatMul")
_BETWEEN = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Flatten",
    "GlobalAveragePool",
    "MaxPool",
    "Relu",
    "Reshape",
)
#: How a graph says that it computes in int8.
_IN_INT8 = frozenset({"ConvInteger", "DynamicQuantizeLSTM", "MatMulInteger", "QAttention", "QuantizeLinear"})
#: Rows of one run while calibrating, where the graph takes any number.
_CALIBRATED_AT_ONCE = 16


def prepared(package: Path, source: Variant, folder: Path) -> Path:
    """The graph that all lossy forms are made from: in single precision, constants folded, shapes inferred.

    Args:
        package: in which the source's files lie.
        source: a variant of format ``onnx``.
        folder: an empty one, for the graph.

    Raises:
        Unconvertible: the source has nothing to gain from less precision, or cannot be rewritten.
    """
    with _told("it cannot be prepared for less precision"):
        model = onnx.load(package / source.path)
        weights = weight_count(model)
        if weights < FEWEST_WEIGHTS:
            raise Unconvertible(
                f"its matrix products, convolutions and recurrent layers have {weights:,} weights, and below "
                f"{FEWEST_WEIGHTS:,} less precision gains nothing"
            )
        plain, path = folder / "single.onnx", folder / "prepared.onnx"
        _save(single(model), plain)
        large = _is_large(plain)
        try:
            # Symbolic shapes would need sympy, and the shapes that matter are known without it.
            quant_pre_process(plain, path, skip_symbolic_shape=True, save_as_external_data=large)
        except Exception:  # noqa: BLE001 - whatever it cannot fold or infer, the graph is as right without
            shutil.copyfile(plain, path)
        _save(_flat_biases(onnx.load(path)), path)
    return path


def forms(base: Path, package: Path, source: Variant, calibration: Arrays) -> tuple[Form, ...]:
    """The lossy forms to try, see ``forms.Form``.

    Args:
        base: what ``prepared`` gave.
        package: in which the source's files lie.
        source: from which the base was made; the forms are fed and read as it is.
        calibration: real rows, from which the ranges of int8 are found.
    """
    makes: dict[str, Callable[[Path, Path], None]] = {
        INT8_DYNAMIC: _dynamic,
        INT8_STATIC: partial(_static, package / source.path, source.options, calibration),
        FP16: _half,
    }
    return tuple(
        Form(name, partial(_make, name, make, base, package, source), lossy=True)
        for name, make in makes.items()
    )


def _make(
    name: str, make: Callable[[Path, Path], None], base: Path, package: Path, source: Variant, folder: Path
) -> Variant:
    """Make and write one form.

    Raises:
        Unconvertible: onnxruntime cannot make it.
    """
    path = f"{FOLDER}/{name}.onnx"
    with _told("onnxruntime cannot make it"):
        make(base, folder / path)
    options = {key: value for key, value in source.options.items() if key != SESSION}
    if TEXT in options:
        # The tokenizer's file stands beside the graph, under a name of this form's own.
        told = options[TEXT]
        beside = (package / source.path).with_name(told["file"])
        file = f"{name}.tokenizer.json"
        shutil.copyfile(beside, folder / FOLDER / file)
        options[TEXT] = {**told, "file": file}
    if name == INT8_DYNAMIC:
        # A scale that is found at each run is that of all its rows.
        options[MIXES] = True
    return Variant(name=name, format="onnx", path=path, options=options)


def _dynamic(base: Path, path: Path) -> None:
    """Weights in int8, one scale for each output channel; values in int8 with a scale found at each run."""
    quantize_dynamic(
        base,
        path,
        op_types_to_quantize=list(_DYNAMIC),
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=_is_large(base),
    )
    _computes_in_int8(path)


def _static(source: Path, options: Mapping[str, Any], calibration: Arrays, base: Path, path: Path) -> None:
    """Weights and values in int8, with ranges that were seen on real rows.

    Weights have seven bits: with eight, processors without VNNI overflow, and a form that was measured on
    one machine must answer the same on another.
    """
    model = onnx.load(base, load_external_data=False)
    convolves = any(node.op_type == "Conv" for node in model.graph.node)
    quantize_static(
        base,
        path,
        _Rows(source, options, calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*_STATIC, *(_BETWEEN if convolves else ())],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        use_external_data_format=_is_large(base),
        extra_options={"MatMulConstBOnly": True},
    )
    _computes_in_int8(path)


def _half(base: Path, path: Path) -> None:
    """Everything in float16 but inputs and outputs, and what has no such form."""
    model = convert_float_to_float16(onnx.load(base), keep_io_types=True)
    _save(model, path)


def _computes_in_int8(path: Path) -> None:
    """Make sure that something was quantised.

    Raises:
        Unconvertible: nothing was.
    """
    graph = onnx.load(path, load_external_data=False).graph
    kinds = {node.op_type for node in graph.node}
    if not kinds & _IN_INT8:
        weighted = sorted(kinds & {"GRU", "RNN", "ConvTranspose"})
        said = f", {', '.join(weighted)} among them" if weighted else ""
        raise Unconvertible(f"onnxruntime computes none of its operators in int8{said}")


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Calibration rows, a few at a time, as the graph's inputs."""

    def __init__(self, source: Path, options: Mapping[str, Any], rows: Arrays) -> None:
        batch = int(options.get("batch", 0))
        step = batch or _CALIBRATED_AT_ONCE
        # A graph of a fixed number of rows takes whole batches only.
        last = row_count(rows) - (row_count(rows) % batch if batch else 0)
        self._parts: Iterator[dict[str, NDArray[Any]]] = (
            graph_feed(source.parent, options, take(rows, slice(start, min(start + step, last))))
            for start in range(0, last, step)
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next rows; None when there are no more."""
        return next(self._parts, None)


def _flat_biases(model: Any) -> Any:
    """The model with biases ``[1, n]`` of products as ``[n]``, which is the same to them.

    The quantiser of onnxruntime takes a bias with two axes for one number for each of them, and fails.
    """
    biases = {node.input[2] for node in model.graph.node if node.op_type == "Gemm" and len(node.input) > 2}
    others = {
        name
        for node in model.graph.node
        for place, name in enumerate(node.input)
        if node.op_type != "Gemm" or place != 2
    }
    for tensor in model.graph.initializer:
        if tensor.name in biases - others and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            del tensor.dims[0]
    return model


def _is_large(path: Path) -> bool:
    """Whether a graph is too large for one file."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) > LARGEST_IN_FILE


def _save(model: Any, path: Path) -> None:
    """Write a graph, its tensors in a file beside it where they are too large for one."""
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGEST_IN_FILE
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Foreign failures as ``Unconvertible``, those of the storage as they are; nothing is printed."""
    former = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except (Unconvertible, OSError):
        raise
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        told = " ".join(str(foreign).split())[:200].rstrip(".")
        raise Unconvertible(f"{what} ({type(foreign).__name__}: {told})") from foreign
    finally:
        logging.disable(former)
