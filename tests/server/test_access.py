"""Every address and every verb against every kind of key: what the policy says, and nothing else."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from servable.clock import SystemClock
from servable.errors import SettingInvalid
from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.security.scopes import parse_scopes
from servable.server.app import Application
from servable.server.exposure import check_exposure
from servable.server.formats.base import OpenRoute
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
WRONG = ("none", "wrong", "near", "expired", "revoked")


class Scene(NamedTuple):
    """A server of a home with keys.

    Attributes:
        application: of it.
        headers: by the kind of key, or its scope.
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
    headers = {kind: {"authorization": f"Bearer {text}"} for kind, text in texts.items()} | {"none": {}}
    return home, headers


Walk = Callable[[Callable[[httpx.AsyncClient, Scene], Any]], Any]


@pytest.fixture
def walk(keyed: tuple[Path, dict[str, dict[str, str]]]) -> Walk:
    """Runs a coroutine function against the application."""
    home, headers = keyed

    def run(course: Callable[[httpx.AsyncClient, Scene], Any]) -> Any:
        async def inside() -> Any:
            settings = ServerSettings(
                home=str(home), health_route="/health-of-vertex", predict_route="/predict-of-vertex"
            )
            host = Host(RegistrySource(home), Metrics("1"), settings)
            application = Application(host, settings, "1")
            await host.reconcile()
            transport = httpx.ASGITransport(application)
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


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_opens_what_its_scope_says_and_nothing_else(walk: Walk, scope: str) -> None:
    met = SCOPES[scope]

    async def course(client: httpx.AsyncClient, scene: Scene) -> None:
        routes = {(verb, route.path) for route in scene.application.routes for verb in route.methods or ()}
        for verb, path in sorted(routes | {("POST", path) for path in DOORS}):
            need = POLICY_OF_VERBS.get((verb, path)) or POLICY.get(path, "predict").removesuffix(" by body")
            headers = scene.headers[scope]
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
        assert asked["security"] == [{"bearer": []}, {"apiKey": []}]
        assert {"401", "403"} <= set(asked["responses"])
        assert "security" not in document["paths"]["/readyz"]["get"]
        assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}

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
