"""OpenVINO Model Server's client, which speaks as those of TensorFlow Serving, over REST and gRPC."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from servable.engines.local import LocalServer
from servable.settings import ServerSettings
from serving.making import COLUMNS, expected, publish_iris
from serving.making_mixed import publish_churn
from serving.making_tensors import publish_image, publish_shout, scores_of

ovmsclient: Any = pytest.importorskip("ovmsclient")

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [7.0, 7.0, 7.0, 7.0]])
LABELS = [expected(row)[0] for row in ROWS.tolist()]
CHANCES = [expected(row)[1].tolist() for row in ROWS.tolist()]
TEXTS = ["hello", "grüße", ""]
IMAGES = np.random.default_rng(3).random((2, 3, 224, 224), np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens; of ``iris`` the second version is served."""
    home = tmp_path_factory.mktemp("ovms") / "home"
    publish_iris(home, deploy=False)
    publish_iris(home)
    publish_churn(home)
    publish_shout(home)
    publish_image(home)
    with LocalServer(ServerSettings(home=str(home), port=0, memory=2**31)) as server:
        yield server.url.removeprefix("http://")


@pytest.fixture(params=["REST", "gRPC"])
def client(request: pytest.FixtureRequest, place: str) -> Iterator[Any]:
    if request.param == "REST":
        opened = ovmsclient.make_http_client(place)
        yield opened
        opened.session.close()
    else:
        opened = ovmsclient.make_grpc_client(place)
        yield opened
        opened.channel.close()


def texts(found: Any) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in found.tolist()]


def test_answers_are_the_models_own(client: Any) -> None:
    assert texts(client.predict({"input": ROWS}, "iris")) == LABELS
    assert texts(client.predict({"input": ROWS.tolist()}, "iris", 2)) == LABELS
    by_column = {name: ROWS[:, [index]] for index, name in enumerate(COLUMNS)}
    assert texts(client.predict(by_column, "iris")) == LABELS
    assert texts(client.predict({"text": np.array(TEXTS)}, "shout")) == [f"{text}!" for text in TEXTS]
    scores = client.predict({"image": IMAGES}, "image")
    np.testing.assert_allclose(scores, scores_of(IMAGES), rtol=1e-4, atol=1e-4)


def test_what_is_told_of_models(client: Any) -> None:
    assert client.get_model_status("iris") == {
        2: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    }
    told = client.get_model_metadata("image")
    if "metadata" in told:
        # Over REST the client knows no other spelling than OpenVINO's own, and gives the rest as it came.
        signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"]["image"]["dtype"] == "DT_FLOAT"
        assert [int(each["size"]) for each in signature["inputs"]["image"]["tensor_shape"]["dim"]] == [
            -1,
            3,
            224,
            224,
        ]
        return
    assert told == {
        "model_version": 1,
        "inputs": {"image": {"shape": [-1, 3, 224, 224], "dtype": "DT_FLOAT"}},
        "outputs": {"scores": {"shape": [-1, 5], "dtype": "DT_FLOAT"}},
    }


def test_errors_are_those_that_the_client_knows(client: Any) -> None:
    for ask in (
        lambda: client.predict({"input": ROWS}, "nope"),
        lambda: client.predict({"input": ROWS}, "iris", 7),
        lambda: client.get_model_metadata("nope"),
        lambda: client.get_model_status("iris", 7),
    ):
        with pytest.raises(ovmsclient.ModelNotFoundError):
            ask()
    for wrong in ({"input": ROWS[:, :3]}, {"input": np.array(["x"])}, {"nope": ROWS, "input": ROWS}):
        with pytest.raises(ovmsclient.InvalidInputError):
            client.predict(wrong, "iris")
