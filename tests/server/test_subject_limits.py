"""Limits of callers who show a token or a certificate, over REST and gRPC."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

import grpc
import servable
from security.issuing import AUDIENCE, ISSUER, Issuer
from servable.errors import SettingInvalid
from servable.protocols.oip_messages import PACKAGE, SERVICE
from servable.registry.home import open_home
from servable.security.callers import Caller
from servable.security.limits import NO_LIMITS, Limits, Rate
from servable.server.identities import subject_limits
from servable.settings import ServerSettings
from servable.workflows.certificates import development_certificate
from serving.making import COLUMNS, publish_iris

MINE = Issuer()
ROW = dict(zip(COLUMNS, [5.1, 3.5, 1.4, 0.2], strict=True))
MAP = """
"cn:mobile" = {scopes = ["predict:iris"], rate = "2/h"}
"cn:batch" = ["predict:iris"]
"""


class Scene:
    """A running server that takes tokens and certificates.

    Attributes:
        url: of it.
        ca: the authority of its certificate.
        clients: files of the certificates of clients, by their common names.
        home: of the server.
    """

    def __init__(self, url: str, ca: str, clients: dict[str, str], home: Path) -> None:
        self.url, self.ca, self.clients, self.home = url, ca, clients, home

    def statuses(self, tries: int, token: str = "", cert: str = "") -> list[int]:
        trust = ssl.create_default_context(cafile=self.ca)
        if cert:
            trust.load_cert_chain(self.clients[cert])
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(verify=trust, base_url=self.url, headers=headers) as client:
            answers = [client.post("/models/iris/predict", json={"input": ROW}) for _ in range(tries)]
        self.last = answers[-1]
        return [answer.status_code for answer in answers]

    def call(self, token: str) -> grpc.StatusCode:
        credentials = grpc.ssl_channel_credentials(Path(self.ca).read_bytes())
        with grpc.secure_channel(self.url.removeprefix("https://"), credentials) as channel:
            ask = channel.unary_unary(f"/{PACKAGE}.{SERVICE}/ServerMetadata")
            try:
                ask(b"", metadata=[("authorization", f"Bearer {token}")], timeout=20)
            except grpc.RpcError as error:
                return error.code()  # type: ignore[no-any-return]
        return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("subjects")
    publish_iris(folder / "home")
    made = development_certificate(clients=["mobile", "batch"], out=folder / "tls")
    (folder / "jwks.json").write_bytes(MINE.jwks)
    (folder / "map.toml").write_text(MAP)
    given: dict[str, Any] = {
        "oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks": str(folder / "jwks.json"),
        "oidc_limits_claim": "limits", "rate_per_subject": "3/h", "quota_per_subject": "50/day",
        "tls_cert": made.cert, "tls_key": made.key, "tls_client_ca": made.ca,
        "tls_client_map": str(folder / "map.toml"),
    }  # fmt: skip
    with servable.serve(home=folder / "home", port=0, background=True, **given) as server:
        clients = dict(zip(("mobile", "batch"), (each.cert for each in made.clients), strict=True))
        yield Scene(server.url, made.ca, clients, folder / "home")


def test_a_subject_has_one_limit_whatever_tokens_it_shows(scene: Scene) -> None:
    assert scene.statuses(2, MINE.token(sub="anna")) == [200, 200]
    assert scene.statuses(3, MINE.token("EdDSA", sub="anna")) == [200, 429, 429]
    told = scene.last.json()["error"]
    assert told["code"] == "rate_limited"
    assert told["message"].startswith("This caller may send 3 requests an hour")
    assert scene.last.headers["ratelimit-policy"] == '"rate";q=3;w=3600'
    assert int(scene.last.headers["retry-after"]) > 1000
    # Over gRPC as well, and others have their own.
    assert scene.call(MINE.token(sub="anna")) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [scene.call(MINE.token(sub="ben")) for _ in range(4)] == [
        *[grpc.StatusCode.OK] * 3, grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]  # fmt: skip


def test_the_claim_that_the_settings_name_goes_before_them(scene: Scene) -> None:
    limits = {"rate": "100/s", "quota": "4/day"}
    assert scene.statuses(6, MINE.token(sub="cleo", limits=limits)) == [200] * 4 + [429] * 2
    assert scene.last.json()["error"]["code"] == "quota_exhausted"
    # Nobody is named where use is counted.
    with open_home(scene.home) as place, place.state.reading() as connection:
        for table, column in (("quota_use", "name"), ("limit_shares", "account")):
            names = [str(row[0]) for row in connection.execute(text(f"SELECT {column} FROM {table}"))]
            assert any(name.startswith("token:") for name in names)
            assert not any("cleo" in name for name in names)


def test_certificates_have_the_limits_of_the_file_or_those_of_all(scene: Scene) -> None:
    assert scene.statuses(3, cert="mobile") == [200, 200, 429]
    assert scene.statuses(4, cert="batch") == [200, 200, 200, 429]
    # A token that is shown is what counts.
    assert scene.statuses(1, MINE.token(sub="dora"), cert="mobile") == [200]


def test_the_document_says_that_a_certificate_is_enough(scene: Scene) -> None:
    headers = {"authorization": f"Bearer {MINE.token(sub='eve')}"}
    trust = ssl.create_default_context(cafile=scene.ca)
    document = httpx.get(f"{scene.url}/openapi.json", verify=trust, headers=headers).json()
    assert document["components"]["securitySchemes"]["mutualTLS"]["type"] == "mutualTLS"
    asked = document["paths"]["/models/iris/predict"]["post"]
    assert asked["security"] == [{"bearer": []}, {"apiKey": []}, {"mutualTLS": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_settings_of_all_subjects() -> None:
    assert subject_limits(ServerSettings()) == NO_LIMITS
    given = ServerSettings(rate_per_subject="5/s", quota_per_subject="1k/day", concurrency_per_subject=2)
    assert subject_limits(given) == Limits(Rate(5, 1), 1000, 2)
    for name in ("rate_per_subject", "quota_per_subject"):
        with pytest.raises(SettingInvalid, match=f"The setting {name}: 'often' is no"):
            subject_limits(ServerSettings(**{name: "often"}))


def test_accounts_are_apart_and_tell_nobody() -> None:
    limits = Limits(Rate(5, 1))
    anna = Caller("oidc:anna", (), limits, "token")
    assert Caller("oidc:anna", (), limits, "token").account == anna.account
    assert len({
        anna.account, Caller("oidc:ben", (), limits, "token").account,
        Caller("oidc:anna", (), limits, "certificate").account,
        Caller("oidc:anna", (), Limits(Rate(6, 1)), "token").account,
        Caller("oidc:anna", (), limits).account,
    }) == 5  # fmt: skip
    assert "anna" not in anna.account
    assert Caller("ci", (), limits).account == "ci"
