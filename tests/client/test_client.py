"""Both clients against a real server that fails as it is told; each test runs over both."""

import asyncio
import inspect
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servable.client import AsyncClient, Client
from servable.errors import RemoteError, ServerUnreachable, SettingInvalid

from .conftest import Answer

GOOD = {
    "prediction": "setosa",
    "probabilities": {"setosa": 0.9, "other": 0.1},
    "model": "iris",
    "version": 3,
    "request_id": "r1",
}
MANY = {"predictions": ["a", "b"], "model": "iris", "version": 3, "request_id": "r2"}
ROW = [5.1, 3.5, 1.4, 0.2]


def sync_ask(url: str, work: Callable[[Any], Any], **options: Any) -> Any:
    with Client(url, **options) as client:
        return work(client)


def async_ask(url: str, work: Callable[[Any], Any], **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncClient(url, **options) as client:
            answer = work(client)
            return await answer if inspect.isawaitable(answer) else answer

    return asyncio.run(main())


@pytest.fixture(params=[sync_ask, async_ask], ids=["sync", "async"])
def ask(request) -> Any:
    return request.param


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address that is bound and where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def test_one_row(server, ask):
    server.say_json(GOOD)
    answer = ask(server.url, lambda c: c.predict("iris", ROW, request_id="mine"))
    assert (answer.prediction, answer.probabilities["setosa"]) == ("setosa", 0.9)
    assert (answer.model, answer.version, answer.request_id) == ("iris", 3, "r1")
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/models/iris/predict")
    assert json.loads(seen.body) == {"input": ROW}
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-request-id"] == "mine"


def test_several_rows(server, ask):
    server.say_json(MANY)
    answers = ask(server.url, lambda c: c.predict("iris", [ROW, ROW]))
    assert [one.prediction for one in answers] == ["a", "b"]
    assert len(answers) == 2
    assert answers[1].probabilities is None
    assert answers[1].version == 3


def test_probabilities_of_several_rows(server, ask):
    server.say_json({**MANY, "probabilities": [{"a": 0.8}, {"a": 0.2}]})
    answers = ask(server.url, lambda c: c.predict("iris", [ROW, ROW]))
    assert [one.probabilities for one in answers] == [{"a": 0.8}, {"a": 0.2}]


@pytest.mark.parametrize(
    ("model", "version", "path"),
    [
        (None, None, "/predict"),
        ("iris", None, "/models/iris/predict"),
        ("iris", 2, "/models/iris/versions/2/predict"),
        ("iris@champion", None, "/models/iris@champion/predict"),
        ("iris:2", None, "/models/iris:2/predict"),
        ("a/b c", None, "/models/a%2Fb%20c/predict"),
    ],
)
def test_addresses(server, ask, model, version, path):
    server.say_json(GOOD)
    ask(server.url, lambda c: c.predict(model, ROW, version=version))
    assert server.seen[0].path == path


def test_a_version_needs_a_model(server, ask):
    with pytest.raises(SettingInvalid, match="name the model"):
        ask(server.url, lambda c: c.predict(None, ROW, version=2))


def test_models_and_one_model(server, ask):
    server.say_json({"models": [{"name": "iris", "version": 3, "task": "classification"}]})
    (model,) = ask(server.url, lambda c: c.models())
    assert (model.name, model.version, model.details["task"]) == ("iris", 3, "classification")
    server.say_json({"name": "iris", "version": 3})
    assert ask(server.url, lambda c: c.model("iris")).name == "iris"


def test_a_refusal_carries_all_that_the_server_said(server, ask):
    detail = {"path": "input.age", "expected": "a number", "got": "a text"}
    error = {"code": "invalid_request", "message": "input.age: expected a number, got a text"}
    server.say_json({"error": {**error, "request_id": "r9", "details": [detail]}}, 422)
    with pytest.raises(RemoteError) as refused:
        ask(server.url, lambda c: c.predict("iris", {"age": "x"}))
    assert refused.value.message == error["message"]
    assert (refused.value.status, refused.value.remote_code) == (422, "invalid_request")
    assert refused.value.request_id == "r9"
    assert refused.value.problems[0]._asdict() == detail
    assert len(server.seen) == 1


def test_a_refusal_that_is_not_ours(server, ask):
    server.say(Answer(418, b"<html>", {"x-request-id": "r5"}))
    with pytest.raises(RemoteError, match="answered 418") as refused:
        ask(server.url, lambda c: c.predict("iris", ROW))
    assert (refused.value.remote_code, refused.value.request_id) == ("", "r5")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"predictions": 3}', b"\xff", b""])
def test_a_good_status_with_something_else_in_it(server, ask, body):
    server.say(Answer(200, body))
    with pytest.raises(RemoteError, match="not an answer of Servable"):
        ask(server.url, lambda c: c.predict("iris", [ROW]))


@pytest.mark.parametrize("body", [b"{}", b'{"models": [{}]}', b'{"models": [3]}'])
def test_a_strange_list_of_models(server, ask, body):
    server.say(Answer(200, body))
    with pytest.raises(RemoteError, match="not an answer of Servable"):
        ask(server.url, lambda c: c.models())


@pytest.mark.parametrize("passing", [Answer(503), Answer(429), Answer(hang_up=True)])
def test_a_passing_failure_is_tried_again(server, ask, passing):
    server.say(passing, Answer(200, json.dumps(GOOD).encode()))
    assert ask(server.url, lambda c: c.predict("iris", ROW)).prediction == "setosa"
    assert len(server.seen) == 2


def test_a_lasting_failure_is_given_up(server, ask):
    server.say(Answer(503))
    with pytest.raises(RemoteError, match="503"):
        ask(server.url, lambda c: c.predict("iris", ROW), retries=1)
    assert len(server.seen) == 2
    with pytest.raises(RemoteError):
        ask(server.url, lambda c: c.predict("iris", ROW), retries=0)
    assert len(server.seen) == 3


def test_a_server_that_asks_for_more_time_than_there_is(server, ask):
    server.say(Answer(503, headers={"Retry-After": "60"}))
    with pytest.raises(RemoteError):
        ask(server.url, lambda c: c.predict("iris", ROW), timeout_s=5)
    assert len(server.seen) == 1


def test_a_broken_connection(server, ask):
    server.say(Answer(hang_up=True))
    with pytest.raises(ServerUnreachable, match="broke before an answer"):
        ask(server.url, lambda c: c.predict("iris", ROW), retries=0)


def test_nobody_listens(ask, dead_url):
    with pytest.raises(ServerUnreachable, match=r"No server answers at .*servable serve"):
        ask(dead_url, lambda c: c.predict("iris", ROW), retries=0)
    assert ask(dead_url, lambda c: c.ready()) is False
    with pytest.raises(ServerUnreachable, match="was not ready within"):
        ask(dead_url, lambda c: c.wait_until_ready(0.1))


def test_a_server_that_never_answers(ask):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServerUnreachable, match="did not answer within"):
            ask(url, lambda c: c.predict("iris", ROW), timeout_s=0.2)


def test_ready_waits_for_the_server(server, ask):
    server.say(Answer(503), Answer(503), Answer(200, b"ok"))
    assert ask(server.url, lambda c: c.ready()) is False
    ask(server.url, lambda c: c.wait_until_ready(5))
    assert len(server.seen) == 3


@pytest.mark.parametrize("url", ["", "ftp://host", "http://", "http://host:port", "http://host:0"])
def test_an_address_that_is_none(ask, url):
    with pytest.raises(SettingInvalid, match="no address of a server"):
        ask(url, lambda c: c.ready())


def test_an_address_without_a_scheme(server, ask):
    server.say_json(GOOD)
    bare = server.url.removeprefix("http://") + "/"
    assert ask(bare, lambda c: c.url) == server.url
    assert ask(bare, lambda c: c.predict(None, ROW)).version == 3


def test_headers_of_the_caller_are_sent(server, ask):
    server.say_json(GOOD)
    ask(server.url, lambda c: c.predict(None, ROW), headers={"authorization": "Bearer key"})
    assert server.seen[0].headers["authorization"] == "Bearer key"


def test_the_two_clients_offer_the_same():
    def face(kind: type) -> dict[str, list[Any]]:
        found = {}
        for name, member in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") or name == "__init__":
                parameters = inspect.signature(member).parameters.values()
                found[name] = [(each.name, each.kind, each.default) for each in parameters]
        return found

    assert face(Client) == face(AsyncClient)


async def _cancel_one(url: str) -> str:
    async with AsyncClient(url) as client:
        doomed = asyncio.create_task(client.predict("slow", ROW))
        kept = asyncio.create_task(client.predict("iris", ROW))
        await asyncio.sleep(0)
        doomed.cancel()
        answer = await kept
        with pytest.raises(asyncio.CancelledError):
            await doomed
        return str(answer.prediction)


def test_a_cancelled_call_leaves_the_others_alone(server):
    server.say_json(GOOD)
    assert asyncio.run(_cancel_one(server.url)) == "setosa"
