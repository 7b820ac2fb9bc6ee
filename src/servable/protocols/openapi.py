"""The OpenAPI 3.1 document of a server, typed for each of its models. Pure."""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.protocols.answers import label_key
from servable.protocols.codecs import NPY, RAW
from servable.protocols.native_array import WholeArray
from servable.protocols.native_schema import example_row, expectation

Schema = dict[str, Any]

_ERRORS = {
    "400": "The body is not of its content type, or is JSON and not an object.",
    "404": "No such model or version is served here.",
    "413": "More bytes or rows than this server allows.",
    "415": "A content type or an encoding of the body that is not read here.",
    "422": "Values that do not fit the signature; every one is named in `details`.",
    "500": "The model or the server failed.",
    "503": "The model is not ready; try again in a moment.",
}
_LISTED_CLASSES = 200


class Described(NamedTuple):
    """A model as the document shows it.

    Attributes:
        model: its name.
        version: the live version.
        signature: what it takes and gives.
        default: whether ``POST /predict`` means it.
    """

    model: str
    version: int
    signature: Signature
    default: bool


def document(models: Sequence[Described], server_version: str) -> Schema:
    """The whole document.

    Args:
        models: the live models, in the order in which they are listed.
        server_version: of Servable.
    """
    paths: Schema = {}
    schemas: Schema = {"Error": _error_schema()}
    for described in models:
        schemas.update(_model_schemas(described))
        base = f"/models/{described.model}"
        operation = _predict(described, operation_id(described.model), f"Predict with {described.model}")
        paths[f"{base}/predict"] = {"post": operation}
        pinned = f"{base}/versions/{described.version}/predict"
        name = operation_id(described.model, f"predictVersion{described.version}")
        paths[pinned] = {
            "post": _predict(
                described, name, f"Predict with version {described.version} of {described.model}"
            )
        }
        if described.default:
            summary = f"Predict with the default model, {described.model}"
            paths["/predict"] = {"post": _predict(described, "predictDefault", summary)}
    paths.update(_fixed_paths())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Servable",
            "version": server_version,
            "description": "Models with typed requests and answers, from their signatures.",
        },
        "tags": [
            *({"name": each.model, "description": _about(each)} for each in models),
            {"name": "server", "description": "What is served, and how the server is."},
        ],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _about(described: Described) -> str:
    signature = described.signature
    return f"Version {described.version}, {signature.task} of {len(signature.inputs)} inputs."


def operation_id(model: str, verb: str = "predict") -> str:
    """The name of the operation that predicts with a model, as the page /docs links it; never given twice.

    Names hold no capitals, so a verb with one cannot be the beginning of another model's name. Only
    hyphens are replaced one for one; a name with a dot or an underscore gets a mark of its own.
    """
    mark = "" if re.fullmatch(r"[a-z0-9-]*", model) else "_" + sha256(model.encode()).hexdigest()[:6]
    return f"{verb}_" + re.sub(r"[^a-z0-9]", "_", model) + mark


def _component(described: Described, part: str) -> str:
    # Dots and hyphens may stand in component names, so two models never share one.
    return f"{described.model}.{part}"


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _predict(described: Described, operation_id: str, summary: str) -> Schema:
    answer = {"schema": _reference(_component(described, "Answer"))}
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": [described.model],
        "parameters": [
            {
                "name": "X-Request-Id",
                "in": "header",
                "required": False,
                "description": "Kept in the answer and in the log; made by the server when absent.",
                "schema": {"type": "string", "maxLength": 128, "pattern": "^[A-Za-z0-9._:-]+$"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _reference(_component(described, "Request")),
                    "examples": _examples(described.signature),
                },
                **_binary(described.signature),
            },
        },
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": answer}},
            **{status: _error_response(text) for status, text in _ERRORS.items()},
        },
    }


def _binary(signature: Signature) -> Schema:
    """The content types besides JSON; what no JSON schema describes says its form in words."""
    whole = WholeArray.of(signature)
    if whole is None:
        return {}
    raw: Schema = {"description": f"Little-endian bytes, one row after the other; a row is {whole.words}."}
    npy: Schema = {"description": f"One array as numpy.save writes it; a row is {whole.words}."}
    return {**({RAW: {"schema": raw}} if whole.fixed else {}), NPY: {"schema": npy}}


def _error_response(description: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": _reference("Error")}}}


def _examples(signature: Signature) -> Schema:
    row = example_row(signature)
    in_order = list(row.values())
    listed = in_order[0] if _bare(signature) else in_order
    return {
        "object": {"summary": "One row by column name", "value": {"input": row}},
        "list": {"summary": "One row as a list", "value": {"input": listed}},
        "rows": {"summary": "Several rows", "value": {"inputs": [row, row]}},
    }


def _bare(signature: Signature) -> bool:
    return len(signature.inputs) == 1 and signature.inputs[0].kind == "tensor"


def _model_schemas(described: Described) -> Schema:
    signature = described.signature
    row = _component(described, "Row")
    required = [field.name for field in signature.inputs if not field.missing or field.kind == "tensor"]
    columns = {field.name: field_schema(field) for field in signature.inputs}
    by_name: Schema = {
        "type": "object",
        "title": "By column name",
        "properties": columns,
        "additionalProperties": False,
    }
    if required:
        by_name["required"] = required
    if _bare(signature):
        in_order = field_schema(signature.inputs[0])
    else:
        count = len(signature.inputs)
        cells = [field_schema(field) | {"title": field.name} for field in signature.inputs]
        in_order = {"type": "array", "prefixItems": cells, "minItems": count, "maxItems": count}
        in_order["title"] = "In the order of the columns"
    one = {"type": "object", "title": "One row", "properties": {"input": _reference(row)}}
    many = {
        "type": "object",
        "title": "Several rows",
        "properties": {"inputs": {"type": "array", "minItems": 1, "items": _reference(row)}},
    }
    return {
        row: {"oneOf": [by_name, in_order]},
        _component(described, "Request"): {
            "oneOf": [
                one | {"required": ["input"], "additionalProperties": False},
                many | {"required": ["inputs"], "additionalProperties": False},
            ]
        },
        _component(described, "Answer"): _answer_schema(described),
    }


def _answer_schema(described: Described) -> Schema:
    signature = described.signature
    prediction = _prediction_schema(signature)
    common: Schema = {
        "model": {"type": "string", "const": described.model},
        "version": {"type": "integer", "examples": [described.version]},
        "request_id": {"type": "string"},
    }
    single = {"prediction": prediction, **common}
    several = {"predictions": {"type": "array", "items": prediction}, **common}
    if signature.task == "classification" and signature.probabilities:
        chances = _probabilities_schema(signature)
        single["probabilities"] = chances
        several["probabilities"] = {"type": "array", "items": chances}
    return {
        "oneOf": [
            {"type": "object", "title": "One answer", "properties": single, "required": list(single)},
            {"type": "object", "title": "Several answers", "properties": several, "required": list(several)},
        ]
    }


def _probabilities_schema(signature: Signature) -> Schema:
    chance = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    if len(signature.classes) > _LISTED_CLASSES:
        return {"type": "object", "additionalProperties": chance}
    keys = [label_key(label) for label in signature.classes]
    return {"type": "object", "properties": dict.fromkeys(keys, chance), "required": keys}


def _prediction_schema(signature: Signature) -> Schema:
    if signature.task == "classification":
        return {"enum": list(signature.classes), "description": signature.answer.name}
    if signature.task == "clustering":
        return {"type": "integer", "description": "The cluster."}
    if signature.task == "regression":
        number = {"type": ["number", "null"], "description": signature.answer.name}
        return (
            {"anyOf": [number, {"type": "array", "items": number}]} if len(signature.outputs) > 1 else number
        )
    return {"description": "The model's own output."}


def field_schema(field: Field) -> Schema:
    """The JSON schema of one input, with what was seen in training as description and examples."""
    schema = _tensor_schema(field) if field.kind == "tensor" else _column_schema(field)
    schema["description"] = _describe(field)
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _describe(field: Field) -> str:
    parts = [field.description.rstrip(".")] if field.description else []
    parts.append(f"Takes {expectation(field)}")
    if field.minimum is not None and field.maximum is not None:
        parts.append(f"seen in training: {field.minimum:g} to {field.maximum:g}")
    elif field.values and field.unknown == "accept":
        listed = ", ".join(str(value) for value in field.values[:20])
        parts.append(f"seen in training: {listed}{', ...' if len(field.values) > 20 else ''}")
    return "; ".join(parts) + "."


def _column_schema(field: Field) -> Schema:
    word = {"str": "string", "bool": "boolean", "datetime": "string"}.get(field.dtype, "number")
    kinds = ["string", "number"] if field.dtype == "datetime" else [word]
    if field.missing:
        kinds.append("null")
    schema: Schema = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if field.dtype == "datetime":
        schema["format"] = "date-time"
    if field.kind == "category" and field.values and field.unknown == "refuse":
        schema["enum"] = [*field.values, *([None] if field.missing else [])]
    return schema


def _tensor_schema(field: Field) -> Schema:
    kind = np.dtype(field.dtype).kind if field.dtype != "str" else "U"
    schema: Schema = {
        "type": {"U": "string", "b": "boolean", "i": "integer", "u": "integer"}.get(kind, "number")
    }
    for size in reversed(field.shape):
        limits = {} if size < 0 else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **limits}
    return schema


def _error_schema() -> Schema:
    text: Schema = {"type": "string"}
    detail = {
        "type": "object",
        "properties": {"path": text, "expected": text, "got": text},
        "required": ["path", "expected", "got"],
    }
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "request_id", "details"],
                "properties": {
                    "code": {"type": "string", "description": "Stable; meant for programs."},
                    "message": {"type": "string", "description": "For people; may change."},
                    "request_id": text,
                    "details": {"type": "array", "items": detail},
                },
            }
        },
    }


def _fixed_paths() -> Schema:
    model = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    missing = {"404": _error_response("No such model is served here.")}

    def get(operation_id: str, summary: str, media_type: str = "application/json", **more: Any) -> Schema:
        responses = {
            "200": {"description": summary, "content": {media_type: {}}},
            **more.pop("responses", {}),
        }
        return {
            "get": {
                "operationId": operation_id,
                "summary": summary,
                "tags": ["server"],
                "responses": responses,
                **more,
            }
        }

    not_ready = {"503": {"description": "Not yet.", "content": {"application/json": {}}}}
    return {
        "/models": get("list_models", "Every model that should be served, and whether it is."),
        "/models/{name}": get(
            "describe_model", "One model with its signature.", parameters=[model], responses=missing
        ),
        "/models/{name}/report": get(
            "model_report", "The evaluation report.", "text/html", parameters=[model], responses=missing
        ),
        "/healthz": get("health", "Whether the process lives."),
        "/readyz": get("readiness", "Whether every model is ready.", responses=not_ready),
        "/metrics": get("metrics", "Figures for Prometheus.", "text/plain"),
    }
