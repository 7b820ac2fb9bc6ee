"""The headers in the OpenAPI document: those that may be sent to a model, and those of its answers. Pure."""

from collections.abc import Sequence
from typing import Any

from servable.protocols.openapi_models import component

Schema = dict[str, Any]

#: The headers by which a caller chooses a version, or stays with one.
VERSION, KEY = "X-Servable-Version", "X-Servable-Key"
#: Headers that a document lists by themselves, or that OpenAPI leaves to other parts of it.
_TAKEN = frozenset(
    {"accept", "authorization", "content-type", "x-request-id", "x-request-timeout-ms", "x-request-priority",
     "x-servable-version"}
)  # fmt: skip
#: The headers of answers, by their names among the components.
ANSWERED: Schema = {
    "Allow": {"description": "The verbs that the address takes.", "schema": {"type": "string"}},
    "RequestId": {
        "description": "Under which the server logged the request.",
        "schema": {"type": "string"},
    },
    "ModelName": {
        "description": "The model that answered, where the form of the answer has no place for it.",
        "schema": {"type": "string"},
    },
    "ModelVersion": {
        "description": "The version that answered, where the form of the answer has no place for it.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ServableVersion": {
        "description": "The version that the request had reached, if it had reached one.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RetryAfter": {
        "description": "Seconds after which another try has a chance.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit": {
        "description": "What is left of the limit that was reached (`r`), and seconds until more is (`t`).",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The limit that was reached: how much (`q`) in how many seconds (`w`).",
        "schema": {"type": "string"},
    },
}
#: Those of an answer that says that a limit is reached.
LIMITS = ("RateLimit", "RateLimit-Policy")


def parameters() -> Schema:
    """The headers that every prediction understands."""
    headers: dict[str, tuple[str, Schema]] = {
        "X-Request-Id": (
            "Kept in the answer and in the log when it is up to 128 letters, digits and . _ : - "
            "and else replaced by one of the server's.",
            {"type": "string"},
        ),
        "X-Request-Timeout-Ms": (
            "Milliseconds after which an answer is of no use.",
            {"type": "integer", "minimum": 1, "maximum": 999_999_999_999},
        ),
        "X-Request-Priority": (
            "The share of the request when there is a queue.",
            {"type": "string", "enum": ["high", "normal", "low"]},
        ),
    }
    return {
        name.removeprefix("X-Request-"): _header(name, description, schema)
        for name, (description, schema) in headers.items()
    }


def choices(model: str, versions: Sequence[int], key: str) -> Schema:
    """The headers by which the version of a model is chosen, whose values are the model's own.

    Args:
        model: its name.
        versions: the live ones.
        key: the header whose value keeps a caller with one version.
    """
    found = {
        component(model, "Version"): _header(
            VERSION,
            "The version that is to answer; for testers. Without it the shares of the versions decide.",
            {"type": "integer", "enum": list(versions)},
        )
    }
    if key.lower() not in _TAKEN:
        found[component(model, "Key")] = _header(
            key,
            "While requests are divided among versions, the same value always meets the same version.",
            {"type": "string"},
        )
    return found


def _header(name: str, description: str, schema: Schema) -> Schema:
    """A header that may be sent."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}
