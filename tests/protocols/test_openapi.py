"""The OpenAPI document agrees with the codec."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.definitions import OPENAPI_31

from protocols.client_signatures import ALL, signatures
from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid
from servable.protocols.native import NativeCodec
from servable.protocols.openapi import Described, document, operation_id
from thoroughness import examples

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
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def target(api: dict[str, Any], reference: str) -> Any:
    found: Any = api
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_every_reference_leads_somewhere(api: dict[str, Any]) -> None:
    assert api["openapi"] == "3.1.0"
    found = set(references(api))
    assert all(isinstance(target(api, reference), dict) for reference in found)
    declared = {f"#/components/{kind}/{name}" for kind, named in api["components"].items() for name in named}
    assert declared - found == set()


def documents() -> dict[str, Any]:
    every = [Described(name, 3, signature, name == "credit") for name, signature in ALL.items()]
    found: dict[str, Any] = json.loads(json.dumps(document(every, "1.2.3")))
    return found


def validator(api: dict[str, Any], schema: dict[str, Any]) -> Any:
    """A validator of a schema of the document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": api["components"]})


def assert_valid(api: dict[str, Any]) -> None:
    """The document is OpenAPI 3.1, its schemas are JSON schemas, and its examples fit them."""
    jsonschema_rs.validator_for(OPENAPI_31).validate(api)
    assert [each for each in api["components"]["schemas"] if not re.fullmatch(r"[A-Za-z0-9._-]+", each)] == []
    for each in nodes(api["components"]["schemas"]):
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **each})
        for example in each.get("examples", ()):
            validator(api, each).validate(example)
    for path in api["paths"].values():
        for operation in path.values():
            content = operation.get("requestBody", {}).get("content", {})
            body = content.get("application/json", {"examples": {}})
            for example in body["examples"].values():
                validator(api, body["schema"]).validate(example["value"])


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema within schemas; a column may be named like a keyword, so names are told from them."""
    for each in node.values():
        yield each
        inner = [each[key] for key in ("items", "additionalProperties") if isinstance(each.get(key), dict)]
        listed = [part for key in ("oneOf", "anyOf", "prefixItems") for part in each.get(key, ())]
        yield from nodes(dict(enumerate([*inner, *listed])))
        yield from nodes(each.get("properties", {}))


def test_the_document_is_valid_for_models_of_every_form() -> None:
    assert_valid(documents())


@settings(max_examples=examples(50), deadline=None)
@given(signatures())
def test_the_document_is_valid_for_any_signature(signature: Signature) -> None:
    assert_valid(json.loads(json.dumps(document([Described("any", 1, signature, True)], "1"))))


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), signatures())
def test_what_the_schema_takes_the_codec_takes(data: st.DataObject, signature: Signature) -> None:
    if not signature.inputs:
        return
    row = {
        field.name: data.draw(values_of(field))
        for field in signature.inputs
        if not field.missing or field.kind == "tensor" or data.draw(st.booleans())
    }
    api = json.loads(json.dumps(document([Described("any", 1, signature, True)], "1")))
    for content in ({"input": row}, {"inputs": [row, row]}):
        fits = validator(api, api["components"]["schemas"]["any.Request"]).is_valid(content)
        assert fits is accepted(signature, content), content


def accepted(signature: Signature, content: Any) -> bool:
    try:
        NativeCodec(signature).decode(json.dumps(content).encode(), "id")
    except RequestInvalid:
        return False
    return True


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Values of which some fit a field and some do not."""
    if field.kind == "tensor":
        cells = st.sampled_from((0, 1, 255, 256, 1.5, True, "a"))
        for size in reversed(field.shape):
            cells = st.lists(cells, min_size=max(size, 1), max_size=max(size, 1))
        return cells
    own = st.sampled_from(field.values) if field.values else st.just("a")
    # Where a value may be missing an empty text says so, too, which no schema needs to offer.
    empty = () if field.missing else ("",)
    others = (None, *empty, "a", 1, 1.5, True, 2**70, "2026-01-31", "2026-02-30")
    return st.one_of(own, st.sampled_from(others))


def test_operation_ids_are_unique_words(api: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in api["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)


def test_models_and_the_default_have_paths(api: dict[str, Any]) -> None:
    assert {"/predict", "/models/income/predict", "/models/income/versions/3/predict"} <= set(api["paths"])
    assert {"/models/pix-el.v2/predict", "/models", "/healthz", "/readyz", "/metrics"} <= set(api["paths"])


def schema(api: dict[str, Any], name: str) -> dict[str, Any]:
    """A schema whose outermost reference is followed."""
    found: dict[str, Any] = api["components"]["schemas"][name]
    return schema(api, found["$ref"].rpartition("/")[2]) if "$ref" in found else found


def test_fields_are_typed(api: dict[str, Any]) -> None:
    by_name, in_order = schema(api, "income.RowByName"), schema(api, "income.RowInOrder")
    columns = by_name["properties"]
    assert by_name["required"] == ["age", "city", "member"]
    assert by_name["additionalProperties"] is False
    assert columns["age"]["type"] == "number"
    assert "17 to 90" in columns["age"]["description"]
    assert columns["job"] == {"$ref": "#/components/schemas/income.Input.job"}
    job = schema(api, "income.Input.job")
    assert (job["enum"], job["type"]) == (["cook", "nurse", "", None], ["string", "null"])
    assert "enum" not in columns["city"]
    assert columns["since"]["type"] == ["string", "number", "null"]
    assert len(in_order["prefixItems"]) == in_order["minItems"] == in_order["maxItems"] == 5
    assert in_order["prefixItems"][1]["$ref"] == columns["job"]["$ref"]
    row = schema(api, "pix-el.v2.RowInOrder")
    assert (row["minItems"], row["items"]["items"]["type"]) == (2, "integer")


def test_answers_are_typed(api: dict[str, Any]) -> None:
    one, several = schema(api, "income.OneAnswer"), schema(api, "income.SeveralAnswers")
    assert one["properties"]["prediction"] == {"$ref": "#/components/schemas/income.Label"}
    assert schema(api, "income.Label")["enum"] == ["<=50K", ">50K"]
    assert schema(api, "income.Probabilities")["required"] == ["<=50K", ">50K"]
    assert several["properties"]["predictions"]["type"] == "array"


@pytest.mark.parametrize(("name", "signature"), [("income", SIGNATURE), ("pix-el.v2", TENSOR)])
def test_every_example_is_accepted_by_the_codec(api: dict[str, Any], name: str, signature: Signature) -> None:
    body = api["paths"][f"/models/{name}/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["examples"]) == {"object", "list", "rows"}
    for example in body["examples"].values():
        NativeCodec(signature).decode(json.dumps(example["value"]).encode(), "id")


def test_errors_are_documented(api: dict[str, Any]) -> None:
    responses = api["paths"]["/models/income/predict"]["post"]["responses"]
    errors = (400, 403, 404, 405, 406, 408, 413, 415, 421, 422, 429, 431, 500, 503, 504)
    assert set(responses) == {"200", *map(str, errors)}
    assert "Allow" in responses["405"]["headers"]
    for path in ("/models", "/models/{name}", "/models/{name}/report", "/healthz", "/readyz", "/metrics"):
        described = api["paths"][path]["get"]["responses"]
        assert {"200", "405", "421", "500"} <= set(described)
        assert all(content["schema"] for each in described.values() for content in each["content"].values())


def test_a_caller_may_choose_a_version_or_stay_with_one() -> None:
    models = [
        Described("income", 3, SIGNATURE, True, True, versions=(3, 4), key="X-Customer"),
        Described("pixel", 1, TENSOR, False, key="x-request-id"),
    ]
    api = json.loads(json.dumps(document(models, "1")))

    def sent(path: str) -> dict[str, Any]:
        parameters = api["paths"][path]["post"]["parameters"]
        return {each["name"]: each for each in (target(api, each["$ref"]) for each in parameters)}

    for path in ("/predict", "/models/income/predict", "/models/income/versions/3/predict",
                 "/models/income/stream", "/stream"):  # fmt: skip
        assert sent(path)["X-Servable-Version"]["schema"] == {"type": "integer", "enum": [3, 4]}
        assert sent(path)["X-Customer"]["schema"] == {"type": "string"}
        assert not any(each["required"] for each in sent(path).values())
    pixel = sent("/models/pixel/predict")
    assert pixel["X-Servable-Version"]["schema"]["enum"] == [1]
    # A header that is listed already is not listed twice.
    assert sorted(pixel) == [
        "X-Request-Id", "X-Request-Priority", "X-Request-Timeout-Ms", "X-Servable-Version",
    ]  # fmt: skip
    alone = document([Described("m", 1, TENSOR, False)], "1")["components"]["parameters"]
    assert alone["m.Key"]["name"] == "X-Servable-Key"


def test_the_headers_that_name_who_answered_are_documented(api: dict[str, Any]) -> None:
    responses = api["paths"]["/models/income/predict"]["post"]["responses"]
    assert {"X-Model-Name", "X-Model-Version"} <= set(responses["200"]["headers"])
    named = {status for status, each in responses.items() if "X-Servable-Version" in each["headers"]}
    assert named == {"422", "500", "503", "504"}
    version = target(api, responses["500"]["headers"]["X-Servable-Version"]["$ref"])
    assert version["schema"] == {"type": "integer", "minimum": 1}


def test_a_mounted_server_says_where_it_is() -> None:
    assert document([], "1")["servers"] == [{"url": "/"}]
    assert document([], "1", "/ml")["servers"] == [{"url": "/ml"}]


def test_operation_ids_differ_where_names_nearly_do_not() -> None:
    names = ["m", "m-v1", "m_v1", "m.v1", "a-b", "a.b", "a_b", "default", "version1-m"]
    ids = [operation_id(name, verb) for name in names for verb in ("predict", "predictVersion1")]
    assert len(set(ids) | {"predictDefault"}) == 2 * len(names) + 1
