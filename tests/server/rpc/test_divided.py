"""Calls of gRPC to a model whose requests are divided: metadata decides, for one call and for a stream."""

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import servable
from serving.making import BIAS, COLUMNS, publish_iris

ROW = [5.1, 3.5, 1.4, 0.2]
ANSWERS = {1: b"setosa", 2: b"versicolor"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of two versions, each with an answer of its own."""
    home = tmp_path_factory.mktemp("divided") / "home"
    for version in (1, 2):
        publish_iris(home, bias=BIAS + np.eye(3)[version - 1] * 100, deploy=False)
    servable.deploy("iris:1", split={1: 50, 2: 50}, home=home)
    with servable.serve(home=home, port=0, background=True) as server:
        yield server.url.removeprefix("http://")


def given() -> list[Any]:
    inputs = []
    for name, value in zip(COLUMNS, ROW, strict=True):
        one = triton.InferInput(name, [1, 1], "FP64")
        one.set_data_from_numpy(np.array([[value]]))
        inputs.append(one)
    return inputs


def version_of(answer: Any) -> int:
    """The version that answered, after a look whether the answer is its own."""
    version = int(answer.get_response().model_version)
    assert answer.as_numpy(answer.get_response().outputs[0].name).reshape(-1)[0] == ANSWERS[version]
    return version


def test_metadata_decides_which_version_answers_a_call(url: str) -> None:
    with triton.InferenceServerClient(url) as client:
        assert {version_of(client.infer("iris", given())) for _ in range(60)} == {1, 2}
        for version in (1, 2):
            wish = {"x-servable-version": str(version)}
            assert {version_of(client.infer("iris", given(), headers=wish)) for _ in range(10)} == {version}
            asked = client.infer("iris", given(), model_version=str(version))
            assert version_of(asked) == version
        keyed = [
            {
                version_of(client.infer("iris", given(), headers={"x-servable-key": f"k{key}"}))
                for _ in range(3)
            }
            for key in range(30)
        ]
        assert sorted({tuple(found) for found in keyed}) == [(1,), (2,)]
        with pytest.raises(InferenceServerException, match="loaded are: 1, 2"):
            client.infer("iris", given(), headers={"x-servable-version": "9"})
        assert list(client.get_model_metadata("iris").versions) == ["1", "2"]


def test_metadata_of_a_stream_holds_for_all_of_its_messages(url: str) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(url) as client:
        client.start_stream(
            lambda result, error: answers.put(error or result), headers={"x-servable-version": "2"}
        )
        for _ in range(20):
            client.async_stream_infer("iris", given())
        assert {version_of(answers.get(timeout=30)) for _ in range(20)} == {2}
        client.stop_stream()
