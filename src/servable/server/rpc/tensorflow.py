"""TensorFlow Serving's services: how predictions are asked for, and the methods that are none."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]

from servable.protocols.base import Maker
from servable.protocols.tfserving_grpc import PredictGrpcCodec, model_of, parts_of
from servable.protocols.tfserving_inference import (
    ClassifyGrpcCodec,
    MultiInferenceGrpcCodec,
    RegressGrpcCodec,
    task_model_of,
)
from servable.protocols.tfserving_messages import MODEL_SERVICE, PACKAGE, PREDICTION_SERVICE, messages
from servable.protocols.tfserving_metadata import metadata
from servable.security.callers import Caller
from servable.server.desk import Desk
from servable.server.formats.base import reference_of
from servable.server.formats.kserve_v1 import version_statuses
from servable.server.rpc.control import Method, method_of
from servable.server.rpc.inference import Spoken
from servable.tensors import Body

_SIGNATURES = "signature_def"


def _unknown(_message: Body) -> bytes:
    """How a message begins says nothing here: what follows its model is another one's first tensor."""
    return b""


def _spoken(maker: Maker, model: Callable[[Body], Mapping[str, str]]) -> Spoken:
    return Spoken(maker, lambda message: reference_of(model(message)), _unknown)


def _of_kind(name: str) -> Callable[[Body], Mapping[str, str]]:
    return lambda message: model_of(message, name)


#: How predictions are asked for, by address.
SPOKEN = {
    f"/{PACKAGE}.{PREDICTION_SERVICE}/{name}": spoken
    for name, spoken in {
        "Predict": _spoken(PredictGrpcCodec, model_of),
        "Classify": _spoken(ClassifyGrpcCodec, _of_kind("ClassificationRequest")),
        "Regress": _spoken(RegressGrpcCodec, _of_kind("RegressionRequest")),
        "MultiInference": _spoken(MultiInferenceGrpcCodec, task_model_of),
    }.items()
}


def methods(desk: Desk) -> dict[str, Method]:
    """The other methods by address."""

    def answering(name: str, fill: Callable[[Any, Any, Caller], Awaitable[None]]) -> Method:
        return method_of(messages(), f"{PACKAGE}.{name}", fill)

    async def described(request: Any, answer: Any, caller: Caller) -> None:
        reference = reference_of(parts_of(request.model_spec))
        found = desk.find(caller, reference)
        content = metadata(found.model, found.version, await desk.signature(caller, reference))
        signatures = messages()[f"{PACKAGE}.SignatureDefMap"]()
        # What the service definition does not have is for callers over HTTP.
        json_format.ParseDict(content["metadata"][_SIGNATURES], signatures, ignore_unknown_fields=True)
        json_format.ParseDict(content["model_spec"], answer.model_spec)
        held = answer.metadata[_SIGNATURES]
        held.type_url = f"type.googleapis.com/{PACKAGE}.SignatureDefMap"
        held.value = signatures.SerializeToString()

    async def told(request: Any, answer: Any, caller: Caller) -> None:
        statuses = version_statuses(desk, caller, reference_of(parts_of(request.model_spec)))
        json_format.ParseDict({"model_version_status": statuses}, answer)

    return {
        f"/{PACKAGE}.{PREDICTION_SERVICE}/GetModelMetadata": answering("GetModelMetadata", described),
        f"/{PACKAGE}.{MODEL_SERVICE}/GetModelStatus": answering("GetModelStatus", told),
    }
