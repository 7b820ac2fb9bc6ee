"""What an OpenAPI document says of keys and certificates."""

from typing import Any

import pytest

from servable.protocols.openapi_security import CertificateUse, guarded
from servable.server.certificates import certificate_use
from servable.settings import ServerSettings

DOCUMENT: dict[str, Any] = {
    "components": {},
    "paths": {"/predict": {"post": {"responses": {"200": {}}}}, "/healthz": {"get": {"responses": {}}}},
}


@pytest.mark.parametrize(
    ("settings", "use", "wanted"),
    [
        ({}, "none", [{"bearer": []}, {"apiKey": []}]),
        # Whoever shows one is let in, and needs a key all the same.
        ({"tls_client_ca": "ca.pem"}, "none", [{"bearer": []}, {"apiKey": []}]),
        (
            {"tls_client_ca": "ca.pem", "tls_client_auth": "require"},
            "beside",
            [{"bearer": [], "mutualTLS": []}, {"apiKey": [], "mutualTLS": []}],
        ),
        (
            {"tls_client_ca": "ca.pem", "tls_client_map": "map.toml"},
            "enough",
            [{"bearer": []}, {"apiKey": []}, {"mutualTLS": []}],
        ),
    ],
)
def test_what_certificates_are_to_a_server(
    settings: dict[str, Any], use: CertificateUse, wanted: list[Any]
) -> None:
    assert certificate_use(ServerSettings(**settings)) == use
    made = guarded(DOCUMENT, ["/healthz"], use)
    assert made["paths"]["/predict"]["post"]["security"] == wanted
    assert "security" not in made["paths"]["/healthz"]["get"]
    named = {name for each in wanted for name in each}
    assert set(made["components"]["securitySchemes"]) == named
