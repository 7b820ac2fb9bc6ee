"""The addresses of the other wire formats as an OpenAPI 3.1 document of their own. Pure.

What a model takes and gives is typed in the main document, once for each model. Here stand the forms that
other servers gave to the same rows: names are parameters, and a row is whatever the model's own schema
says. ``docs/decisions/0020-two-descriptions.md`` tells why these are two documents.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from servable.protocols.openapi_oip import oip_document

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_JSON = "application/json"
_NAME = "model_name"
#: What may go wrong in every format, in words.
_ERRORS = {
    "400": "The body is not of its form, or values do not fit.",
    "403": "A page of another origin made a browser send it.",
    "404": "No such model or version is served here.",
    "405": "The address takes other verbs: those of the header `Allow`.",
    "408": "The request arrived too slowly.",
    "409": "No model is named, and none of several is the default.",
    "413": "More bytes or rows than this server allows.",
    "415": "A content type or an encoding of the body that is not read here.",
    "421": "A host name to which this server does not answer.",
    "431": "More headers, or more bytes of them, than this server allows.",
    "429": "A limit of the key or the address is reached; try again after `Retry-After`.",
    "500": "The model or the server failed.",
    "501": "What is asked is not served here.",
    "503": "The model is not ready, or the queue is full; try again after `Retry-After`.",
    "504": "The time was over before the answer.",
}


class Family(NamedTuple):
    """What the addresses of one format share.

    Attributes:
        name: of the format, for people.
        about: one sentence.
        error: the schema of its errors.
        statuses: of its errors.
    """

    name: str
    about: str
    error: str
    statuses: tuple[str, ...]


_TFS = Family(
    "TensorFlow Serving, KServe V1",
    "Rows as `instances`, columns as `inputs`; KServe's first protocol and Vertex AI know the rows alone.",
    "Error",
    tuple(status for status in _ERRORS if status not in ("409", "415")),
)
_MLFLOW = Family(
    "MLflow",
    "The forms of a data frame, and the answers as `predictions`.",
    "InvocationsError",
    tuple(_ERRORS),
)
_SAGEMAKER = _MLFLOW._replace(
    name="SageMaker", about="What a container of SageMaker is asked; `/invocations` is MLflow's as well."
)
_TORCHSERVE = Family(
    "TorchServe", "One row or many, in the form that the model reads.", "TorchServeError", tuple(_ERRORS)
)
_OPENAI = Family(
    "OpenAI",
    "For models that turn texts into vectors, or into texts; the body names the model. "
    "The same stands below /openai/v1 and /v3.",
    "OpenAiError",
    tuple(status for status in _ERRORS if status != "409"),
)
_FAMILIES = (_TFS, _MLFLOW, _SAGEMAKER, _TORCHSERVE, _OPENAI)


def formats_document(
    models: Sequence[str], server_version: str, prefix: str = "", predict_route: str = ""
) -> Schema:
    """The whole document.

    Args:
        models: the names that are served, for pages that offer a choice; any name when there are none.
        server_version: of Servable.
        prefix: under which the server is mounted; empty at the root.
        predict_route: one more address that a setting names, in the form of KServe V1.
    """
    document = oip_document(models)
    paths = document["paths"]
    paths.update(_tensorflow_serving(models))
    if predict_route:
        instances = _post(
            _TFS, "vertex_predict", "Predict with the default model.", "Instances", "Predictions"
        )
        paths[predict_route] = instances
    paths.update(_invocations(models))
    paths.update(_torchserve(models))
    paths.update(_openai())
    oip = {
        "name": document["tags"][0]["name"],
        "description": "Tensors by name, over REST; gRPC speaks the same on the same port.",
    }
    return {
        **document,
        "info": {
            "title": "Servable, in the forms of other servers",
            "version": server_version,
            "description": "The addresses at which clients of other servers find what they know. "
            "What each model takes and gives is typed in openapi.json.",
        },
        "servers": [{"url": prefix or "/"}],
        "tags": [oip, *({"name": each.name, "description": each.about} for each in _FAMILIES)],
        "components": {"schemas": document["components"]["schemas"] | _schemas()},
    }


def _parameter(name: str, models: Sequence[str] = ()) -> Schema:
    schema = {**_TEXT, "enum": list(models)} if models else {**_TEXT, "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _content(schema: str, media_type: str = _JSON) -> Schema:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _post(
    family: Family,
    operation: str,
    summary: str,
    takes: str | Schema,
    gives: str | Schema,
    parameters: Sequence[Schema] = (),
) -> Schema:
    """One address; what it takes and gives is the name of a schema, or whole content by media type."""
    refused = _content(family.error)
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "tags": [family.name],
            "parameters": list(parameters),
            "requestBody": {
                "required": True,
                "content": _content(takes) if isinstance(takes, str) else takes,
            },
            "responses": {
                "200": {
                    "description": "The answer.",
                    "content": _content(gives) if isinstance(gives, str) else gives,
                },
                **{
                    status: {"description": _ERRORS[status], "content": refused} for status in family.statuses
                },
            },
        }
    }


def _tensorflow_serving(models: Sequence[str]) -> Schema:
    name = _parameter(_NAME, models)
    paths: Schema = {}
    for infix, suffix, parameters in (
        ("", "", [name]),
        ("/versions/{version}", "_version", [name, _parameter("version")]),
        ("/labels/{label}", "_label", [name, _parameter("label")]),
    ):
        base = f"/v1/models/{{{_NAME}}}{infix}"
        for verb, summary, takes, gives in (
            ("predict", "Predict rows or columns.", "PredictRequest", "PredictResponse"),
            ("classify", "Labels with their scores.", "Examples", "Results"),
            ("regress", "One number for each example.", "Examples", "Results"),
        ):
            operation = f"tfserving_{verb}{suffix}"
            paths[f"{base}:{verb}"] = _post(_TFS, operation, summary, takes, gives, parameters)
    return paths


def _invocations(models: Sequence[str]) -> Schema:
    name = _parameter(_NAME, models)
    takes = {
        **_content("InvocationsRequest"),
        **_content("Text", "text/csv"),
        **_content("Text", "application/jsonlines"),
        **_content("File", "application/x-npy"),
    }
    gives = {**takes, **_content("InvocationsResponse")}
    more: Schema = {"in": "header", "required": False, "schema": _TEXT}
    headers = [
        {"name": f"X-Amzn-SageMaker-{kind}", "description": description, **more}
        for kind, description in (
            ("Target-Model", "The model that is meant: a reference."),
            ("Target-Variant", "A version or an alias of the target model."),
            ("Custom-Attributes", "Given back; `probabilities=true` asks for probabilities."),
        )
    ]
    ask = "Ask the model that a header names, or the default one."
    return {
        "/invocations": _post(_SAGEMAKER, "invocations", ask, takes, gives, headers),
        f"/models/{{{_NAME}}}/invocations": _post(
            _MLFLOW, "mlflow_invocations", "Ask one model.", takes, gives, [name]
        ),
        f"/models/{{{_NAME}}}/invoke": _post(
            _SAGEMAKER, "sagemaker_invoke", "Ask one of many models.", takes, gives, [name, *headers[2:]]
        ),
    }


def _torchserve(models: Sequence[str]) -> Schema:
    name, version = _parameter(_NAME, models), _parameter("version")
    takes = {
        **_content("Anything"),
        **_content("Text", "text/plain"),
        **_content("File", "application/octet-stream"),
        **_content("File", "application/x-npy"),
        **_content("Form", "multipart/form-data"),
    }
    base = f"/predictions/{{{_NAME}}}"
    return {
        base: _post(_TORCHSERVE, "torchserve_predict", "Predict.", takes, "Anything", [name]),
        f"{base}/{{version}}": _post(
            _TORCHSERVE, "torchserve_predict_version", "Predict.", takes, "Anything", [name, version]
        ),
    }


def _openai() -> Schema:
    streamed = _content("Text", "text/event-stream")
    return {
        "/v1/embeddings": _post(
            _OPENAI, "openai_embeddings", "Vectors of texts.", "EmbeddingsRequest", "EmbeddingsResponse"
        ),
        "/v1/completions": _post(
            _OPENAI,
            "openai_completions",
            "Texts that follow on texts.",
            "CompletionRequest",
            {**_content("CompletionResponse"), **streamed},
        ),
        "/v1/chat/completions": _post(
            _OPENAI,
            "openai_chat",
            "The answer to messages.",
            "ChatRequest",
            {**_content("CompletionResponse"), **streamed},
        ),
    }


# ---------------------------------------------------------------------- schemas


def _object(required: Schema, optional: Schema | None = None, **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        **more,
    }


def _list(of: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": of, **({"minItems": least} if least else {})}


def _schemas() -> dict[str, Schema]:
    return {
        "Row": {
            "description": "A row as the model's own schema in openapi.json has it, or its values in order."
        },
        "Anything": {"description": "What the model takes or gives, as JSON."},
        "Text": _TEXT,
        "File": {**_TEXT, "format": "binary"},
        "Form": {"type": "object", "description": "One part named data, which is what is asked."},
        **_tfs_schemas(),
        **_invocations_schemas(),
        "TorchServeError": _object({"code": {"type": "integer"}, "type": _TEXT, "message": _TEXT}),
        **_openai_schemas(),
    }


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _tfs_schemas() -> dict[str, Schema]:
    anything, rows = _reference("Anything"), _list(_reference("Row"), 1)
    signature = {
        "signature_name": {"type": ["string", "null"], "description": "predict_proba asks for probabilities."}
    }
    columns: Schema = {
        "description": "One tensor, or tensors by name.",
        "type": ["array", "object", "number", "string", "boolean"],
    }
    return {
        "Instances": _object({"instances": rows}, signature),
        "Predictions": _object({"predictions": _list(anything)}),
        "PredictRequest": {
            "oneOf": [_reference("Instances"), _object({"inputs": columns}, signature, title="Columns")]
        },
        "PredictResponse": {
            "oneOf": [_reference("Predictions"), _object({"outputs": anything}, title="Outputs")]
        },
        "Examples": _object(
            {"examples": _list({"type": "object"}, 1)}, {**signature, "context": {"type": "object"}}
        ),
        "Results": _object({"results": _list(anything)}),
    }


def _invocations_schemas() -> dict[str, Schema]:
    rows, anything = _list(_reference("Row"), 1), _reference("Anything")
    params = {"params": {"type": "object", "description": "`probabilities` asks for probabilities."}}
    split = _object({"columns": _list(_TEXT), "data": _list(_list({}), 1)}, {"index": _list({})})
    forms = {
        "dataframe_split": split,
        "dataframe_records": _list({"type": "object"}, 1),
        "instances": rows,
        "inputs": {"type": ["array", "object"]},
        "features": {"type": "array"},
    }
    return {
        "InvocationsRequest": {
            "anyOf": [
                *(_object({name: form}, params, title=name) for name, form in forms.items()),
                {**rows, "title": "A list of rows"},
            ]
        },
        "InvocationsResponse": {
            "oneOf": [_object({"predictions": _list(anything)}), {**_list(anything), "title": "A bare list"}]
        },
        "InvocationsError": _object({"error_code": _TEXT, "message": _TEXT, "request_id": _TEXT}),
    }


def _openai_schemas() -> dict[str, Schema]:
    whole: Schema = {"type": "integer"}
    texts: Schema = {"anyOf": [_TEXT, _list(_TEXT, 1)]}
    tokens: Schema = {"anyOf": [_list(whole, 1), _list(_list(whole, 1), 1)]}
    usage = _object({"prompt_tokens": whole, "total_tokens": whole}, {"completion_tokens": whole})
    vector: Schema = {
        "anyOf": [
            _list({"description": "A number, or null where it is not finite."}),
            {**_TEXT, "contentEncoding": "base64"},
        ]
    }
    entry = _object({"object": _TEXT, "index": whole, "embedding": vector})
    model = {"model": {**_TEXT, "description": "A reference; the default model without it."}}
    streams = {**model, "stream": {"type": ["boolean", "null"]}}
    message = _object({"role": _TEXT}, {"content": {"type": ["string", "array", "null"]}})
    error = _object(
        {
            "message": _TEXT,
            "type": _TEXT,
            "param": {"type": ["string", "null"]},
            "code": {"type": ["string", "null"]},
        }
    )
    return {
        "EmbeddingsRequest": _object(
            {"input": {"anyOf": [*texts["anyOf"], *tokens["anyOf"]]}},
            {
                **model,
                "encoding_format": {"enum": ["float", "base64", None]},
                "dimensions": {"type": ["integer", "null"], "minimum": 1},
            },
        ),
        "EmbeddingsResponse": _object(
            {"object": _TEXT, "data": _list(entry), "model": _TEXT, "usage": usage}
        ),
        "CompletionRequest": _object({"prompt": texts}, streams),
        "ChatRequest": _object({"messages": _list(message, 1)}, streams),
        "CompletionResponse": _object(
            {
                "id": _TEXT,
                "object": _TEXT,
                "created": whole,
                "model": _TEXT,
                "choices": _list({"type": "object"}),
            },
            {"usage": usage},
        ),
        "OpenAiError": _object({"error": error}),
    }
