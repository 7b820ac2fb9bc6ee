"""Classify, Regress and MultiInference of TensorFlow Serving by a real channel of gRPC."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import grpc
from servable.engines.local import LocalServer
from servable.protocols.tfserving_inference import CLASSIFY, REGRESS
from servable.protocols.tfserving_messages import messages
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import COLUMNS, expected, publish_iris
from serving.making_tensors import cost_of, publish_image, publish_plans

ROWS = [[5.0, 3.5, 1.5, 0.25], [7.0, 7.0, 7.0, 7.0]]
SERVICE = "/tensorflow.serving.PredictionService"
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("tensorflow") / "home"
    publish_iris(home)
    publish_image(home)
    publish_plans(home)
    with open_home(home) as opened:
        opened.models.set_alias("iris", "champion", 1)
    with LocalServer(ServerSettings(home=str(home), port=0, memory=2**31)) as server:
        yield server.url


@pytest.fixture(scope="module")
def channel(url: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(url.removeprefix("http://")) as opened:
        yield opened


def request(kind: str, rows: list[list[float]] = ROWS, **spec: Any) -> Any:
    made = messages()[f"tensorflow.serving.{kind}Request"]()
    for row in rows:
        features = made.input.example_list.examples.add().features
        for name, value in zip(COLUMNS, row, strict=True):
            features.feature[name].float_list.value.append(value)
    if kind == "MultiInference":
        made.tasks.add(method_name=CLASSIFY)
    named = made.tasks[0].model_spec if kind == "MultiInference" else made.model_spec
    named.name = spec.get("name", "iris")
    named.version_label = spec.get("label", "")
    named.signature_name = spec.get("signature", "")
    return made


def ask(channel: grpc.Channel, method: str, asked: Any, **how: Any) -> Any:
    kind = {"Classify": "Classification", "Regress": "Regression"}.get(method, method)
    data = channel.unary_unary(f"{SERVICE}/{method}")(asked.SerializeToString(), timeout=30, **how)
    return messages()[f"tensorflow.serving.{kind}Response"].FromString(data)


def refused(channel: grpc.Channel, method: str, asked: Any, **how: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, method, asked, **how)
    return caught.value.code(), caught.value.details()


def scores(result: Any) -> list[dict[str, float]]:
    return [{each.label: each.score for each in row.classes} for row in result.classifications]


@pytest.mark.parametrize("how", [{}, {"compression": grpc.Compression.Gzip}])
def test_classes_are_the_models_own(channel: grpc.Channel, how: dict[str, Any]) -> None:
    answer = ask(channel, "Classify", request("Classification"), **how)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("iris", 1)
    for told, row in zip(scores(answer.result), ROWS, strict=True):
        label, chances = expected(row)
        assert max(told, key=lambda each: told[each]) == label
        np.testing.assert_allclose(list(told.values()), chances, rtol=1e-6)


def test_several_tasks_are_answered_from_one_run(channel: grpc.Channel) -> None:
    asked = request("MultiInference", label="champion")
    second = asked.tasks.add(method_name=CLASSIFY)
    second.model_spec.CopyFrom(asked.tasks[0].model_spec)
    second.model_spec.signature_name = "classification"
    first, other = ask(channel, "MultiInference", asked).results
    wanted = ask(channel, "Classify", request("Classification")).result
    assert scores(first.classification_result) == scores(other.classification_result) == scores(wanted)
    assert [each.model_spec.signature_name for each in (first, other)] == [
        "serving_default",
        "classification",
    ]


def test_numbers_are_the_models_own(channel: grpc.Channel) -> None:
    asked = request("Regression", [], name="plans")
    held = asked.input.example_list_with_context
    held.context.features.feature["plan"].bytes_list.value.append(b"pro")
    held.examples.add().features.feature["age"].int64_list.value.append(1)
    held.examples.add()
    wanted = [cost_of(1.0, "pro"), cost_of(None, "pro")]
    assert [each.value for each in ask(channel, "Regress", asked).result.regressions] == wanted
    both = request("MultiInference", [], name="plans")
    both.tasks[0].method_name = REGRESS
    both.input.CopyFrom(asked.input)
    (answer,) = ask(channel, "MultiInference", both).results
    assert [each.value for each in answer.regression_result.regressions] == wanted


def test_what_does_not_fit_is_refused(channel: grpc.Channel) -> None:
    code, words = refused(channel, "Regress", request("Regression"))
    assert (code, "no single number" in words) == (INVALID, True)
    code, words = refused(channel, "Classify", request("Classification", name="image"))
    assert (code, "no classifier" in words) == (INVALID, True)
    asked = request("Classification")
    asked.input.example_list.examples[1].features.feature[COLUMNS[0]].bytes_list.value.append(b"x")
    code, words = refused(channel, "Classify", asked)
    assert code == INVALID
    assert COLUMNS[0] in words
    assert refused(channel, "Classify", request("Classification", []))[0] == INVALID
    assert refused(channel, "Classify", request("Classification", name="nothing"))[0] == NOT_FOUND
    assert refused(channel, "MultiInference", request("MultiInference", label="nobody"))[0] == NOT_FOUND
    twice = request("MultiInference")
    twice.tasks.add(method_name=REGRESS).model_spec.name = "image"
    assert refused(channel, "MultiInference", twice)[0] == INVALID
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}/Classify")(b"\xff\xff", timeout=30)
    assert caught.value.code() == INVALID


def test_what_a_caller_says_of_time_is_read(channel: grpc.Channel) -> None:
    headers = [("x-request-timeout-ms", "0")]
    code, words = refused(channel, "Classify", request("Classification"), metadata=headers)
    assert (code, "X-Request-Timeout-Ms" in words) == (INVALID, True)
