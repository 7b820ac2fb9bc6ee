"""Capture, feedback in every form and live quality, over a real server and the command line."""

from contextlib import closing
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable
from e2e.conftest import Serve, said
from servable.engines.local import LocalServer
from servable.monitoring.segments import TrafficStore
from servable.settings import ServerSettings
from serving import streaming_models

ROWS, TRUTH = load_breast_cancer(return_X_y=True)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "cancer.joblib"
    model = make_pipeline(StandardScaler(), LogisticRegression())
    joblib.dump(model.fit(ROWS[::30], TRUTH[::30]), path)
    return path


def test_what_is_served_is_captured_labelled_and_measured(
    model_file: Path, home: Path, serve: Serve, tmp_path: Path
) -> None:
    servable.add(model_file, name="cancer", trust=True, deploy=True, home=home)
    said("deploy", "cancer", "--capture", "1.0", "--home", str(home))
    url = serve(home, "--workers", "2")
    with servable.Client(url) as client:
        answers = [client.predict("cancer", ROWS[start : start + 50]) for start in range(0, 500, 50)]
        singles = [
            client.predict("cancer", row.tolist(), request_id=f"one-{n}") for n, row in enumerate(ROWS[500:])
        ]
        # The answers themselves, rows of a frame, a file of each form, and corrections of the first.
        for part, answer in enumerate(answers[:3]):
            assert client.feedback("cancer", answer, (1 - TRUTH[part * 50 : part * 50 + 50]).tolist()) == 50
            assert client.feedback("cancer", answer, TRUTH[part * 50 : part * 50 + 50].tolist()) == 50
        frames = [labels(answer.request_id, 50, part * 50) for part, answer in enumerate(answers)]
        assert client.feedback_rows("cancer", frames[3]) == 50
        for each in singles:
            place = 500 + int(each.request_id.removeprefix("one-"))
            assert client.feedback("cancer", each, int(TRUTH[place]), reward=float(place)) == 1
    files = {name: tmp_path / f"labels.{name}" for name in ("csv", "parquet", "json")}
    pd.concat(frames[4:6]).to_csv(files["csv"], index=False)
    pd.concat(frames[6:8]).to_parquet(files["parquet"])
    pd.concat(frames[8:]).to_json(files["json"], orient="records")
    for file in files.values():
        assert said("feedback", "cancer", str(file), "--url", url)["accepted"] == 100
    assert eventually_labelled(home) == 569
    found = said("quality", "cancer", "--home", str(home))
    model = joblib.load(model_file)
    given, chances = model.predict(ROWS), model.predict_proba(ROWS)
    expected = {
        "accuracy": metrics.accuracy_score(TRUTH, given),
        "precision": metrics.precision_score(TRUTH, given),
        "recall": metrics.recall_score(TRUTH, given),
        "f1": metrics.f1_score(TRUTH, given),
        "f1_macro": metrics.f1_score(TRUTH, given, average="macro"),
        "roc_auc": metrics.roc_auc_score(TRUTH, chances[:, 1]),
        "reward": float(np.arange(500, 569).mean()),
    }
    whole = found["versions"][0]["quality"]["whole"]
    assert whole["labels"] == 569
    assert {name: whole["metrics"][name]["value"] for name in expected} == pytest.approx(expected)
    assert found["unknown"] == 0


def test_answers_in_pieces_are_captured_whole_when_they_ended(home: Path) -> None:
    file = Path(streaming_models.__file__)
    keep = {"prompt": "keep", "text": "keep"}
    servable.add(f"{file}:Echo", name="echo", trust=True, deploy=True, private=keep, home=home)
    servable.add(f"{file}:Numbers", name="numbers", trust=True, deploy=True, home=home)
    for name in ("echo", "numbers"):
        servable.deploy(name, capture=1.0, home=home)
    with LocalServer(ServerSettings(home=str(home), port=0)) as server, servable.Client(server.url) as client:
        assert len(list(client.stream("echo", {"prompt": "a b c"}, request_id="words"))) == 3
        with pytest.raises(servable.ServableError):
            list(client.stream("echo", {"prompt": "a raise"}, request_id="broken"))
        long = f"{'x' * 10_000} {'y' * 10_000}"
        assert len(list(client.stream("echo", {"prompt": long}, request_id="long"))) == 2
        with closing(client.stream("echo", {"prompt": long}, request_id="left")) as pieces:
            next(pieces)
        assert len(list(client.stream("numbers", {"below": 4}, request_id="numbers"))) == 4
        client.predict("numbers", {"below": 4}, request_id="whole")
    store = TrafficStore(home)
    words, numbers = (
        {
            row["request_id"]: (row["code"], *(row[each] for each in row if each.startswith("out.")))
            for table in store.read(store.segments(name, "predictions"))
            for row in table.to_pylist()
        }
        for name in ("echo", "numbers")
    )
    words.pop("left", None)
    assert words == {"words": ("ok", "a b c "), "broken": ("model_failed", None), "long": ("ok", None)}
    assert numbers == dict.fromkeys(("numbers", "whole"), ("ok", [0.0, 1.0, 2.0, 3.0]))


def labels(request_id: str, rows: int, start: int) -> pd.DataFrame:
    outcomes = TRUTH[start : start + rows]
    return pd.DataFrame({"request_id": request_id, "row": range(rows), "outcome": outcomes})


def eventually_labelled(home: Path, most: int = 600) -> int:
    """How many rows are labelled once all segments are there."""
    found = 0
    for _ in range(most):
        found = sum(row.labelled for row in servable.traffic("cancer", home=home).versions)
        if found == len(ROWS):
            break
    return found
