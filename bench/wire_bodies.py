"""The same rows as the body of a request in every wire format, and what makes its codec."""

import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.signature import Signature
from servable.protocols.base import NO_HEAD, Codec, CodecLimits, Head, Maker
from servable.protocols.codecs import JSON, NPY, RAW, native_codecs
from servable.protocols.tfserving import PredictCodec
from servable.protocols.torchserve import TorchServeCodec

#: A body and its headers; None where the format has no place for such rows.
Made = tuple[bytes, Head] | None


class Format(NamedTuple):
    """One wire format: its name, its codec, and rows as the body of a request."""

    name: str
    maker: Maker
    body: Callable[[Signature, "np.ndarray[Any, Any]"], Made]


def _native(media_type: str) -> Maker:
    def make(signature: Signature, limits: CodecLimits) -> Codec:
        return native_codecs(signature, max_rows=limits.max_rows, max_depth=limits.max_depth)[media_type]

    return make


def _json(_signature: Signature, rows: Any) -> Made:
    return json.dumps({"inputs": rows.tolist()}).encode(), NO_HEAD


def _raw(_signature: Signature, rows: Any) -> Made:
    return rows.tobytes(), NO_HEAD


def _npy(_signature: Signature, rows: Any) -> Made:
    stream = io.BytesIO()
    np.save(stream, rows)
    return stream.getvalue(), NO_HEAD


def _instances(_signature: Signature, rows: Any) -> Made:
    return json.dumps({"instances": rows.tolist()}).encode(), NO_HEAD


def _columns(signature: Signature, rows: Any) -> Made:
    if signature.inputs[0].kind == "tensor":
        named = {signature.inputs[0].name: rows.tolist()}
    else:
        named = {field.name: rows[:, index].tolist() for index, field in enumerate(signature.inputs)}
    return json.dumps({"inputs": named}).encode(), NO_HEAD


def _bare(_signature: Signature, rows: Any) -> Made:
    return json.dumps(rows.tolist()).encode(), NO_HEAD


FORMATS = (
    Format("native JSON", _native(JSON), _json),
    Format("native bytes", _native(RAW), _raw),
    Format("native npy", _native(NPY), _npy),
    Format("TF Serving rows, KServe V1, Vertex AI", PredictCodec, _instances),
    Format("TF Serving columns", PredictCodec, _columns),
    Format("TorchServe", TorchServeCodec, _bare),
)
