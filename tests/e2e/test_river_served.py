"""River models behind a real server: equal to the library, and learning on from what callers feed back."""

import copy
import pickle
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import servable
from e2e.asking import Wanted, check_served
from e2e.conftest import Serve, said
from frameworks.river_models import made, rows, value

#: Rows that are sent at once, and how often.
AT_ONCE, TIMES = 50, 8


@pytest.mark.slow
def test_answers_are_those_of_the_library(tmp_path: Path, home: Path, serve: Serve) -> None:
    asked = rows(9, seed=5)
    columns = {name: pd.DataFrame(asked)[name].to_numpy() for name in asked[0]}
    wanted: dict[str, Wanted] = {}
    for name in ("forest", "softmax", "linear"):
        given = made(name)
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps(given.model))
        outcome = servable.add(path, name=name, sample=given.frame, home=home, deploy=True)
        assert (outcome.framework, outcome.serving) == ("river", "trained")
        answers = [given.model.predict_one(row) for row in asked]
        shares = None
        if name != "linear":
            classes = sorted(set(given.answers))
            chances = [given.model.predict_proba_one(row) for row in asked]
            shares = [[chance.get(label, 0.0) for label in classes] for chance in chances]
        wanted[name] = Wanted(answers, shares)
    url = serve(home)
    for name, right in wanted.items():
        check_served(url, name, columns, right, 1e-9)


@pytest.mark.slow
def test_it_learns_on_from_feedback(
    tmp_path: Path, home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVABLE_WATCH", "false")
    monkeypatch.setenv("SERVABLE_CAPTURE_INTERVAL_S", "0.1")
    given = made("linear")
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(given.model))
    (tmp_path / "rows.csv").write_text(given.frame.to_csv(index=False))
    here = ("--home", str(home))
    said("add", str(path), "--name", "price", "--sample", str(tmp_path / "rows.csv"), *here)
    servable.deploy("price", capture=1.0, home=home)
    url = serve(home)
    more, reference = rows(AT_ONCE * TIMES, seed=11), copy.deepcopy(given.model)
    right = [value(row) + 3.0 for row in more]
    with servable.Client(url) as client:
        for start in range(0, len(more), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            answer = client.predict("price", pd.DataFrame(more[part]))
            assert client.feedback("price", answer, right[part]) == AT_ONCE
        kept(home, len(more))
        turn = said("update", "price", "--online", "--no-tune", *here)["turn"]
        assert turn["record"]["said"] == "price:2 took over"
        assert turn["record"]["train"] == turn["record"]["train"] | {"online": True, "rows": 200}
        for row, truth in zip(more, right, strict=True):
            reference.learn_one(row, truth)
        asked = rows(20, seed=12)
        answers = answers_of_version(client, "price", 2, asked)
    assert answers == pytest.approx([reference.predict_one(row) for row in asked], rel=1e-6)


def kept(home: Path, count: int) -> None:
    """Wait until all rows and their labels are segments."""
    deadline = time.monotonic() + 30
    while sum(row.labelled for row in servable.traffic("price", home=home).versions) < count:
        assert time.monotonic() < deadline


def answers_of_version(
    client: servable.Client, name: str, version: int, asked: list[dict[str, Any]]
) -> list[float]:
    """What a version answers, as soon as it is the one that does."""
    deadline = time.monotonic() + 30
    while True:
        answer = client.predict(name, pd.DataFrame(asked))
        if answer.version == version:
            return list(answer.predictions)
        assert time.monotonic() < deadline
