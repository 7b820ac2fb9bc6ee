"""What a foreign ONNX model says about its inputs and outputs, completed by sample rows.

Three habits of exporters are known: one matrix of numbers, one ``[rows, 1]`` tensor for each column, and
anything else, which is taken as named tensors with rows on the first axis.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnxruntime as ort

from servable.artifact.signature import Field, Kind, Signature, Task
from servable.errors import ArtifactUnsupported, DataError
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS

_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
}
_MAPS = ("seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))")
_LABELS = ("int64", "int32", "str", "bool")

Options = dict[str, Any]


class _Port(NamedTuple):
    """An input or output of the session: dtype is a numpy name, ``str``, ``map`` for a ZipMap."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def derive(session: ort.InferenceSession, path: Path, sample: Any | None) -> tuple[Signature, Options]:
    """The signature of a model and how to feed it.

    Args:
        session: the loaded model; it is run once on made-up rows to learn its classes.
        path: its file, read again for class labels that only the graph names.
        sample: a ``pandas.DataFrame`` of rows that it accepts, or None.

    Raises:
        ArtifactUnsupported: an input or output has a form that cannot be fed.
        DataError: the sample lacks columns, or has another number of them.
    """
    inputs = [_port(entry, "input") for entry in session.get_inputs()]
    outputs = [_port(entry, "output") for entry in session.get_outputs()]
    if all(len(port.shape) == 1 and port.shape[0] in (1, -1) for port in inputs) and len(inputs) > 1:
        fields, feeds = _columns(inputs, sample)
    elif len(inputs) == 1 and sample is not None and _is_matrix(inputs[0], sample):
        fields, feeds = _named_matrix(inputs[0], sample)
    else:
        fields, feeds = _tensors(inputs)
    task, answers, spec, probabilities = _answers(session, path, inputs, outputs)
    signature = Signature(
        task=task,
        inputs=fields,
        outputs=answers,
        probabilities=probabilities,
        example={field.name: field.example for field in fields if field.example is not None},
    )
    return signature, {"feeds": feeds, "outputs": spec}


def raw_outputs(session: ort.InferenceSession) -> list[Field]:
    """What the session gives, without the row axis; maps are left out."""
    ports = [_port(entry, "output") for entry in session.get_outputs()]
    return [
        Field(name=port.name, kind="tensor", dtype=port.dtype, shape=port.shape)
        for port in ports
        if port.dtype != "map"
    ]


def _port(entry: Any, what: str) -> _Port:
    """What the session says of an input or output, the row axis taken off.

    Raises:
        ArtifactUnsupported: a type that is not known here.
    """
    if entry.type in _MAPS:
        return _Port(entry.name, "map", ())
    dtype = _TYPES.get(entry.type)
    if dtype is None:
        raise ArtifactUnsupported(
            f"The {what} {entry.name!r} has the type {entry.type}, which is not served; "
            "export the model with plain tensors."
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in entry.shape or [])
    return _Port(entry.name, dtype, shape[1:])


def _columns(inputs: Sequence[_Port], sample: Any | None) -> tuple[tuple[Field, ...], list[Options]]:
    """One ``[rows, 1]`` input for each column: a table."""
    fields, feeds = [], []
    counts = {NUMBERS: 0, STRINGS: 0}
    for port in inputs:
        field = _column_field(port, sample)
        feed = {
            "input": port.name,
            "source": field.array,
            "dtype": port.dtype,
            "columns": [counts[field.array]],
        }
        feeds.append({**feed, "shape": [-1, 1]})
        counts[field.array] += 1
        fields.append(field)
    return tuple(fields), feeds


def _column_field(port: _Port, sample: Any | None) -> Field:
    """A column from its input, and from its sample column if there is one.

    Raises:
        DataError: the sample has no such column.
    """
    text = port.dtype == "str"
    dtype = "str" if text else "bool" if port.dtype == "bool" else "float64"
    dtype = "int64" if port.dtype.startswith(("int", "uint")) else dtype
    missing = port.dtype.startswith("float")
    if sample is None:
        example: Any = "" if text else False if dtype == "bool" else 0
        kind: Kind = "category" if text else "boolean" if dtype == "bool" else "number"
        return Field(name=port.name, kind=kind, dtype=dtype, missing=missing or text, example=example)
    if port.name not in sample.columns:
        raise DataError(f"The sample has no column {port.name!r}, which the model takes.")
    present = sample[port.name].dropna()
    first = present.iloc[0] if len(present) else None
    first = first.item() if isinstance(first, np.generic) else first
    if text:
        shown = str(first) if len(present) else ""
        return Field(name=port.name, kind="category", dtype="str", missing=True, example=shown)
    return Field(
        name=port.name,
        kind="boolean" if dtype == "bool" else "number",
        dtype=dtype,
        missing=missing,
        minimum=float(present.min()) if len(present) else None,
        maximum=float(present.max()) if len(present) else None,
        example=first,
    )


def _is_matrix(port: _Port, sample: Any) -> bool:
    """Whether a single input takes the sample's columns as one matrix of numbers.

    Raises:
        DataError: it is a matrix, of another width.
    """
    if len(port.shape) != 1 or port.dtype in ("str", "bool"):
        return False
    if port.shape[0] not in (-1, sample.shape[1]):
        raise DataError(
            f"The model takes {port.shape[0]} numbers a row, the sample has {sample.shape[1]} columns."
        )
    return True


def _named_matrix(port: _Port, sample: Any) -> tuple[tuple[Field, ...], list[Options]]:
    """One matrix whose columns the sample names: a table of numbers."""
    missing = port.dtype.startswith("float")
    fields = tuple(
        _column_field(_Port(str(name), "float64" if missing else "int64", (1,)), sample)
        for name in sample.columns
    )
    return fields, [{"input": port.name, "source": NUMBERS, "dtype": port.dtype}]


def _tensors(inputs: Sequence[_Port]) -> tuple[tuple[Field, ...], list[Options]]:
    """Every input as a tensor under its own name.

    Raises:
        ArtifactUnsupported: an input is no plain tensor.
    """
    fields, feeds = [], []
    for port in inputs:
        if port.dtype == "map":
            raise ArtifactUnsupported(f"The input {port.name!r} is a map; export the model with tensors.")
        filled = tuple(1 if size < 0 else size for size in port.shape)
        small = int(np.prod(filled)) <= 64
        example = _made_up(port, 1).tolist()[0] if small else None
        field = Field(name=port.name, kind="tensor", dtype=port.dtype, shape=port.shape, example=example)
        fields.append(field)
        feeds.append({"input": port.name, "source": port.name, "dtype": "asis"})
    return tuple(fields), feeds


def _made_up(port: _Port, rows: int) -> Any:
    """Zeros, or empty texts, of the input's form."""
    shape = (rows, *(1 if size < 0 else size for size in port.shape))
    return np.full(shape, "", dtype=object) if port.dtype == "str" else np.zeros(shape, dtype=port.dtype)


def _answers(
    session: ort.InferenceSession, path: Path, inputs: Sequence[_Port], outputs: Sequence[_Port]
) -> tuple[Task, tuple[Field, ...], Options, bool]:
    """Task, output fields, how to read the raw outputs, and whether there are probabilities."""
    flat = [port for port in outputs if port.shape in ((), (1,), (-1,))]
    label = next((port for port in flat if port.dtype in _LABELS), None)
    scores = [port for port in outputs if port is not label]
    if label is not None and len(outputs) == 2:
        found = _classes(session, path, inputs, (label, scores[0]))
        if found is not None:
            return found
    if len(outputs) == 1 and outputs[0].dtype.startswith("float") and outputs[0].shape in ((), (1,)):
        spec = {PREDICTION: {"output": outputs[0].name, "form": "flat"}}
        return "regression", (Field(name="prediction", kind="number", dtype="float64"),), spec, False
    plain = [port for port in outputs if port.dtype != "map"]
    fields = tuple(Field(name=port.name, kind="tensor", dtype=port.dtype, shape=port.shape) for port in plain)
    if not fields:
        raise ArtifactUnsupported("The model gives only maps; export it without ZipMap.")
    spec = {port.name: {"output": port.name, "form": "plain"} for port in plain}
    return "transform", fields, spec, False


def _classes(
    session: ort.InferenceSession, path: Path, inputs: Sequence[_Port], ports: tuple[_Port, _Port]
) -> tuple[Task, tuple[Field, ...], Options, bool] | None:
    """A classifier with a label and probabilities; None when a trial run says otherwise.

    The labels come from the ZipMap's keys. Without one they are taken from the metadata entry ``classes``
    (a JSON list), then from the classifier node of the graph where the library ``onnx`` is installed, and
    else are the numbers from 0 when the label is a number.
    """
    label, scores = ports
    feed = {port.name: _made_up(port, 1) for port in inputs}
    try:
        first, raw = session.run([label.name, scores.name], feed)
    except Exception:  # noqa: BLE001 - made-up rows may not suit the model, in whatever way it says so
        return None
    read: Options = {"output": scores.name}
    if scores.dtype == "map":
        classes: list[Any] = list(raw[0])
        read |= {"form": "zipmap", "classes": classes}
    else:
        width = int(np.asarray(raw).reshape(1, -1).shape[1])
        named = _named_classes(session, width) or _graph_classes(path, width)
        if named is None and label.dtype == "str":
            return None
        classes = list(range(width)) if named is None else named
        read["form"] = "plain"
    if np.ravel(first)[0] not in classes:
        return None
    kind = "str" if isinstance(classes[0], str) else "int64"
    answer = Field(name="prediction", kind="category", dtype=kind, values=tuple(classes))
    spec = {
        PREDICTION: {"output": label.name, "form": "label", "classes": classes},
        PROBABILITIES: read,
    }
    return "classification", (answer,), spec, True


def _named_classes(session: ort.InferenceSession, width: int) -> list[Any] | None:
    """The class labels in the model's metadata, if there are as many as scores."""
    text = session.get_modelmeta().custom_metadata_map.get("classes", "")
    try:
        named = msgspec.json.decode(text.encode(), type=list[str | int])
    except msgspec.MsgspecError:
        return None
    return list(named) if len(named) == width else None


def _graph_classes(path: Path, width: int) -> list[Any] | None:
    """The labels that a classifier node holds, if there are as many as scores."""
    try:
        # A server of compiled models has no onnx; taking a model in happens where it is installed.
        import onnx
    except ModuleNotFoundError:
        return None
    for node in onnx.load(path, load_external_data=False).graph.node:
        for attribute in node.attribute:
            if attribute.name == "classlabels_strings" and len(attribute.strings) == width:
                return [label.decode() for label in attribute.strings]
            if attribute.name in ("classlabels_int64s", "classlabels_ints") and len(attribute.ints) == width:
                return list(attribute.ints)
    return None
