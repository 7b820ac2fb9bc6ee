"""The OpenAPI 3.1 document of a server, typed for each of its models. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from servable.artifact.signature import Signature
from servable.protocols.answer_forms import JSON
from servable.protocols.native_schema import example_row
from servable.protocols.openapi_bodies import other_answers, other_bodies, pieces
from servable.protocols.openapi_feedback import feedback_paths, feedback_schemas
from servable.protocols.openapi_headers import ANSWERED, KEY, LIMITS, VERSION, choices, parameters
from servable.protocols.openapi_models import PIECE, ModelSchemas, bare, component, reference

Schema = dict[str, Any]

#: Where a server has the document of the other wire formats.
FORMATS_PATH = "/openapi-formats.json"
_ERRORS = {
    "400": "The body is not of its content type, or is JSON and not an object.",
    "403": "A page of another origin made a browser send it.",
    "404": "No such model or version is served here.",
    "405": "The address takes other verbs: those of the header `Allow`.",
    "406": "The header Accept takes none of the forms of an answer.",
    "408": "The request arrived too slowly.",
    "413": "More bytes or rows than this server allows.",
    "415": "A content type or an encoding of the body that is not read here.",
    "421": "A host name to which this server does not answer.",
    "422": "Values that do not fit the signature; every one is named in `details`.",
    "431": "More headers, or more bytes of them, than this server allows.",
    "429": "A limit of the key or the address is reached; try again after `Retry-After`.",
    "500": "The model or the server failed.",
    "503": "The model is not ready, or the queue is full; try again after `Retry-After`.",
    "504": "The time was over before the answer.",
}


#: What may go wrong after a version was asked.
_REACHED = ("422", "500", "503", "504")
#: What any request may meet, whatever it asks for.
_ALWAYS = ("405", "408", "421", "429", "431", "500")


class Described(NamedTuple):
    """A model as the document shows it.

    Attributes:
        model: its name.
        version: the live version.
        signature: what it takes and gives.
        default: whether ``POST /predict`` means it.
        streams: whether it answers in pieces.
        divided: how its requests are divided among versions, in a sentence; empty when they are not.
        versions: all live versions, among which the header of the version may choose.
        key: the header whose value keeps a caller with one version.
    """

    model: str
    version: int
    signature: Signature
    default: bool
    streams: bool = False
    divided: str = ""
    versions: tuple[int, ...] = ()
    key: str = KEY


def document(models: Sequence[Described], server_version: str, prefix: str = "") -> Schema:
    """The whole document.

    Args:
        models: the live models, in the order in which they are listed.
        server_version: of Servable.
        prefix: under which the server is mounted; empty at the root.
    """
    paths: Schema = {}
    schemas: Schema = {"Error": _error_schema(), **_fixed_schemas()}
    headers = parameters()
    for described in models:
        made = ModelSchemas(described.model, described.version, described.signature)
        schemas.update(made.all(streams=described.streams))
        schemas.update(feedback_schemas(described.model, described.signature))
        headers.update(_choices(described))
        paths.update(_paths_of(described))
    paths.update(_fixed_paths())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Servable",
            "version": server_version,
            "description": "Models with typed requests and answers, from their signatures.",
        },
        "externalDocs": {
            "description": "The same models in the forms of other servers, as a document of its own.",
            "url": f"{prefix}{FORMATS_PATH}",
        },
        "servers": [{"url": prefix or "/"}],
        "tags": [
            *({"name": each.model, "description": _about(each)} for each in models),
            {"name": "server", "description": "What is served, and how the server is."},
        ],
        "paths": paths,
        "components": {"schemas": schemas, "parameters": headers, "headers": ANSWERED},
    }


def _paths_of(described: Described) -> Schema:
    """The addresses of one model; those of answers in pieces where it gives them."""
    paths = dict(_operations(described, "predict", "Predict with", _answers(described.model)))
    feedback = operation_id(described.model, "feedback")
    errors = _error_responses(_ERRORS.keys() - {"406", "504"})
    paths |= feedback_paths(described.model, described.signature, feedback, errors)
    if described.streams:
        paths |= _operations(described, "stream", "Answer in pieces with", _pieces(described.model))
    return paths


def _operations(described: Described, verb: str, words: str, answers: Schema) -> Iterator[tuple[str, Schema]]:
    """The addresses of a verb: of the model, of its live version, and of the default model if it is that."""
    model, version = described.model, described.version
    base = f"/models/{model}"
    pinned = operation_id(model, f"{verb}Version{version}")
    named = [
        (f"{base}/{verb}", operation_id(model, verb), model),
        (f"{base}/versions/{version}/{verb}", pinned, f"version {version} of {model}"),
    ]
    if described.default:
        named.append((f"/{verb}", f"{verb}Default", f"the default model, {model}"))
    for path, name, whom in named:
        yield path, {"post": _predict(described, name, f"{words} {whom}", answers)}


def _answers(model: str) -> Schema:
    """The forms of a whole answer."""
    return {JSON: {"schema": reference(component(model, "Answer"))}, **other_answers()}


def _pieces(model: str) -> Schema:
    """The forms of an answer in pieces."""
    piece = reference(component(model, PIECE))
    # OpenAPI 3.2 says so of what a stream is made of, by the name itemSchema.
    return {form: {"schema": schema, "x-itemSchema": piece} for form, schema in pieces().items()}


def _about(described: Described) -> str:
    signature = described.signature
    about = f"Version {described.version}, {signature.task} of {len(signature.inputs)} inputs."
    return f"{about} {described.divided}" if described.divided else about


def operation_id(model: str, verb: str = "predict") -> str:
    """The name of the operation that predicts with a model, as the page /docs links it; never given twice.

    Names hold no capitals, so a verb with one cannot be the beginning of another model's name. Only
    hyphens are replaced one for one; a name with a dot or an underscore gets a mark of its own.
    """
    mark = "" if re.fullmatch(r"[a-z0-9-]*", model) else "_" + sha256(model.encode()).hexdigest()[:6]
    return f"{verb}_" + re.sub(r"[^a-z0-9]", "_", model) + mark


def _predict(described: Described, operation_id: str, summary: str, answers: Schema) -> Schema:
    """An operation that takes rows of a model; ``answers`` are the contents of a good response."""
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": [described.model],
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"} for name in (*parameters(), *_choices(described))
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": reference(component(described.model, "Request")),
                    "examples": _examples(described.signature),
                },
                **other_bodies(described.signature),
            },
        },
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": {
                    "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
                    "X-Model-Name": {"$ref": "#/components/headers/ModelName"},
                    "X-Model-Version": {"$ref": "#/components/headers/ModelVersion"},
                },
                "content": answers,
            },
            **_error_responses(_ERRORS, reached=True),
        },
    }


def _choices(described: Described) -> Schema:
    """The headers by which the version of a model is chosen."""
    return choices(described.model, described.versions or (described.version,), described.key)


def _error_responses(statuses: Iterable[str], *, reached: bool = False) -> Schema:
    """What may go wrong, as ``responses`` of an operation.

    Args:
        statuses: which.
        reached: whether a request may have reached a version by then.
    """
    more = {"405": "Allow", "429": "RetryAfter", "503": "RetryAfter", "504": "RetryAfter"}
    found: Schema = {}
    for status in sorted(statuses):
        headers: Schema = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        if status in more:
            name = {"RetryAfter": "Retry-After"}.get(more[status], more[status])
            headers[name] = {"$ref": f"#/components/headers/{more[status]}"}
        if status == "429":
            headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in LIMITS}
        if reached and status in _REACHED:
            headers[VERSION] = {"$ref": "#/components/headers/ServableVersion"}
        content = {"application/json": {"schema": reference("Error")}}
        found[status] = {"description": _ERRORS[status], "headers": headers, "content": content}
    return found


def _examples(signature: Signature) -> Schema:
    row = example_row(signature)
    in_order = list(row.values())
    listed = in_order[0] if bare(signature) else in_order
    return {
        "object": {"summary": "One row by column name", "value": {"input": row}},
        "list": {"summary": "One row as a list", "value": {"input": listed}},
        "rows": {"summary": "Several rows", "value": {"inputs": [row, row]}},
    }


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


def _fixed_schemas() -> dict[str, Schema]:
    """What the addresses answer that only look; more keys than these may come."""
    text: Schema = {"type": "string"}
    model: Schema = {
        "type": "object",
        "properties": {
            "name": text,
            "version": {"type": "integer"},
            "state": text | {"description": "live, cold, loading, failed or warm."},
            "reason": text | {"description": "Why it is in this state; empty when it is live."},
            "share": {"type": "number", "description": "Its part of the model's requests, from 0 to 1."},
            "default": {"type": "boolean"},
            "predict": text | {"description": "The address that answers rows."},
            "task": text,
            "inputs": {"type": "array", "items": text},
            "package": text | {"description": "The digest of the package."},
            "signature": {"type": "object", "description": "What the model takes and gives."},
        },
        "required": ["name", "version", "state", "reason", "default", "predict"],
    }
    listed = {
        "models": {"type": "array", "items": reference("Model")},
        "default": {"type": ["string", "null"]},
    }
    ready = {"ready": {"type": "boolean"}, "not_live": {"type": "array", "items": {"type": "object"}}}
    return {
        "Model": model,
        "Models": {"type": "object", "properties": listed, "required": list(listed)},
        "Health": {"type": "object", "properties": {"status": text}, "required": ["status"]},
        "Readiness": {"type": "object", "properties": ready, "required": list(ready)},
    }


def _fixed_paths() -> Schema:
    model = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    missing = _error_responses(("404", "503"))

    def get(operation_id: str, summary: str, schema: str, media_type: str = "", **more: Any) -> Schema:
        content = {media_type: {"schema": {"type": "string"}}} if media_type else _json(schema)
        good = {
            "description": summary,
            "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
            "content": content,
        }
        responses = {"200": good, **_error_responses(_ALWAYS), **more.pop("responses", {})}
        return {
            "get": {
                "operationId": operation_id,
                "summary": summary,
                "tags": ["server"],
                "responses": responses,
                **more,
            }
        }

    not_ready = {"503": {"description": "Not yet.", "content": _json("Readiness")}}
    of_model: dict[str, Any] = {"parameters": [model], "responses": missing}
    return {
        "/models": get("list_models", "Every model that should be served, and whether it is.", "Models"),
        "/models/{name}": get("describe_model", "One model with its signature.", "Model", **of_model),
        "/models/{name}/report": get("model_report", "The evaluation report.", "", "text/html", **of_model),
        "/healthz": get("health", "Whether the process lives.", "Health"),
        "/readyz": get("readiness", "Whether every model is ready.", "Readiness", responses=not_ready),
        "/metrics": get("metrics", "Figures for Prometheus.", "", "text/plain"),
    }


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": reference(schema)}}
