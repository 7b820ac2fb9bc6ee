"""Two machines with one registry and one blob store: either one's traffic is everybody's."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import servable
from e2e.conftest import Serve
from servable.workflows.homes import opened

ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The homes of two machines. The model was published by the first."""
    one, two = tmp_path / "one", tmp_path / "two"
    url, blobs = f"sqlite:///{tmp_path / 'registry.db'}", f"file://{tmp_path / 'shared'}"
    monkeypatch.setenv("SERVABLE_DATABASE_URL", url)
    monkeypatch.setenv("SERVABLE_BLOB_URL", blobs)
    monkeypatch.setenv("SERVABLE_CAPTURE_INTERVAL_S", "0.2")
    features, truth = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=1000).fit(features, load_iris().target_names[truth])
    servable.add(model, name="iris", sample=features, home=one)
    servable.deploy("iris", capture=1.0, home=one)
    return one, two


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_both_see_what_either_captured_and_was_told(machines: tuple[Path, Path], serve: Serve) -> None:
    urls = serve(machines[0]), serve(machines[1], "--no-watch")
    with servable.Client(urls[0]) as first, servable.Client(urls[1]) as second:
        # The truth comes to the machine that answered, or to the other one.
        for asked, told in ((first, first), (first, second), (second, first)):
            told.feedback("iris", asked.predict("iris", ROW), "setosa")

    def labelled(home: Path) -> int:
        outcome = servable.quality("iris", home=home)
        return sum(row.quality.whole.labels for row in outcome.versions)

    for home in machines:
        until(lambda home=home: labelled(home) == 3)  # type: ignore[misc]  # bound at once
        assert not (home / "traffic" / "iris").exists()
    with opened(machines[0]) as place:
        # The watcher of the first keeps the figures for both.
        until(lambda: any(each.value["whole"]["labels"] == 3 for each in place.findings.of("quality")))
