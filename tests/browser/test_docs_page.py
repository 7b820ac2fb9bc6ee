"""The pages as a real browser builds them, from a real server."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import servable
from servable.training.evaluate import evaluate
from servable.training.report import Report, render
from serving.making import IRIS, publish_iris

CHROMIUM = shutil.which("chromium") or ""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no browser: chromium is not on PATH (a Debian package)")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of one model that has a report."""
    home = tmp_path_factory.mktemp("browser") / "home"
    truth = np.arange(30) % len(IRIS.classes)
    evaluation = evaluate(IRIS, truth, {"prediction": truth})
    page = render(Report(title="iris", evaluation=evaluation, signature=IRIS))
    publish_iris(home, report=page.encode())
    server = servable.serve(home=home, port=0, background=True)
    assert server is not None
    yield server.url
    server.stop()


@pytest.fixture
def seen(url: str, tmp_path: Path) -> Callable[[str], str]:
    """What stands in the browser's document, after its scripts ran, at a path of the server."""

    def look(path: str) -> str:
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        words += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'browser'}"]
        words += ["--virtual-time-budget=8000", "--dump-dom", url + path]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return look


def test_the_documentation_shows_the_models_operations(seen: Callable[[str], str]) -> None:
    page = seen("/docs")
    # These marks are made by Swagger UI's script; the page as sent holds neither.
    assert 'data-path="/models/iris/predict"' in page
    assert "Predict with iris" in page
    assert "Failed to load" not in page


def test_a_link_opens_the_models_own_form(seen: Callable[[str], str]) -> None:
    assert 'href="/docs#/iris/predict_iris"' in seen("/")
    page = seen("/docs#/iris/predict_iris")
    assert "opblock-body" in page
    assert ">Execute<" in page


def test_the_report_shows_its_headline(seen: Callable[[str], str]) -> None:
    page = seen("/models/iris/report")
    assert "<h1>iris</h1>" in page
    assert "Right on 100.0 %" in page
    assert "Confusion matrix" in page
