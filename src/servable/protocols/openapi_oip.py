"""The Open Inference Protocol's REST addresses as an OpenAPI document of their own. Pure.

It describes the protocol and not one server's models: every name, version and tensor is free text, so that
it can be held against any server that claims to speak it. It is written from the protocol's text; where the
text leaves something open, what its best known servers do is allowed as well.
"""

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

#: The datatypes of a tensor.
DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BF16", "BYTES",
)  # fmt: skip
_TEXT: Schema = {"type": "string"}
_JSON = "application/json"
#: A caller has to change something; the server cannot answer now.
_REFUSALS = ("400", "403", "404", "405", "408", "413", "415", "421", "422", "429", "431", "501", "503", "504")


def oip_document(models: Sequence[str] = (), versions: Sequence[str] = ()) -> Schema:
    """The whole document.

    Args:
        models: the only names to ask for; any when empty.
        versions: the only versions to ask for; any when empty.
    """
    model, version = _parameter("model_name", models), _parameter("model_version", versions)
    paths: Schema = {
        "/v2": _get("server_metadata", "What the server is.", "ServerMetadata", ()),
        "/v2/health/live": _get("server_live", "Whether the server lives.", "Liveness", ()),
        "/v2/health/ready": _get("server_ready", "Whether every model is ready.", "Readiness", ()),
    }
    for infix, suffix, parameters in (
        ("", "", (model,)),
        ("/versions/{model_version}", "_version", (model, version)),
    ):
        base = f"/v2/models/{{model_name}}{infix}"
        paths[base] = _get(f"model_metadata{suffix}", "What a model takes.", "ModelMetadata", parameters)
        paths[f"{base}/ready"] = _get(
            f"model_ready{suffix}", "Whether a model is ready.", "ModelReadiness", parameters
        )
        paths[f"{base}/infer"] = _infer(f"model_infer{suffix}", parameters)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Open Inference Protocol",
            "version": "2",
            "description": "Health, metadata and inference over REST.",
        },
        "tags": [{"name": "Open Inference Protocol"}],
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _parameter(name: str, known: Sequence[str]) -> Schema:
    schema = {**_TEXT, "enum": list(known)} if known else {**_TEXT, "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _operation(name: str, summary: str, answer: Schema, parameters: Sequence[Schema]) -> Schema:
    refused = {"description": "Why not.", "content": {_JSON: {"schema": _reference("Error")}}}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["Open Inference Protocol"],
        "parameters": list(parameters),
        "responses": {"200": answer, **dict.fromkeys(_REFUSALS, refused)},
    }


def _get(name: str, summary: str, schema: str, parameters: Sequence[Schema]) -> Schema:
    answer = {"description": summary, "content": {_JSON: {"schema": _reference(schema)}}}
    return {"get": _operation(name, summary, answer, parameters)}


def _infer(name: str, parameters: Sequence[Schema]) -> Schema:
    answer = {"description": "The outputs.", "content": {_JSON: {"schema": _reference("InferenceResponse")}}}
    operation = _operation(name, "Run a model.", answer, parameters)
    body = {"required": True, "content": {_JSON: {"schema": _reference("InferenceRequest")}}}
    return {"post": {**operation, "requestBody": body}}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


def _schemas() -> Schema:
    datatype = {**_TEXT, "enum": list(DATATYPES)}
    value = {"type": ["string", "number", "boolean"]}
    parameters = {"parameters": {"type": "object", "additionalProperties": value}}
    described = _object(
        {"name": _TEXT, "datatype": datatype, "shape": _list({"type": "integer", "minimum": -1})}
    )
    shape = _list({"type": "integer", "minimum": 0})
    tensor = {"name": _TEXT, "shape": shape, "datatype": datatype, "data": _reference("TensorData")}
    return {
        "Error": _object({"error": _TEXT}),
        "Liveness": _object({}, {"live": {"type": "boolean"}}),
        "Readiness": _object({}, {"ready": {"type": "boolean"}, "live": {"type": "boolean"}}),
        "ModelReadiness": _object({}, {"name": _TEXT, "ready": {"type": "boolean"}}),
        "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
        "ModelMetadata": _object(
            {"name": _TEXT, "platform": _TEXT, "inputs": _list(described), "outputs": _list(described)},
            {"versions": _list(_TEXT)},
        ),
        # Nested, or flat in row-major order. A number that is not finite may come back as null.
        "TensorData": _list(
            {"anyOf": [{"type": ["number", "string", "boolean", "null"]}, _reference("TensorData")]}
        ),
        "InferenceRequest": _object(
            {"inputs": _list(_object(tensor, parameters), minItems=1)},
            {"id": _TEXT, **parameters, "outputs": _list(_object({"name": _TEXT}, parameters))},
        ),
        "InferenceResponse": _object(
            {"model_name": _TEXT, "outputs": _list(_object(tensor, parameters))},
            {"model_version": _TEXT, "id": _TEXT, **parameters},
        ),
    }
