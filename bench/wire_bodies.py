"""The same rows as the body of a request in every wire format, and what makes its codec."""

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from servable.artifact.signature import Signature
from servable.protocols import tfserving_messages
from servable.protocols.answer_forms import ARROW, CSV, LINES, MSGPACK, PARQUET, Formed
from servable.protocols.base import NO_HEAD, Codec, CodecLimits, Head, Maker
from servable.protocols.codecs import JSON, NPY, RAW, Reads, native_codecs
from servable.protocols.oip_binary import LENGTH, SIZE
from servable.protocols.oip_grpc import OipGrpcCodec
from servable.protocols.oip_json import OipCodec
from servable.protocols.oip_messages import messages
from servable.protocols.openai import EmbeddingsCodec
from servable.protocols.sagemaker import JSON_LINES, InvocationsCodec
from servable.protocols.tfserving import PredictCodec
from servable.protocols.tfserving_grpc import PredictGrpcCodec
from servable.protocols.torchserve import TorchServeCodec

#: A body and its headers.
Made = tuple[bytes, Head]
Rows = Any
#: Rows for a signature as the body of a request.
Body = Callable[[Signature, Rows], Made]
#: What rows are made of: numbers by column, one tensor each, or one text each.
TABLE, TENSOR, TEXT = "table", "tensor", "text"
_NUMBERS = frozenset({TABLE, TENSOR})
_DATATYPES = {"float64": "FP64", "float32": "FP32"}
#: The numbers of TensorFlow's dtypes.
_TENSORFLOW = {"float64": 2, "float32": 1}


class Format(NamedTuple):
    """One wire format.

    Attributes:
        name: as the report calls it.
        maker: makes its codec.
        body: rows for a signature as the body of a request, and its headers.
        carries: what the rows may be.
        bare: whether a classifier's answer is the labels alone, without probabilities.
    """

    name: str
    maker: Maker
    body: Body
    carries: frozenset[str] = _NUMBERS
    bare: bool = False


# ---------------------------------------------------------------------- the native forms


def _native(media_type: str, *, formed: bool = False) -> Maker:
    """The codec of a content type; ``formed`` when the answer is asked for in another form than JSON."""

    def make(signature: Signature, limits: CodecLimits) -> Codec:
        ready = native_codecs(signature, max_rows=limits.max_rows, max_depth=limits.max_depth)
        reader = ready.get(media_type) or Reads(media_type)(signature, limits)
        return Formed(reader, lines=media_type == LINES)(signature, limits) if formed else reader

    return make


def _accepting(media_type: str, body: Body) -> Body:
    """The body, with the wish for an answer in the same form."""

    def make(signature: Signature, rows: Rows) -> Made:
        made, head = body(signature, rows)
        return made, {**head, b"accept": media_type.encode()}

    return make


def _json(_signature: Signature, rows: Rows) -> Made:
    return json.dumps({"inputs": rows.tolist()}).encode(), NO_HEAD


def _raw(_signature: Signature, rows: Rows) -> Made:
    return rows.tobytes(), NO_HEAD


def _npy(_signature: Signature, rows: Rows) -> Made:
    stream = io.BytesIO()
    np.save(stream, rows)
    return stream.getvalue(), NO_HEAD


def _lines(_signature: Signature, rows: Rows) -> Made:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows.tolist()), NO_HEAD


def _msgpack(_signature: Signature, rows: Rows) -> Made:
    return msgspec.msgpack.encode({"inputs": rows.tolist()}), NO_HEAD


def _csv(signature: Signature, rows: Rows) -> Made:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([field.name for field in signature.inputs])
    writer.writerows(rows.tolist())
    return stream.getvalue().encode(), NO_HEAD


def _table(signature: Signature, rows: Rows) -> pa.Table:
    """The columns of Arrow; each axis of a tensor is a list of fixed size."""
    if signature.inputs[0].kind != TENSOR:
        return pa.table({field.name: rows[:, place] for place, field in enumerate(signature.inputs)})
    column = pa.array(rows.ravel())
    for size in reversed(rows.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return pa.table({signature.inputs[0].name: column})


def _arrow(signature: Signature, rows: Rows) -> Made:
    sink = io.BytesIO()
    table = _table(signature, rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue(), NO_HEAD


def _parquet(signature: Signature, rows: Rows) -> Made:
    sink = io.BytesIO()
    parquet.write_table(_table(signature, rows), sink)
    return sink.getvalue(), NO_HEAD


# ---------------------------------------------------------------------- the Open Inference Protocol


def _tensor(signature: Signature, rows: Rows) -> dict[str, Any]:
    """The one input that all rows are, as clients describe it."""
    first = signature.inputs[0]
    name = first.name if first.kind == TENSOR else "input"
    return {"name": name, "shape": list(rows.shape), "datatype": _DATATYPES[rows.dtype.name]}


def _oip_json(signature: Signature, rows: Rows) -> Made:
    given = {**_tensor(signature, rows), "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [given]}).encode(), NO_HEAD


def _oip_binary(signature: Signature, rows: Rows) -> Made:
    given = {**_tensor(signature, rows), "parameters": {SIZE: rows.nbytes}}
    text = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    return text + rows.tobytes(), {LENGTH: str(len(text)).encode()}


def _oip_grpc(signature: Signature, rows: Rows) -> Made:
    message = messages()["inference.ModelInferRequest"](model_name="iris")
    message.inputs.add(**_tensor(signature, rows))
    message.raw_input_contents.append(rows.tobytes())
    return bytes(message.SerializeToString()), NO_HEAD


# ---------------------------------------------------------------------- other servers


def _instances(_signature: Signature, rows: Rows) -> Made:
    return json.dumps({"instances": rows.tolist()}).encode(), NO_HEAD


def _columns(signature: Signature, rows: Rows) -> Made:
    if signature.inputs[0].kind == TENSOR:
        named = {signature.inputs[0].name: rows.tolist()}
    else:
        named = {field.name: rows[:, index].tolist() for index, field in enumerate(signature.inputs)}
    return json.dumps({"inputs": named}).encode(), NO_HEAD


def _predict_grpc(signature: Signature, rows: Rows) -> Made:
    given = _tensor(signature, rows)
    message = tfserving_messages.messages()[f"{tfserving_messages.PACKAGE}.PredictRequest"]()
    tensor = message.inputs[given["name"]]
    tensor.dtype = _TENSORFLOW[rows.dtype.name]
    for size in rows.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = rows.tobytes()
    return bytes(message.SerializeToString()), NO_HEAD


def _bare(_signature: Signature, rows: Rows) -> Made:
    return json.dumps(rows.tolist()).encode(), NO_HEAD


def _cells(signature: Signature, rows: Rows) -> list[list[Any]]:
    """The cells of a data frame, in which a tensor stands in one."""
    values: list[Any] = rows.tolist()
    return [[value] for value in values] if signature.inputs[0].kind == TENSOR else values


def _split(signature: Signature, rows: Rows) -> Made:
    frame = {"columns": [field.name for field in signature.inputs], "data": _cells(signature, rows)}
    return json.dumps({"dataframe_split": frame}).encode(), NO_HEAD


def _records(signature: Signature, rows: Rows) -> Made:
    names = [field.name for field in signature.inputs]
    records = [dict(zip(names, cells, strict=True)) for cells in _cells(signature, rows)]
    return json.dumps({"dataframe_records": records}).encode(), NO_HEAD


def _invocation(media_type: str, body: Body) -> Body:
    """A body of a SageMaker container, whose answer is wanted in the same form."""
    kind = media_type.encode()

    def make(signature: Signature, rows: Rows) -> Made:
        return body(signature, rows)[0], {b"content-type": kind, b"accept": kind}

    return make


def _headless(_signature: Signature, rows: Rows) -> Made:
    """CSV as SageMaker's algorithms take it: no names, a row a line, whatever its axes."""
    stream = io.StringIO()
    csv.writer(stream).writerows(rows.reshape(len(rows), -1).tolist())
    return stream.getvalue().encode(), NO_HEAD


def _embeddings(_signature: Signature, rows: Rows, *, form: str) -> Made:
    content = {"model": "embedder", "input": rows.ravel().tolist(), "encoding_format": form}
    return json.dumps(content).encode(), NO_HEAD


_ONLY_TABLE, _ONLY_TEXT = frozenset({TABLE}), frozenset({TEXT})

FORMATS = (
    Format("native JSON", _native(JSON), _json, _NUMBERS | {TEXT}),
    Format("native JSON lines", _native(LINES, formed=True), _accepting(LINES, _lines)),
    Format("native MessagePack", _native(MSGPACK, formed=True), _accepting(MSGPACK, _msgpack)),
    Format("native CSV", _native(CSV, formed=True), _accepting(CSV, _csv), _ONLY_TABLE),
    Format("native Arrow", _native(ARROW, formed=True), _accepting(ARROW, _arrow)),
    Format("native Parquet", _native(PARQUET, formed=True), _accepting(PARQUET, _parquet)),
    Format("native npy", _native(NPY, formed=True), _accepting(NPY, _npy), bare=True),
    Format("native bytes, answered with JSON", _native(RAW), _raw),
    Format("OIP JSON", OipCodec, _oip_json),
    Format("OIP binary", OipCodec, _oip_binary),
    Format("OIP gRPC", OipGrpcCodec, _oip_grpc),
    Format("TF Serving rows, KServe V1, Vertex AI", PredictCodec, _instances, bare=True),
    Format("TF Serving columns", PredictCodec, _columns, bare=True),
    Format("TF Serving gRPC", PredictGrpcCodec, _predict_grpc, bare=True),
    Format("TorchServe", TorchServeCodec, _bare, bare=True),
    Format("MLflow split", InvocationsCodec, _split, bare=True),
    Format("MLflow records", InvocationsCodec, _records, bare=True),
    Format("SageMaker CSV", InvocationsCodec, _invocation("text/csv", _headless), bare=True),
    Format("SageMaker JSON lines", InvocationsCodec, _invocation(JSON_LINES, _lines), bare=True),
    Format("SageMaker npy", InvocationsCodec, _invocation(NPY, _npy), bare=True),
    Format("OpenAI, lists", EmbeddingsCodec, partial(_embeddings, form="float"), _ONLY_TEXT),
    Format("OpenAI, base64", EmbeddingsCodec, partial(_embeddings, form="base64"), _ONLY_TEXT),
)
