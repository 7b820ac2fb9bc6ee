"""The description of the other formats is valid, whole, and apart from the main one."""

import json
import re
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from protocols.test_openapi import SIGNATURE, references, target
from servable.protocols.openapi import Described, document
from servable.protocols.openapi_formats import formats_document


@pytest.fixture
def api() -> dict[str, Any]:
    return dict(json.loads(json.dumps(formats_document(["income"], "1.2.3", "/ml", "/vertex"))))


def test_it_is_valid_and_every_reference_leads_somewhere(api: dict[str, Any]) -> None:
    jsonschema_rs.validator_for(OPENAPI_31).validate(api)
    for each in api["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **each})
    found = set(references(api))
    assert all(isinstance(target(api, reference), dict) for reference in found)
    assert {each.rpartition("/")[2] for each in found} == set(api["components"]["schemas"])


def test_every_format_is_there_with_its_own_errors(api: dict[str, Any]) -> None:
    errors = {
        "/v2/models/{model_name}/infer": "Error",
        "/v1/models/{model_name}:predict": "Error",
        "/v1/models/{model_name}/labels/{label}:classify": "Error",
        "/vertex": "Error",
        "/models/{model_name}/invocations": "InvocationsError",
        "/models/{model_name}/invoke": "InvocationsError",
        "/invocations": "InvocationsError",
        "/predictions/{model_name}": "TorchServeError",
        "/predictions/{model_name}/{version}": "TorchServeError",
        "/v1/embeddings": "OpenAiError",
        "/v1/chat/completions": "OpenAiError",
    }
    for path, error in errors.items():
        operation = api["paths"][path]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]
        schema = operation["responses"]["503"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{error}"}
        assert operation["tags"][0] in {tag["name"] for tag in api["tags"]}


def test_parameters_are_declared_and_offer_what_is_served(api: dict[str, Any]) -> None:
    for path, operations in api["paths"].items():
        for operation in operations.values():
            inside = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert inside == set(re.findall(r"{(\w+)}", path))
            names = [each for each in operation["parameters"] if each["name"] == "model_name"]
            assert all(each["schema"]["enum"] == ["income"] for each in names)


def test_the_two_documents_have_nothing_in_common_and_the_first_names_the_second(api: dict[str, Any]) -> None:
    main = document([Described("income", 3, SIGNATURE, True)], "1.2.3", "/ml")
    assert main["externalDocs"]["url"] == "/ml/openapi-formats.json"
    assert not set(main["paths"]) & set(api["paths"])
    assert not operations_of(main) & operations_of(api)


def operations_of(document: dict[str, Any]) -> set[str]:
    found = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(found) == len(set(found))
    return set(found)
