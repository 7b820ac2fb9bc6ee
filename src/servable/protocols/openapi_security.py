"""The part of an OpenAPI document that says which key a server wants. Pure."""

from collections.abc import Collection
from typing import Any, Literal

Schema = dict[str, Any]

_SCHEMES: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `sv_...`, or a token of an issuer that the server knows.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
_CERTIFICATE: Schema = {
    "mutualTLS": {
        "type": "mutualTLS",
        "description": "A certificate of an authority that the server trusts, shown with the connection.",
    },
}
#: What certificates of clients are to a server: nothing, enough instead of a key, or wanted beside a key.
CertificateUse = Literal["none", "enough", "beside"]
_WANTED: dict[CertificateUse, list[Schema]] = {
    "none": [{"bearer": []}, {"apiKey": []}],
    "enough": [{"bearer": []}, {"apiKey": []}, {"mutualTLS": []}],
    "beside": [{"bearer": [], "mutualTLS": []}, {"apiKey": [], "mutualTLS": []}],
}
_CHALLENGE: Schema = {
    "description": "How a key is sent.",
    "schema": {"type": "string", "examples": ['Bearer realm="servable"']},
}
_REFUSALS = {
    "401": "There is no API key or token, or none that is valid.",
    "403": "The caller may not do this, or a page of another origin made a browser send it.",
}


def guarded(document: Schema, signs: Collection[str], certificates: CertificateUse = "none") -> Schema:
    """A document of a server that wants keys.

    Args:
        document: of the same server without keys; left as it is.
        signs: addresses that are also answered without a key.
        certificates: what those of clients are to the server.
    """
    components = dict(document["components"])
    components["securitySchemes"] = _SCHEMES if certificates == "none" else {**_SCHEMES, **_CERTIFICATE}
    components["headers"] = {**components.get("headers", {}), "WwwAuthenticate": _CHALLENGE}
    paths = {
        path: item
        if path in signs
        else {verb: _guarded(part, _WANTED[certificates]) for verb, part in item.items()}
        for path, item in document["paths"].items()
    }
    return {**document, "paths": paths, "components": components}


def _guarded(operation: Any, wanted: list[Schema]) -> Any:
    """An operation with what it wants; what is no operation, such as a list of parameters, is left."""
    if not isinstance(operation, dict) or "responses" not in operation:
        return operation
    responses = operation["responses"] | {
        status: {
            "description": said,
            "headers": {
                "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
                **(
                    {"WWW-Authenticate": {"$ref": "#/components/headers/WwwAuthenticate"}}
                    if status == "401"
                    else {}
                ),
            },
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, said in _REFUSALS.items()
    }
    return {**operation, "security": wanted, "responses": dict(sorted(responses.items()))}
