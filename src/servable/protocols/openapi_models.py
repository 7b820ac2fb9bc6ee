"""The schemas of one model in the OpenAPI document, each under a name of its own. Pure."""

import math
import re
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.inputs.samples import example_of
from servable.protocols import files
from servable.protocols.answers import label_key
from servable.protocols.native_schema import expectation, float_limit, tensor_limits

Schema = dict[str, Any]

_LISTED_CLASSES = 200
#: The name of the schema of a part of an answer.
PIECE = "Piece"
# What every reader of ISO 8601 takes; the server itself takes more forms of it.
_DAYS = (
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])?"
DATE_PATTERN = f"^[12][0-9]{{3}}-{_DAYS}([T ]{_TIME})?$"


class ModelSchemas:
    """Makes the schemas of one model.

    Args:
        model: its name, which begins the name of every schema.
        version: the live one.
        signature: what the model takes and gives.
    """

    def __init__(self, model: str, version: int, signature: Signature) -> None:
        self._model = model
        self._version = version
        self._signature = signature
        self._made: dict[str, Schema] = {}

    def all(self, *, streams: bool = False) -> dict[str, Schema]:
        """Every schema by its name; ``Request`` and ``Answer`` are the outermost.

        Args:
            streams: whether the model answers in pieces, which then have a schema, too.
        """
        self._rows()
        row = self._reference("Row")
        several = {"type": "array", "minItems": 1, "items": row}
        self._add("OneRow", {"title": "One row", **_closed({"input": row})})
        self._add("SeveralRows", {"title": "Several rows", **_closed({"inputs": several})})
        self._add("Request", {"oneOf": [self._reference("OneRow"), self._reference("SeveralRows")]})
        self._answers()
        if streams:
            self._add(PIECE, _piece_schema(self._signature))
        return self._made

    def _add(self, part: str, schema: Schema) -> Schema:
        """Keep a schema under its name, and give the reference to it."""
        self._made[component(self._model, part)] = schema
        return self._reference(part)

    def _reference(self, part: str) -> Schema:
        return reference(component(self._model, part))

    # ------------------------------------------------------------------ what the model takes

    def _rows(self) -> None:
        inputs = self._signature.inputs
        columns = {field.name: self._column(number, field) for number, field in enumerate(inputs, 1)}
        by_name: Schema = {
            "type": "object",
            "title": "By column name",
            "properties": columns,
            "additionalProperties": False,
        }
        required = [field.name for field in inputs if not field.missing or field.is_tensor]
        if required:
            by_name["required"] = required
        if bare(self._signature):
            in_order = columns[inputs[0].name]
        else:
            in_order = {
                "type": "array",
                "title": "In the order of the columns",
                "minItems": len(inputs),
                "maxItems": len(inputs),
            }
            if inputs:
                in_order["prefixItems"] = [columns[field.name] | {"title": field.name} for field in inputs]
        named = self._add("RowByName", by_name)
        self._add("Row", {"oneOf": [named, self._add("RowInOrder", in_order)]})

    def _column(self, number: int, field: Field) -> Schema:
        """The schema of an input; listed values get a name, so that generators make a type of them."""
        schema = field_schema(field)
        if "enum" not in schema:
            return schema
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", field.name)
        part = f"Input.{plain}" if plain == field.name else f"Input{number}.{plain}"
        return self._add(part, schema)

    # ------------------------------------------------------------------ what the model gives

    def _answers(self) -> None:
        prediction = _prediction_schema(self._signature)
        if "enum" in prediction:
            prediction = self._add("Label", prediction)
        common: Schema = {
            "model": {"type": "string", "const": self._model},
            "version": {"type": "integer", "examples": [self._version]},
            "request_id": {"type": "string"},
        }
        single = {"prediction": prediction, **common}
        several = {"predictions": {"type": "array", "items": prediction}, **common}
        if self._signature.task == "classification" and self._signature.probabilities:
            chances = self._add("Probabilities", _probabilities_schema(self._signature))
            single["probabilities"] = chances
            several["probabilities"] = {"type": "array", "items": chances}
        one = {"type": "object", "title": "One answer", "properties": single, "required": list(single)}
        many = {
            "type": "object",
            "title": "Several answers",
            "properties": several,
            "required": list(several),
        }
        self._add("Answer", {"oneOf": [self._add("OneAnswer", one), self._add("SeveralAnswers", many)]})


def _piece_schema(signature: Signature) -> Schema:
    """A part of the answer to one row: the next part of a text, or the next values."""
    prediction = _prediction_schema(signature)
    if len(signature.outputs) == 1 and signature.answer.kind == "text":
        prediction = {"type": "string", "description": f"What comes next of {signature.answer.name}."}
    return {
        "type": "object",
        "title": "A piece of an answer",
        "properties": {"prediction": prediction},
        "required": ["prediction"],
    }


def component(model: str, part: str) -> str:
    """The name of a schema. Dots and hyphens may stand in it, so two models never share one."""
    return f"{model}.{part}"


def reference(name: str) -> Schema:
    """The schema of this name, pointed at."""
    return {"$ref": f"#/components/schemas/{name}"}


def bare(signature: Signature) -> bool:
    """Whether a row may be the nested list itself."""
    return len(signature.inputs) == 1 and signature.inputs[0].is_tensor


def _closed(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _probabilities_schema(signature: Signature) -> Schema:
    chance = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    if len(signature.classes) > _LISTED_CLASSES:
        return {"type": "object", "additionalProperties": chance}
    keys = [label_key(label) for label in signature.classes]
    return {"type": "object", "properties": dict.fromkeys(keys, chance), "required": keys}


def _prediction_schema(signature: Signature) -> Schema:
    named = {"description": signature.answer.name}
    if signature.task == "classification":
        kinds = sorted({_json_type(label) for label in signature.classes})
        return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(signature.classes), **named}
    if signature.task == "clustering":
        return {"type": "integer", "description": "The cluster."}
    if signature.task == "regression":
        number = {"type": ["number", "null"], **named}
        several = {"type": "array", "items": number}
        return {"anyOf": [number, several]} if len(signature.outputs) > 1 else number
    if len(signature.outputs) > 1 or not signature.answer.is_tensor:
        return {"description": "The model's own output."}
    return {**_tensor_schema(signature.answer, answered=True), **named}


def _json_type(label: Any) -> str:
    if isinstance(label, bool):
        return "boolean"
    return {str: "string", int: "integer"}.get(type(label), "number")


def field_schema(field: Field) -> Schema:
    """The JSON schema of one input, with what was seen in training as description and examples."""
    schema = _tensor_schema(field) if field.is_tensor else _column_schema(field)
    if field.takes_files and field.preparation is not None:
        schema = {"oneOf": [_file_schema(field), {"title": "The tensor itself", **schema}]}
        schema["examples"] = [example_of(field.preparation)]
    schema["description"] = _describe(field)
    if field.example is not None and not (
        isinstance(field.example, float) and not math.isfinite(field.example)
    ):
        schema["examples"] = [field.example]
    return schema


def _file_schema(field: Field) -> Schema:
    """A file as a text."""
    kind = files.words(field)
    return {
        "type": "string",
        "title": kind[0].upper() + kind[1:],
        "contentEncoding": "base64",
        "contentMediaType": f"{field.kind}/*",
        "minLength": 1,
        "description": "The file in base64, or a data URL of it.",
    }


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
    whole = field.kind == "category" and field.dtype == "int64"
    kinds = ["string", "number"] if field.dtype == "datetime" else ["integer" if whole else word]
    if field.missing:
        kinds.append("null")
    schema: Schema = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if field.dtype == "datetime":
        schema["pattern"] = DATE_PATTERN
    if field.kind == "category" and field.values and field.unknown == "refuse":
        # An empty text stands for a missing one.
        empty = [""] if field.dtype == "str" and "" not in field.values else []
        schema["enum"] = [*field.values, *([*empty, None] if field.missing else [])]
    elif field.kind == "category" and field.dtype == "str" and not field.missing and "" not in field.values:
        # An empty text stands for a missing one.
        schema["minLength"] = 1
    elif field.dtype == "int64":
        # Numbers are read as doubles, so these are the outermost that round to one of 64 bits.
        schema |= {"minimum": -(2**63) - 1024, "maximum": 2**63 - 513}
    return schema


def _tensor_schema(field: Field, *, answered: bool = False) -> Schema:
    kind = np.dtype(field.dtype).kind if field.dtype != "str" else "U"
    word = {"U": "string", "b": "boolean", "i": "integer", "u": "integer"}.get(kind, "number")
    schema: Schema = {"type": word}
    if answered and word == "number":
        # What is not finite becomes null.
        schema["type"] = [word, "null"]
    elif word == "integer":
        least, most = tensor_limits(field.dtype) or (0, 0)
        schema |= {"minimum": least, "maximum": most}
    elif word == "number" and field.dtype != "float64":
        schema |= {"minimum": -float_limit(field.dtype), "maximum": float_limit(field.dtype)}
    for size in reversed(field.shape):
        limits = {} if size < 0 else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **limits}
    return schema
