"""Every address and every verb against every kind of key, token and certificate: what the policy says."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from security.issuing import AUDIENCE, ISSUER, Issuer
from servable.clock import SystemClock
from servable.errors import SettingInvalid
from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.security.certificates import NO_PEER, Peer
from servable.security.scopes import parse_scopes
from servable.server.app import Application
from servable.server.exposure import check_exposure
from servable.server.formats.base import OpenRoute
from servable.server.http import PEER
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.settings import ServerSettings
from servable.testing import FakeClock
from serving.making import publish_iris

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
#: What a caller needs at each address that is no door; ``any`` valid key, ``sign`` none at all.
POLICY: dict[str, str] = {
    "/": "sign",
    "/healthz": "sign",
    "/readyz": "sign",
    "/health-of-vertex": "sign",
    "/ping": "sign",
    "/health": "sign",
    "/v2/health/live": "sign",
    "/v2/health/ready": "sign",
    "/metrics": "read *",
    "/monitoring/prometheus/metrics": "read *",
    "/openapi.json": "any",
    "/openapi-formats.json": "any",
    "/docs": "any",
    "/docs/static/{name}": "any",
    "/version": "any",
    "/models": "any",
    "/v1/models": "any",
    "/openai/v1/models": "any",
    "/v3/models": "any",
    "/models/{name}": "see",
    "/models/{name}/report": "read",
    "/models/{name}/feedback": "feedback",
    "/models/{name}/ping": "see",
    "/models/{name}/health": "see",
    "/models/{name}/version": "see",
    "/explanations/{name}": "see",
    "/explanations/{name}/{version}": "see",
    "/openai/v1/models/{name}": "see",
    "/v3/models/{name}": "see",
    "/v2": "any",
    "/v2/": "any",
    "/v2/models": "any",
    "/v2/models/stats": "any",
    "/v2/logging": "any",
    "/v2/trace/setting": "any",
    "/v2/repository/index": "any",
    "/v2/repository/{repository}/index": "any",
    "/v2/repository/models/{name}/load": "deploy",
    "/v2/repository/models/{name}/unload": "deploy",
    "/v2/repository/{repository}/models/{name}/load": "deploy",
    "/v2/repository/{repository}/models/{name}/unload": "deploy",
}
for _prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
    POLICY |= {
        _prefix: "see",
        f"{_prefix}/ready": "see",
        f"{_prefix}/config": "see",
        f"{_prefix}/stats": "read",
    }
    POLICY[f"{_prefix}/trace/setting"] = "any"
for _kind in ("system", "cuda"):
    POLICY[f"/v2/{_kind}sharedmemory/status"] = "any"
    POLICY[f"/v2/{_kind}sharedmemory/unregister"] = "any"
    for _verb in ("register", "unregister"):
        POLICY[f"/v2/{_kind}sharedmemory/region/{{region}}/{_verb}"] = "any"
for _prefix in (
    "/v1/models/{name}",
    "/v1/models/{name}/versions/{version}",
    "/v1/models/{name}/labels/{label}",
):
    POLICY |= {_prefix: "see", f"{_prefix}:explain": "see", f"{_prefix}/metadata": "see"}
for _prefix in ("/v1", "/openai/v1", "/v3"):
    for _path in ("/embeddings", "/completions", "/chat/completions"):
        POLICY[_prefix + _path] = "predict by body"
#: The same where it depends on the verb.
POLICY_OF_VERBS = {("POST", "/models"): "deploy", ("DELETE", "/models/{name}"): "deploy"}
#: An address at every door; at each of them a caller must be allowed to predict.
DOORS = (
    "/models/iris/predict",
    "/models/iris/versions/1/predict",
    "/models/iris@champion/predict",
    "/predict",
    "/models/iris/stream",
    "/stream",
    "/v2/models/iris/infer",
    "/v2/models/iris/versions/1/infer",
    "/v2/models/iris/generate",
    "/v2/models/iris/generate_stream",
    "/v1/models/iris:predict",
    "/v1/models/iris/versions/1:predict",
    "/v1/models/iris/labels/champion:predict",
    "/v1/models/iris:classify",
    "/v1/models/iris:regress",
    "/predictions/iris",
    "/predictions/iris/1.0",
    "/predict-of-vertex",
    "/invocations",
    "/models/iris/invocations",
    "/models/iris/invoke",
)
#: Scopes of keys, each with the needs that it meets for ``iris``.
SCOPES: dict[str, frozenset[str]] = {
    "predict:iris": frozenset({"any", "see", "predict"}),
    "feedback:ir*": frozenset({"any", "see", "feedback"}),
    "read:iris": frozenset({"any", "see", "read"}),
    "read": frozenset({"any", "see", "read", "read *"}),
    "deploy:iris": frozenset({"any", "see", "read", "deploy"}),
    "admin": frozenset({"any", "see", "read", "read *", "deploy", "predict", "feedback"}),
    "admin:other": frozenset({"any"}),
}
#: The same for callers who are told otherwise than by keys: their tokens, or the names in their certificates.
OTHERWISE = {
    "token predict:iris": "predict:iris",
    "token read:*": "read",
    "token of no scope": "admin:other",
    "certificate feedback:ir*": "feedback:ir*",
    "certificate admin": "admin",
    "certificate admin:other": "admin:other",
}
#: What tokens cannot say so that it counts: see ``security.issuing`` for all forgeries.
FORGED = ("HS256 with pem as rsa", "an attacker's key", "expired")
WRONG = (
    *("none", "wrong", "near", "expired", "revoked"),
    *(f"token: {kind}" for kind in FORGED),
    *("certificate expired", "certificate unknown", "certificate and a wrong key"),
)
MINE, OTHER = Issuer(), Issuer()
#: Stands for the connection of a request: the names in the certificate that was shown there.
CONNECTION = "test-connection"
PEERS = {
    **{kind: Peer((f"cn:{kind}",), float("inf")) for kind in OTHERWISE},
    "certificate expired": Peer(("cn:certificate admin",), 1.0),
    "certificate unknown": Peer(("cn:nobody",), float("inf")),
    "certificate and a wrong key": Peer(("cn:certificate admin",), float("inf")),
}


class Scene(NamedTuple):
    """A server of a home with keys.

    Attributes:
        application: of it.
        headers: by the kind of caller, or its scope.
    """

    application: Application
    headers: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """A home with one model and every kind of key."""
    home = tmp_path_factory.mktemp("keyed") / "home"
    publish_iris(home, report=b"<!doctype html><title>report</title>")
    with open_home(home) as place:
        place.models.set_alias("iris", "champion", 1)
        made = {scope: place.keys.create(f"k{at}", parse_scopes([scope])) for at, scope in enumerate(SCOPES)}
        gone = place.keys.create("gone", parse_scopes(["admin"]))
        place.keys.revoke("gone")
        valid = made["admin"].text
    early = FakeClock(SystemClock().now().replace(year=2020))
    with open_home(home, clock=early) as place:
        late = place.keys.create("late", parse_scopes(["admin"]), timedelta(days=90))
    texts = {scope: key.text for scope, key in made.items()} | {
        "wrong": "secret",
        "near": valid[:-9] + ("A" if valid[-9] != "A" else "B") + valid[-8:],
        "expired": late.text,
        "revoked": gone.text,
    }
    (home / "jwks.json").write_bytes(MINE.jwks)
    (home / "ca.pem").touch()
    grants = {f"cn:{kind}": scope for kind, scope in OTHERWISE.items()}
    (home / "clients.json").write_text(json.dumps(grants))
    forged = MINE.forged(OTHER, "http://127.0.0.1:1")
    texts |= {f"token: {kind}": forged[kind] for kind in FORGED}
    texts |= {
        "token predict:iris": MINE.token(scope="openid predict:iris"),
        "token read:*": MINE.token("RS256", scope="read:*"),
        "token of no scope": MINE.token("EdDSA", scope="read admin"),
    }
    headers = {kind: {"authorization": f"Bearer {text}"} for kind, text in texts.items()} | {"none": {}}
    headers |= {kind: {CONNECTION: kind} for kind in PEERS if kind not in headers}
    headers["certificate and a wrong key"] |= headers["wrong"]
    return home, headers


def connected(application: Application) -> Any:
    """The application behind connections of which some showed certificates."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope["headers"]).get(CONNECTION.encode(), b"").decode()
        await application({**scope, PEER: PEERS.get(name, NO_PEER)}, receive, send)

    return called


Walk = Callable[[Callable[[httpx.AsyncClient, Scene], Any]], Any]


@pytest.fixture
def walk(keyed: tuple[Path, dict[str, dict[str, str]]]) -> Walk:
    """Runs a coroutine function against the application."""
    home, headers = keyed

    def run(course: Callable[[httpx.AsyncClient, Scene], Any]) -> Any:
        async def inside() -> Any:
            settings = ServerSettings(
                home=str(home),
                health_route="/health-of-vertex",
                predict_route="/predict-of-vertex",
                oidc_issuer=ISSUER,
                oidc_audience=AUDIENCE,
                oidc_jwks=str(home / "jwks.json"),
                tls_client_ca=str(home / "ca.pem"),
                tls_client_map=str(home / "clients.json"),
            )
            host = Host(RegistrySource(home), Metrics("1"), settings)
            application = Application(host, settings, "1")
            await host.reconcile()
            transport = httpx.ASGITransport(connected(application))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                try:
                    return await course(client, Scene(application, headers))
                finally:
                    await application.audit.close()
                    application.authentication.close()
                    await host.close()

        return asyncio.run(inside())

    return run


def address(path: str) -> str:
    return (
        path.replace("{name}", "iris" if "static" not in path else "swagger-ui.css")
        .replace("{version}", "1")
        .replace("{label}", "champion")
        .replace("{repository}", "main")
        .replace("{region}", "r")
    )


def body_at(path: str) -> dict[str, Any]:
    if POLICY.get(path) == "predict by body":
        return {"json": {"model": "iris", "input": "text", "prompt": "text", "messages": []}}
    return {"json": {"model_name": "iris"} if path == "/models" else {}}


def test_every_address_has_a_policy(walk: Walk) -> None:
    async def course(_: httpx.AsyncClient, scene: Scene) -> None:
        paths = {route.path for route in scene.application.routes}
        assert paths == set(POLICY)
        signs = {route.path for route in scene.application.routes if isinstance(route, OpenRoute)}
        assert signs == {path for path, need in POLICY.items() if need == "sign"}
        for door in scene.application.doors:
            assert any(door.pattern.fullmatch(path) for path in DOORS), door.pattern

    walk(course)


@pytest.mark.parametrize("kind", WRONG)
def test_without_a_valid_key_nothing_but_signs_of_life_is_answered(walk: Walk, kind: str) -> None:
    async def course(client: httpx.AsyncClient, scene: Scene) -> None:
        needs = [(path, need) for path, need in POLICY.items()] + [(path, "predict") for path in DOORS]
        for path, need in [*needs, ("/nothing/here", "any")]:
            for verb in VERBS:
                answer = await client.request(
                    verb, address(path), headers=scene.headers[kind], **body_at(path)
                )
                if need == "sign":
                    assert answer.status_code in (200, 405), (verb, path)
                    assert "iris" not in answer.text
                    continue
                assert answer.status_code == 401, (verb, path)
                assert answer.headers["www-authenticate"] == 'Bearer realm="servable"'
                assert "iris" not in answer.text

    walk(course)


@pytest.mark.parametrize("kind", [*SCOPES, *OTHERWISE])
def test_a_caller_gets_what_the_scope_says_and_nothing_else(walk: Walk, kind: str) -> None:
    met = SCOPES[OTHERWISE.get(kind, kind)]

    async def course(client: httpx.AsyncClient, scene: Scene) -> None:
        routes = {(verb, route.path) for route in scene.application.routes for verb in route.methods or ()}
        for verb, path in sorted(routes | {("POST", path) for path in DOORS}):
            need = POLICY_OF_VERBS.get((verb, path)) or POLICY.get(path, "predict").removesuffix(" by body")
            headers = scene.headers[kind]
            answer = await client.request(verb, address(path), headers=headers, **body_at(path))
            said = (verb, path, answer.status_code, answer.text)
            if need in ("sign", *met):
                assert answer.status_code not in (401, 403), said
            elif "see" in met or need == "read *":
                assert answer.status_code == 403, said
            else:
                # To whoever may do nothing with a model it does not exist.
                assert answer.status_code in ((404,) if verb != "POST" else (400, 404, 405)), said

    walk(course)


def test_a_model_that_one_does_not_see_answers_like_one_that_is_not_there(walk: Walk) -> None:
    async def course(client: httpx.AsyncClient, scene: Scene) -> None:
        for path in ("/models/{}/predict", "/v2/models/{}/infer", "/v1/models/{}:predict", "/predictions/{}"):
            answers = []
            for name in ("iris", "siri"):
                answer = await client.post(
                    path.format(name), headers=scene.headers["admin:other"] | {"x-request-id": "one"}, json={}
                )
                answers.append((answer.status_code, answer.text.replace(name, "NAME")))
            assert answers[0] == answers[1]
        listed = (await client.get("/models", headers=scene.headers["admin:other"])).json()
        assert listed == {"models": [], "default": None}
        document = await client.get("/openapi.json", headers=scene.headers["admin:other"])
        assert "iris" not in document.text
        document = await client.get("/openapi.json", headers=scene.headers["predict:iris"])
        assert "/models/iris/predict" in document.json()["paths"]

    walk(course)


def test_the_document_says_which_key_is_wanted(walk: Walk) -> None:
    async def course(client: httpx.AsyncClient, scene: Scene) -> None:
        document = (await client.get("/openapi.json", headers=scene.headers["admin"])).json()
        jsonschema_rs.validator_for(OPENAPI_31).validate(document)
        asked = document["paths"]["/models/iris/predict"]["post"]
        # The server knows certificates as well.
        assert asked["security"] == [{"bearer": []}, {"apiKey": []}, {"mutualTLS": []}]
        assert {"401", "403"} <= set(asked["responses"])
        assert "security" not in document["paths"]["/readyz"]["get"]
        assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey", "mutualTLS"}

    walk(course)


def test_a_person_is_asked_for_the_key_by_the_browser(walk: Walk) -> None:
    async def course(client: httpx.AsyncClient, scene: Scene) -> None:
        page = {"accept": "text/html"}
        for path in ("/", "/docs"):
            answer = await client.get(path, headers=page)
            assert answer.status_code == 401
            assert "Basic" in answer.headers["www-authenticate"]
            key = scene.headers["admin"]["authorization"].removeprefix("Bearer ")
            assert (await client.get(path, headers=page, auth=("any", key))).status_code == 200
            # A page of somebody else must not act with what the browser remembers.
            for site, status in (("cross-site", 401), ("same-site", 401), ("same-origin", 200)):
                foreign = page | {"sec-fetch-site": site}
                assert (await client.get(path, headers=foreign, auth=("any", key))).status_code == status

    walk(course)


def test_other_headers_with_the_key(walk: Walk) -> None:
    async def course(client: httpx.AsyncClient, scene: Scene) -> None:
        key = scene.headers["admin"]["authorization"].removeprefix("Bearer ")
        for headers in ({"x-api-key": key}, {"authorization": f"bearer {key}"}, {"authorization": key}):
            assert (await client.get("/metrics", headers=headers)).status_code == 200
        for headers in (
            {"x-api-key": ""},
            {"authorization": ""},
            {"authorization": "Basic !!!"},
            {"authorization": f"Digest {key}"},
            {"authorization": f"Bearer {key}, Bearer {key}"},
            {"authorization": "Bearer wrong", "x-api-key": key},
        ):
            assert (await client.get("/metrics", headers=headers)).status_code == 401, headers

    walk(course)


def test_a_server_that_others_reach_wants_keys(home: Path, keyed: tuple[Path, Any]) -> None:
    publish_iris(home)
    check_exposure(ServerSettings(home=str(home)))
    check_exposure(ServerSettings(home=str(home), host="0.0.0.0", insecure=True))
    check_exposure(ServerSettings(home=str(keyed[0]), host="0.0.0.0"))
    with pytest.raises(SettingInvalid, match="servable keys create"):
        check_exposure(ServerSettings(home=str(home), host="0.0.0.0"))


def test_an_address_that_tries_keys_is_told_to_wait_and_valid_keys_behind_it_are_not(walk: Walk) -> None:
    async def course(_: httpx.AsyncClient, scene: Scene) -> None:
        transport = httpx.ASGITransport(scene.application, client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as away:
            found = [
                (await away.get("/models", headers=scene.headers["wrong"])).status_code for _ in range(70)
            ]
            assert found[:60] == [401] * 60
            assert found[-5:] == [429] * 5
            told = await away.get("/models", headers=scene.headers["near"])
            assert told.json()["error"]["code"] == "too_many_failures"
            assert int(told.headers["retry-after"]) >= 1
            # Whoever shows none tries none.
            assert (await away.get("/models")).status_code == 401
            assert (await away.get("/models", headers=scene.headers["admin"])).status_code == 200
            assert (await away.get("/readyz", headers=scene.headers["wrong"])).status_code == 200

    walk(course)
