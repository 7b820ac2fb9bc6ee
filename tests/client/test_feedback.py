"""Feedback by both clients, against a real server that answers as it is told."""

import json
from typing import Any

import pandas as pd
import pytest

from servable.client import Prediction, Predictions
from servable.errors import RemoteError, RequestInvalid

from .conftest import Answer
from .test_client import ask  # noqa: F401 - the fixture that runs each test over both clients

KEPT = {"model": "iris", "accepted": 2, "request_id": "x"}


def sent(server: Any) -> Any:
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/models/iris/feedback")
    return json.loads(seen.body)["feedback"]


@pytest.mark.parametrize("about", ["r1", Prediction(prediction="a", request_id="r1")])
def test_one_row(server: Any, ask: Any, about: Any) -> None:  # noqa: F811 - the fixture
    server.say_json(KEPT)
    assert ask(server.url, lambda c: c.feedback("iris", about, "setosa", row=3, reward=0.5)) == 2
    assert sent(server) == [{"request_id": "r1", "row": 3, "outcome": "setosa", "reward": 0.5}]


def test_all_rows_of_an_answer(server: Any, ask: Any) -> None:  # noqa: F811 - the fixture
    server.say_json(KEPT)
    answer = Predictions(predictions=("a", "b"), request_id="r2")
    ask(server.url, lambda c: c.feedback("iris", answer, ["b", "b"]))
    assert sent(server) == [
        {"request_id": "r2", "row": 0, "outcome": "b"},
        {"request_id": "r2", "row": 1, "outcome": "b"},
    ]
    with pytest.raises(RequestInvalid, match="2 outcomes, one for each answer, got 1"):
        ask(server.url, lambda c: c.feedback("iris", answer, ["b"]))


def test_a_reward_for_all_rows_of_an_answer(server: Any, ask: Any) -> None:  # noqa: F811 - the fixture
    server.say_json(KEPT)
    answer = Predictions(predictions=("a", "b"), request_id="r2")
    ask(server.url, lambda c: c.feedback("iris", answer, reward=1.0))
    assert [row["reward"] for row in sent(server)] == [1.0, 1.0]


def test_rows_of_any_form(server: Any, ask: Any) -> None:  # noqa: F811 - the fixture
    server.say_json(KEPT)
    frame = pd.DataFrame({"request_id": ["a", "b"], "outcome": ["x", None]})
    ask(server.url, lambda c: c.feedback_rows("iris", frame))
    assert sent(server) == [{"request_id": "a", "outcome": "x"}, {"request_id": "b", "outcome": None}]
    with pytest.raises(RequestInvalid, match="at least one row"):
        ask(server.url, lambda c: c.feedback_rows("iris", []))


def test_what_the_server_refuses_is_raised_and_what_passes_is_tried_again(server: Any, ask: Any) -> None:  # noqa: F811 - the fixture
    server.say(Answer(503, b"{}", {"retry-after": "0"}), Answer(200, json.dumps(KEPT).encode()))
    assert ask(server.url, lambda c: c.feedback("iris", "r1", "a")) == 2
    error = {
        "error": {"code": "invalid_request", "message": "no such class", "request_id": "x", "details": []}
    }
    server.say_json(error, 422)
    with pytest.raises(RemoteError, match="no such class"):
        ask(server.url, lambda c: c.feedback("iris", "r1", "a"))
    server.say_json({"other": 1})
    with pytest.raises(RemoteError):
        ask(server.url, lambda c: c.feedback("iris", "r1", "a"))
