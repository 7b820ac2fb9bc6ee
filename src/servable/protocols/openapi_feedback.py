"""Feedback in the OpenAPI document: what may be said about the answers of one model. Pure."""

from typing import Any

from servable.artifact.signature import Signature
from servable.protocols.openapi_models import DATE_PATTERN, component, reference

Schema = dict[str, Any]

_NULL: Schema = {"type": "null"}
_TABLE: Schema = {"type": "string", "description": "A table whose columns are named as in JSON."}
_KEPT: Schema = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "accepted": {"type": "integer", "description": "Rows that are on the server's disk now."},
        "request_id": {"type": "string"},
    },
    "required": ["model", "accepted", "request_id"],
}


def feedback_schemas(model: str, signature: Signature) -> dict[str, Schema]:
    """The schemas of a model's feedback, by name."""
    number: Schema = {"type": "number"}
    row: Schema = {
        "type": "object",
        "title": "What turned out about one row",
        "properties": {
            "request_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 256,
                "description": "Of the request that was answered: the answer's `request_id`.",
            },
            "row": {
                "anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, _NULL],
                "description": "Place of the row within the request, from 0; 0 when nothing is said.",
            },
            "outcome": {
                "anyOf": [_outcome(signature, number), _NULL],
                "description": "The label or the number that came true.",
            },
            "reward": {"anyOf": [number, _NULL], "description": "What the answer was worth."},
            "observed_at": {
                "anyOf": [{"type": "string", "pattern": DATE_PATTERN}, _NULL],
                "description": "When it came true, ISO 8601; in UTC when no zone is said.",
            },
        },
        "required": ["request_id"],
        "anyOf": [
            {"required": ["outcome"], "properties": {"outcome": {"not": _NULL}}},
            {"required": ["reward"], "properties": {"reward": {"not": _NULL}}},
        ],
        "additionalProperties": False,
    }
    return {component(model, "FeedbackRow"): row}


def feedback_paths(model: str, signature: Signature, operation_id: str, errors: Schema) -> Schema:
    """The address that takes feedback.

    Args:
        model: its name.
        signature: what an outcome may be.
        operation_id: of the operation.
        errors: the responses of what may go wrong.
    """
    return {
        f"/models/{model}/feedback": {
            "post": {
                "operationId": operation_id,
                "summary": f"Say what turned out about answers of {model}",
                "description": "Saying it again changes nothing, saying something else corrects it. Ids that "
                "this server does not know are kept, too: another one may have answered.",
                "tags": [model],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": _body(model), "examples": _examples(signature)},
                        "text/csv": {"schema": _TABLE},
                        "application/vnd.apache.parquet": {"schema": _TABLE | {"format": "binary"}},
                    },
                },
                "responses": {
                    "200": {
                        "description": "All of it is kept.",
                        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
                        "content": {"application/json": {"schema": _KEPT}},
                    },
                    **errors,
                },
            }
        }
    }


def _body(model: str) -> Schema:
    """One row, several of them, or an object around these."""
    row = reference(component(model, "FeedbackRow"))
    rows: Schema = {"type": "array", "minItems": 1, "items": row}
    around: Schema = {
        "type": "object",
        "properties": {"feedback": rows},
        "required": ["feedback"],
        "additionalProperties": False,
    }
    return {"anyOf": [row, rows, around]}


def _examples(signature: Signature) -> Schema:
    outcome: Any = signature.classes[0] if signature.classes else 1.5
    one = {"request_id": "order-17", "outcome": outcome}
    return {
        "one": {"summary": "One row", "value": one},
        "several": {"summary": "Several rows", "value": {"feedback": [one, {**one, "row": 1}]}},
        "reward": {"summary": "What it was worth", "value": {"request_id": "order-17", "reward": 0.5}},
    }


def _outcome(signature: Signature, number: Schema) -> Schema:
    """What an outcome may be."""
    if signature.task == "regression":
        return number
    if signature.classes:
        return {"enum": list(signature.classes)}
    return {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 4096}, number, {"type": "boolean"}]}
