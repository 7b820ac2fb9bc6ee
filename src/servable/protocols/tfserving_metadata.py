"""What TensorFlow Serving tells about a model, in the shape of its REST interface. Pure."""

from typing import Any, Literal

from servable.artifact.signature import Signature
from servable.protocols.base import CodecLimits
from servable.protocols.face import Face, Tensor
from servable.protocols.tfserving import CHANCES, DEFAULT
from servable.tensors import PROBABILITIES

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
_METHOD = "tensorflow/serving/predict"
#: The dtypes of TensorFlow by those of the Open Inference Protocol.
_DTYPES = {
    "BOOL": "DT_BOOL",
    "UINT8": "DT_UINT8",
    "UINT16": "DT_UINT16",
    "UINT32": "DT_UINT32",
    "UINT64": "DT_UINT64",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "FP16": "DT_HALF",
    "BF16": "DT_BFLOAT16",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}


def version_status(version: int, state: State, message: str = "") -> dict[str, Any]:
    """One entry of ``model_version_status``.

    Args:
        version: which one.
        state: what became of it.
        message: why it is not available; empty when nothing is wrong.
    """
    error = "UNKNOWN" if message else "OK"
    return {
        "version": str(version),
        "state": state,
        "status": {"error_code": error, "error_message": message},
    }


def metadata(model: str, version: int, signature: Signature) -> dict[str, Any]:
    """The answer to ``GET /v1/models/NAME/metadata``, with a signature for each that ``:predict`` takes."""
    face = Face(signature, CodecLimits())
    chances = [tensor for tensor in face.outputs if signature.classes and tensor.name == PROBABILITIES]
    others = [tensor for tensor in face.outputs if tensor not in chances]
    signatures = {DEFAULT: _signature(face.inputs, others)}
    if chances:
        signatures[CHANCES] = _signature(face.inputs, chances)
    return {
        "model_spec": {"name": model, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _signature(inputs: tuple[Tensor, ...], outputs: list[Tensor]) -> dict[str, Any]:
    return {
        "inputs": {tensor.name: _tensor(tensor) for tensor in inputs},
        "outputs": {tensor.name: _tensor(tensor) for tensor in outputs},
        "method_name": _METHOD,
        "defaults": {},
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in tensor.shape]
    return {
        "dtype": _DTYPES[tensor.datatype],
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": f"{tensor.name}:0",
    }
