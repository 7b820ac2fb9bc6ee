"""The road of a newcomer, over real processes and real HTTP."""

from pathlib import Path

import httpx
import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable
from e2e.conftest import Serve, running_server


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pickled pipeline trained on an array, as thousands lie around."""
    path = tmp_path_factory.mktemp("model") / "Iris Model.joblib"
    rows, truth = load_iris(return_X_y=True)
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, truth), path)
    return path


def test_the_oldest_convention_of_the_field_works_unchanged(
    model_file: Path, home: Path, serve: Serve
) -> None:
    url = serve(home, str(model_file), "--trust")
    answer = httpx.post(f"{url}/predict", json={"input": [5.1, 3.5, 1.4, 0.2]})
    assert answer.status_code == 200
    assert answer.json()["prediction"] == 0
    assert answer.json()["model"] == "iris-model"
    rows, truth = load_iris(return_X_y=True)
    many = httpx.post(f"{url}/predict", json={"inputs": rows.tolist()}).json()
    expected = joblib.load(model_file).predict(rows)
    assert many["predictions"] == expected.tolist()
    assert (expected == truth).mean() > 0.95


def test_serving_the_same_file_again_makes_no_new_version(model_file: Path, home: Path) -> None:
    for _ in range(2):
        with running_server(home, str(model_file), "--trust"):
            pass
    (row,) = servable.models(home=home)
    assert (row.model, row.versions, row.deployed) == ("iris-model", 1, 1)


def test_a_running_server_follows_deploy_and_rollback(model_file: Path, home: Path, serve: Serve) -> None:
    servable.add(model_file, name="iris", trust=True, deploy=True, home=home)
    url = serve(home)
    with servable.Client(url) as client:
        assert client.predict("iris", [5.1, 3.5, 1.4, 0.2]).version == 1
        servable.add(model_file, name="iris", trust=True, home=home)
        servable.deploy("iris:2", home=home)
        assert eventually(lambda: client.predict("iris", [5.1, 3.5, 1.4, 0.2]).version, 2)
        servable.rollback("iris", home=home)
        assert eventually(lambda: client.predict("iris", [5.1, 3.5, 1.4, 0.2]).version, 1)
        found = servable.status(home=home, url=url)
        assert found.reachable


def eventually(ask: object, wanted: object, most: int = 2000) -> bool:
    """Whether a server that is asked again and again comes to give the wanted answer."""
    return any(ask() == wanted for _ in range(most))  # type: ignore[operator] - a callable
