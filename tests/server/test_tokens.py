"""Tokens of OpenID Connect against running servers: forgeries over REST and gRPC, and keys that change."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import grpc
import servable
from security.issuing import AUDIENCE, ISSUER, Issuer
from servable.errors import ServerUnreachable, SettingInvalid
from servable.protocols.oip_messages import PACKAGE, SERVICE
from servable.registry.home import open_home
from servable.security.scopes import parse_scopes
from servable.security.tokens import Rules
from servable.server.authentication import Authentication
from servable.server.exposure import check_exposure
from servable.server.jwks import AddressKeys, FileKeys, check_address
from servable.server.tokens import NoTokens, SignedTokens, check_tokens, tokens_of
from servable.settings import ServerSettings
from servable.testing import FakeClock
from serving.making import COLUMNS, publish_iris

MINE, OTHER = Issuer(), Issuer()
ROW = dict(zip(COLUMNS, [5.1, 3.5, 1.4, 0.2], strict=True))
INVALID = "The API key or token is not valid here; ask whoever runs this server for another."


class Provider:
    """An issuer's web server, which counts who asks for what."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                status, body, headers = provider.answers.get(self.path, (404, b"", {}))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def gives(self, path: str, body: Any, status: int = 200, **headers: str) -> None:
        self.answers[path] = (status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


class Scene:
    """A running server that takes keys and tokens.

    Attributes:
        url: of it.
        attacker: a web server that nobody may ask.
    """

    def __init__(self, url: str, attacker: Provider) -> None:
        self.url, self.attacker = url, attacker

    def rest(self, token: str, url: str = "/models/iris/predict") -> httpx.Response:
        headers = {b"authorization": b"Bearer " + token.encode("utf-8")}
        return httpx.post(self.url + url, json={"input": ROW}, headers=headers)

    def call(self, token: str) -> tuple[grpc.StatusCode, str]:
        with grpc.insecure_channel(self.url.removeprefix("http://")) as channel:
            ask = channel.unary_unary(f"/{PACKAGE}.{SERVICE}/ServerMetadata")
            try:
                ask(b"", metadata=[("authorization", f"Bearer {token}")], timeout=20)
            except grpc.RpcError as error:
                return error.code(), error.details()
            return grpc.StatusCode.OK, ""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("tokens")
    publish_iris(folder / "home")
    keys = folder / "jwks.json"
    keys.write_bytes(MINE.jwks)
    attacker = Provider()
    given = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks": str(keys)}
    with servable.serve(home=folder / "home", port=0, background=True, **given) as server:
        yield Scene(server.url, attacker)
    attacker.close()


def test_forged_tokens_are_refused_over_rest_and_grpc_with_the_same_words(scene: Scene) -> None:
    forged = MINE.forged(OTHER, scene.attacker.url)
    assert len(forged) > 90
    with httpx.Client(base_url=scene.url) as client:
        for kind, token in forged.items():
            headers = {b"authorization": b"Bearer " + token.encode("utf-8")}
            answer = client.post("/models/iris/predict", json={"input": ROW}, headers=headers)
            assert answer.status_code == 401, kind
            assert INVALID in answer.text, kind
            assert answer.headers["www-authenticate"] == 'Bearer realm="servable"'
    with grpc.insecure_channel(scene.url.removeprefix("http://")) as channel:
        ask = channel.unary_unary(f"/{PACKAGE}.{SERVICE}/ServerMetadata")
        for kind, token in forged.items():
            with pytest.raises(grpc.RpcError) as caught:
                ask(b"", metadata=[("authorization", f"Bearer {token}")], timeout=20)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED, kind
            assert caught.value.details() == INVALID, kind
    assert not scene.attacker.asked


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_valid_tokens_open_what_their_scopes_say(scene: Scene, algorithm: str) -> None:
    token = MINE.token(algorithm)
    # The second time it is remembered.
    for _ in range(2):
        assert scene.rest(token).json()["prediction"] == "setosa"
        assert scene.call(token)[0] == grpc.StatusCode.OK
    assert scene.rest(token, "/models/iris/feedback").status_code == 403
    assert scene.rest(MINE.token(scope="predict:other")).status_code == 404
    assert scene.rest(MINE.token(scope="")).status_code == 404


def test_a_home_with_an_issuer_wants_something_of_everybody(scene: Scene) -> None:
    answer = httpx.post(f"{scene.url}/models/iris/predict", json=ROW)
    assert answer.status_code == 401
    assert httpx.get(f"{scene.url}/healthz").status_code == 200
    with servable.Client(scene.url, api_key=MINE.token()) as client:
        assert client.predict("iris", ROW).prediction == "setosa"


def authentication(home: Path, **given: Any) -> Authentication:
    settings = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, **given}
    return Authentication(ServerSettings(home=str(home), **settings))


def shown(token: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {token}".encode()}


def test_keys_and_tokens_count_side_by_side(home: Path, tmp_path: Path) -> None:
    publish_iris(home)
    with open_home(home) as place:
        key = place.keys.create("ci", parse_scopes(["read"])).text
    (tmp_path / "jwks.json").write_bytes(MINE.jwks)
    both = authentication(home, oidc_jwks=str(tmp_path / "jwks.json"))
    assert both.present.caller(shown(key)).name == "ci"
    assert both.present.caller(shown(MINE.token())).name == "oidc:alice"
    assert both.present.caller({b"x-api-key": MINE.token().encode()}).name == "oidc:alice"
    both.close()


def test_a_remembered_token_ends_in_time(tmp_path: Path) -> None:
    from servable.server.authentication import KeyAuthentication

    (tmp_path / "jwks.json").write_bytes(MINE.jwks)
    clock = [time.time()]
    tokens = SignedTokens(Rules(ISSUER, AUDIENCE), FileKeys(tmp_path / "jwks.json"))
    knows = KeyAuthentication((), tokens, now=lambda: clock[0])
    head = shown(MINE.token())
    assert knows.caller(head).name == knows.caller(head).name == "oidc:alice"
    clock[0] += 655
    assert knows.caller(head)
    clock[0] += 10
    with pytest.raises(servable.ServableError, match="not valid here"):
        knows.caller(head)


def test_keys_are_found_by_the_issuer_and_rotate(home: Path, provider: Provider) -> None:
    """A token of a new key is refused until the keys were fetched again, and the old key ends with that."""
    clock = FakeClock()
    provider.gives("/.well-known/openid-configuration",
                   {"issuer": provider.url, "jwks_uri": f"{provider.url}/keys"})  # fmt: skip
    provider.gives("/keys", MINE.jwks)
    source = AddressKeys(provider.url, "", clock.monotonic)
    tokens = SignedTokens(Rules(provider.url, AUDIENCE), source)
    old, new = MINE.token(iss=provider.url), OTHER.token(iss=provider.url, head={"kid": "ec2"})
    assert tokens.found(old) is not None
    assert tokens.found(new) is None
    rotated = [{**key, "kid": f"{key.get('kid')}2"} for key in OTHER.keys]
    provider.gives("/keys", {"keys": rotated})
    # Not more often than once a minute, however many ids are made up.
    assert not source.due(wanted=True)
    clock.advance(61)
    assert source.due(wanted=True)
    assert not source.due(wanted=False)
    changes = following(tokens, until=lambda: tokens.found(new) is not None)
    assert changes == 1
    assert tokens.found(old) is None
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"] * 2


def following(tokens: SignedTokens, until: Any) -> int:
    """Follow until something is true; how many changes there were."""
    import asyncio

    changes = []

    async def inside() -> None:
        task = asyncio.create_task(tokens.follow(lambda: changes.append(1)))
        async with asyncio.timeout(10):
            while not until():
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(inside())
    return len(changes)


def test_the_last_good_keys_stay(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    provider.gives("/keys", MINE.jwks)
    source = AddressKeys(ISSUER, f"{provider.url}/keys", clock.monotonic)
    tokens = SignedTokens(Rules(ISSUER, AUDIENCE), source)
    for status, body in ((500, b""), (200, b"<html>"), (200, b'{"keys": []}')):
        provider.gives("/keys", body, status)
        clock.advance(301)
        before = len(provider.asked)
        following(tokens, until=lambda before=before: len(provider.asked) > before and not source.due(False))
        assert tokens.found(MINE.token()) is not None
    assert "cannot be loaded" in caplog.text


@pytest.mark.parametrize(
    "kind", ["redirect", "large", "error", "gone", "no keys", "another issuer", "by http"]
)
def test_what_an_issuer_must_not_answer(provider: Provider, kind: str) -> None:
    address = f"{provider.url}/keys"
    provider.gives("/good", MINE.jwks)
    provider.gives("/keys", MINE.jwks)
    if kind == "redirect":
        provider.gives("/keys", b"", 302, location=f"{provider.url}/good")
    elif kind == "large":
        provider.gives("/keys", MINE.jwks + b" " * 300_000)
    elif kind == "error":
        provider.gives("/keys", MINE.jwks, 500)
    elif kind == "gone":
        provider.close()
    elif kind == "no keys":
        provider.gives("/keys", b"{}")
    else:
        address = ""
        other = {"issuer": ISSUER, "jwks_uri": f"{provider.url}/keys"}
        unsafe = {"issuer": provider.url, "jwks_uri": "http://login.example.com/keys"}
        provider.gives("/.well-known/openid-configuration", other if kind == "another issuer" else unsafe)
    with pytest.raises(ServerUnreachable):
        AddressKeys(provider.url, address).load()
    assert "/good" not in provider.asked
    # A server begins without them all the same.
    tokens = SignedTokens(Rules(ISSUER, AUDIENCE), AddressKeys(provider.url, address))
    assert tokens.found(MINE.token()) is None


def test_an_issuer_that_drips_is_left(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    monkeypatch.setattr("servable.server.jwks._WITHIN_S", -1.0)
    provider.gives("/keys", MINE.jwks)
    with pytest.raises(ServerUnreachable, match="too slowly"):
        AddressKeys(ISSUER, f"{provider.url}/keys").load()


def test_a_file_of_keys_is_read_again(tmp_path: Path) -> None:
    clock = FakeClock()
    file = tmp_path / "jwks.json"
    file.write_bytes(MINE.jwks)
    source = FileKeys(file, clock.monotonic)
    tokens = SignedTokens(Rules(ISSUER, AUDIENCE), source)
    clock.advance(6)
    assert not source.due(wanted=True)
    file.write_bytes(OTHER.jwks + b" ")
    clock.advance(6)
    assert following(tokens, until=lambda: tokens.found(OTHER.token()) is not None) == 1
    assert tokens.found(MINE.token()) is None


def test_settings_of_tokens_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "jwks.json").write_bytes(MINE.jwks)
    assert isinstance(tokens_of(ServerSettings()), NoTokens)
    good = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE}
    for given, said in (
        ({"oidc_audience": "x"}, "need an issuer"),
        ({"oidc_jwks": "x"}, "need an issuer"),
        ({"oidc_issuer": ISSUER}, "oidc_audience"),
        ({**good, "oidc_issuer": "http://login.example.com"}, "https alone"),
        ({**good, "oidc_jwks": "http://login.example.com/keys"}, "https alone"),
        ({**good, "oidc_jwks": "file:///etc/passwd"}, "https alone"),
        ({**good, "oidc_jwks": str(tmp_path / "none.json")}, "cannot be read"),
        ({**good, "oidc_jwks": str(tmp_path / "bad.json")}, "bad.json: The set of keys"),
        (
            {**good, "oidc_jwks": str(tmp_path / "jwks.json"), "oidc_scope_map": str(tmp_path / "x")},
            "x cannot be",
        ),
    ):
        with pytest.raises(SettingInvalid, match=said):
            tokens_of(ServerSettings(**given))
    check_tokens(ServerSettings(**good))


def test_addresses_of_keys() -> None:
    for address in (
        "https://a.example/keys",
        "http://127.0.0.1:80/keys",
        "http://[::1]/x",
        "http://localhost",
    ):
        check_address(address)
    for address in (
        "http://a.example",
        "ftp://a",
        "https://",
        "https://a:b@c.example/",
        "",
        "https://a:99999/",
    ):
        with pytest.raises(SettingInvalid, match="https alone"):
            check_address(address)


def test_a_server_with_an_issuer_may_listen_anywhere(home: Path) -> None:
    publish_iris(home)
    check_exposure(ServerSettings(home=str(home), host="0.0.0.0", oidc_issuer=ISSUER, oidc_audience=AUDIENCE))
