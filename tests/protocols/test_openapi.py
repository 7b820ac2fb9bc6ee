"""The OpenAPI document agrees with the codec."""

import json
from typing import Any

import pytest

from servable.artifact.signature import Field, Signature
from servable.protocols.native import NativeCodec
from servable.protocols.openapi import Described, document, operation_id

SIGNATURE = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64", minimum=17, maximum=90, example=40.0),
        Field(
            name="job", kind="category", dtype="str", values=("cook", "nurse"), unknown="refuse", missing=True
        ),
        Field(name="city", kind="category", dtype="str", values=("Oslo",)),
        Field(name="member", kind="boolean", dtype="bool"),
        Field(name="since", kind="date", dtype="datetime", missing=True),
    ),
    outputs=(Field(name="income", kind="category", dtype="str", values=("<=50K", ">50K")),),
    probabilities=True,
)
TENSOR = Signature(
    task="regression",
    inputs=(Field(name="x", kind="tensor", dtype="uint8", shape=(2, -1)),),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)


@pytest.fixture
def api() -> dict[str, Any]:
    models = [Described("income", 3, SIGNATURE, True), Described("pix-el.v2", 1, TENSOR, False)]
    return json.loads(json.dumps(document(models, "1.2.3")))


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_every_reference_leads_somewhere(api: dict[str, Any]) -> None:
    assert api["openapi"] == "3.1.0"
    found = references(api)
    assert found
    assert {ref.removeprefix("#/components/schemas/") for ref in found} <= set(api["components"]["schemas"])


def test_operation_ids_are_unique_words(api: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in api["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)


def test_models_and_the_default_have_paths(api: dict[str, Any]) -> None:
    assert {"/predict", "/models/income/predict", "/models/income/versions/3/predict"} <= set(api["paths"])
    assert {"/models/pix-el.v2/predict", "/models", "/healthz", "/readyz", "/metrics"} <= set(api["paths"])


def test_fields_are_typed(api: dict[str, Any]) -> None:
    by_name, in_order = api["components"]["schemas"]["income.Row"]["oneOf"]
    columns = by_name["properties"]
    assert by_name["required"] == ["age", "city", "member"]
    assert by_name["additionalProperties"] is False
    assert columns["age"]["type"] == "number"
    assert "17 to 90" in columns["age"]["description"]
    assert columns["job"]["enum"] == ["cook", "nurse", None]
    assert columns["job"]["type"] == ["string", "null"]
    assert "enum" not in columns["city"]
    assert columns["since"]["type"] == ["string", "number", "null"]
    assert len(in_order["prefixItems"]) == in_order["minItems"] == in_order["maxItems"] == 5
    row = api["components"]["schemas"]["pix-el.v2.Row"]["oneOf"][1]
    assert (row["minItems"], row["items"]["items"]["type"]) == (2, "integer")


def test_answers_are_typed(api: dict[str, Any]) -> None:
    one, several = api["components"]["schemas"]["income.Answer"]["oneOf"]
    assert one["properties"]["prediction"]["enum"] == ["<=50K", ">50K"]
    assert one["properties"]["probabilities"]["required"] == ["<=50K", ">50K"]
    assert several["properties"]["predictions"]["type"] == "array"


@pytest.mark.parametrize(("name", "signature"), [("income", SIGNATURE), ("pix-el.v2", TENSOR)])
def test_every_example_is_accepted_by_the_codec(api: dict[str, Any], name: str, signature: Signature) -> None:
    body = api["paths"][f"/models/{name}/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["examples"]) == {"object", "list", "rows"}
    for example in body["examples"].values():
        NativeCodec(signature).decode(json.dumps(example["value"]).encode(), "id")


def test_errors_are_documented(api: dict[str, Any]) -> None:
    responses = api["paths"]["/models/income/predict"]["post"]["responses"]
    assert {"200", "400", "404", "413", "415", "422", "500", "503"} == set(responses)


def test_operation_ids_differ_where_names_nearly_do_not() -> None:
    names = ["m", "m-v1", "m_v1", "m.v1", "a-b", "a.b", "a_b", "default", "version1-m"]
    ids = [operation_id(name, verb) for name in names for verb in ("predict", "predictVersion1")]
    assert len(set(ids) | {"predictDefault"}) == 2 * len(names) + 1
