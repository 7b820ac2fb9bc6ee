"""The description of the Open Inference Protocol is whole and leads nowhere else."""

import json
from typing import Any

from protocols.test_openapi import references
from servable.protocols.openapi_oip import oip_document


def test_every_reference_leads_somewhere() -> None:
    api: dict[str, Any] = json.loads(json.dumps(oip_document()))
    found = {each.removeprefix("#/components/schemas/") for each in references(api)}
    assert found == set(api["components"]["schemas"])


def test_operations_are_unique_and_every_parameter_is_declared() -> None:
    names = []
    for path, operations in oip_document()["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            declared = {parameter["name"] for parameter in operation["parameters"]}
            assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}
    assert len(names) == len(set(names)) == 9


def test_names_can_be_held_to_what_is_served() -> None:
    document = oip_document(["iris"], ["1"])
    (model, version) = document["paths"]["/v2/models/{model_name}/versions/{model_version}"]["get"][
        "parameters"
    ]
    assert (model["schema"]["enum"], version["schema"]["enum"]) == (["iris"], ["1"])
