"""A shadow is asked what was answered in pieces, and its whole answer is held against theirs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import servable
from servable.engines.local import LocalServer
from servable.settings import ServerSettings
from servable.workflows.running import samples
from serving import streaming_models

#: Four versions are added and two shadows started; ``serving/test_shadow.py`` tests the decisions.
pytestmark = pytest.mark.soak
FILE = Path(streaming_models.__file__)
NAMES = ("echo", "dice")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("shadows") / "home"
    for name in NAMES:
        servable.add(f"{FILE}:{name.title()}", name=name, trust=True, deploy=True, home=home)
        servable.add(f"{FILE}:{name.title()}", name=name, trust=True, home=home)
        servable.deploy(f"{name}:2", shadow=True, home=home)
    with LocalServer(ServerSettings(home=str(home), port=0, confinement="off", watch=False)) as server:
        with servable.Client(server.url) as client:
            until(lambda: all(live(client, name) == {1, 2} for name in NAMES))
        yield server.url


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)


def live(client: servable.Client, name: str) -> set[int]:
    listed = [each for each in client.models() if each.name == name and each.details["state"] == "live"]
    return {each.version or 0 for each in listed}


def figures(url: str, name: str) -> dict[str, float]:
    """Copies by what became of them, rows that were compared, and the share of these that agreed."""
    import httpx

    found = samples(httpx.get(f"{url}/metrics").text)
    counted = {
        labels["outcome"]: value
        for labels, value in found.get("servable_shadow_requests_total", ())
        if labels["model"] == name and value
    }
    agreed = [
        value
        for labels, value in found.get("servable_shadow_agreement", ())
        if labels["model"] == name and labels["bound"] == "value"
    ]
    return counted | ({"agreement": agreed[0]} if agreed else {})


def test_the_whole_answer_is_compared_once_both_ended(url: str) -> None:
    with servable.Client(url) as client:
        for prompt in ("a b c", "one two", "x " * 40):
            assert "".join(each.prediction for each in client.stream("echo", {"prompt": prompt})).split()
        with pytest.raises(servable.ServableError):
            list(client.stream("echo", {"prompt": "a raise"}))
    until(lambda: sum(figures(url, "echo").get(each, 0) for each in ("both_ok", "both_failed")) == 4)
    assert figures(url, "echo") == {"both_ok": 3, "both_failed": 1, "agreement": 1.0}


def test_texts_that_are_drawn_by_lot_are_not_held_against_each_other(url: str) -> None:
    with servable.Client(url) as client:
        assert len(list(client.stream("dice", {"count": 20}))) == 20
    until(lambda: figures(url, "dice").get("both_ok") == 1)
    assert "agreement" not in figures(url, "dice")
