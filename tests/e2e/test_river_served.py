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
from frameworks.river_models import Taught, made, rows, value

#: Rows that are sent at once, and how often.
AT_ONCE, TIMES = 50, 8


def added(folder: Path, home: Path, name: str, given: Taught, asked: list[dict[str, Any]]) -> Wanted:
    """Take a model in, and tell what the library answers."""
    path, sample = folder / f"{name}.pkl", folder / f"{name}.csv"
    path.write_bytes(pickle.dumps(given.model))
    given.frame.to_csv(sample, index=False)
    outcome = said("add", str(path), "--name", name, "--sample", str(sample), "--home", str(home))
    assert (outcome["framework"], outcome["serving"]) == ("river", "trained")
    servable.deploy(name, capture=1.0, home=home)
    answers = [given.model.predict_one(row) for row in asked]
    if isinstance(answers[0], float):
        return Wanted(answers)
    classes = sorted(set(given.answers))
    chances = [given.model.predict_proba_one(row) for row in asked]
    return Wanted(answers, [[chance.get(label, 0.0) for label in classes] for chance in chances])


@pytest.mark.slow
def test_it_answers_as_the_library_does_and_learns_on_from_feedback(
    tmp_path: Path, home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVABLE_WATCH", "false")
    monkeypatch.setenv("SERVABLE_CAPTURE_INTERVAL_S", "0.1")
    asked = rows(9, seed=5)
    columns = {name: pd.DataFrame(asked)[name].to_numpy() for name in asked[0]}
    models = {"kind": made("forest"), "price": made("linear")}
    wanted = {name: added(tmp_path, home, name, given, asked) for name, given in models.items()}
    url = serve(home)
    for name, right in wanted.items():
        check_served(url, name, columns, right, 1e-9)
    learns_on(home, url, copy.deepcopy(models["price"].model))


def learns_on(home: Path, url: str, reference: Any) -> None:
    """What is fed back on ``price`` makes a version that answers as the library does when it learned so."""
    more = rows(AT_ONCE * TIMES, seed=11)
    right = [value(row) + 3.0 for row in more]
    with servable.Client(url) as client:
        for start in range(0, len(more), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            answer = client.predict("price", pd.DataFrame(more[part]))
            assert client.feedback("price", answer, right[part]) == AT_ONCE
        kept(home, len(more))
        turn = said("update", "price", "--online", "--no-tune", "--home", str(home))["turn"]
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
