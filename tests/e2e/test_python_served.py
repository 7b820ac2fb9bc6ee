"""Models in plain Python from a file to HTTP and gRPC: equal to what they say when they are called."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

import servable
from servable.cli.running import running
from servable.engines.local import LocalServer
from servable.runtime.landlock import version
from servable.settings import ServerSettings
from servable.workflows.running import ask

MODEL = '''
import dataclasses
import json
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

import servable

Label = Literal["short", "long"]


@dataclasses.dataclass
class Customer:
    age: int
    plan: Literal["basic", "premium"]
    spent: float | None


class Lengths(servable.Model):
    """Says which texts are long."""

    files = ["limits.json"]
    example = {"text": "some words"}

    def load(self) -> None:
        self.most = json.loads((self.folder / "limits.json").read_text())["most"]

    def predict(self, text: list[str]) -> list[dict[Label, float]]:
        return [{"long": 0.75, "short": 0.25} if len(each) > self.most else {"short": 1.0} for each in text]


@servable.model
async def price(customer: Customer) -> float:
    if customer.age > 200:
        raise ValueError("nobody is as old as " + str(customer.age))
    return (2.0 if customer.plan == "premium" else 1.0) * customer.age + (customer.spent or 0.0)


def scaled(x: Annotated[NDArray[np.float32], ("rows", 2)]) -> Annotated[NDArray[np.float32], ("rows", 2)]:
    return 2 * x
'''


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("python")
    (folder / "model.py").write_text(MODEL)
    (folder / "limits.json").write_text('{"most": 5}')
    for name in ("Lengths", "price", "scaled"):
        file = f"{folder / 'model.py'}:{name}"
        servable.add(file, name=name.lower(), trust=True, deploy=True, home=folder / "home")
    # What is served lies in the package.
    (folder / "limits.json").unlink()
    (folder / "model.py").unlink()
    with LocalServer(ServerSettings(home=str(folder / "home"), port=0)) as server:
        yield server.url


def test_over_http(url: str) -> None:
    with servable.Client(url) as client:
        given = client.predict("lengths", [{"text": "a"}, {"text": "abcdef"}])
        assert list(given.predictions) == ["short", "long"]
        assert given.probabilities[1] == {"short": 0.25, "long": 0.75}
        rows = [{"age": 30, "plan": "premium", "spent": 1.5}, {"age": 20, "plan": "basic"}]
        assert list(client.predict("price", rows).predictions) == [61.5, 20.0]
        with pytest.raises(servable.ServableError, match="premium"):
            client.predict("price", {"age": 3, "plan": "gold"})
    answer = httpx.post(f"{url}/models/scaled/predict", json={"input": [1.5, 2.5]})
    assert answer.json()["prediction"] == [3.0, 5.0]


@pytest.mark.skipif(not version(), reason="this kernel has no Landlock")
def test_what_is_in_force_is_said(url: str) -> None:
    summary = "confined: no network, files read-only, no programs, seccomp, 10 of 10"
    told = {each["name"]: each["serving"] for each in httpx.get(f"{url}/models").json()["models"]}
    assert told.keys() == {"lengths", "price", "scaled"}
    for serving in told.values():
        assert serving["confinement"] == summary
        assert set(serving["protections"].values()) == {"in force"}
    server = ask(url)
    assert server is not None
    lines = [each for each in running(server) if isinstance(each, str)]
    assert f"lengths:1, price:1, scaled:1: {summary}" in lines


def test_over_grpc(url: str) -> None:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        x = np.array([[1, 2], [3, 4]], np.float32)
        given = triton.InferInput("x", [2, 2], "FP32")
        given.set_data_from_numpy(x)
        assert np.array_equal(client.infer("scaled", [given]).as_numpy("output"), 2 * x)
        text = triton.InferInput("text", [2, 1], "BYTES")
        text.set_data_from_numpy(np.array([["a"], ["abcdef"]], object))
        assert client.infer("lengths", [text]).as_numpy("prediction").tolist() == [b"short", b"long"]


def test_what_the_model_raises_is_one_sentence(url: str) -> None:
    row = {"age": 300, "plan": "basic", "spent": 1.0}
    answer = httpx.post(f"{url}/models/price/predict", json={"input": row})
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["code"] == "model_failed"
    assert "ValueError" in error["message"]
    assert "as old as" not in answer.text
    assert "Traceback" not in answer.text
    with servable.Client(url) as client:
        assert client.predict("price", {**row, "age": 3}).prediction == 4.0
