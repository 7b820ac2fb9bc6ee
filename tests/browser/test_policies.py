"""No page runs, loads or refuses anything in a real browser, whatever names and values it shows."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import servable
from browser.chromium import CHROMIUM, Browser
from servable.artifact.signature import Signature
from servable.clock import SystemClock
from servable.registry.home import open_home
from servable.registry.rollout_records import Event
from servable.registry.turns import Turns
from servable.training.drift_report import render as render_drift
from servable.training.evaluate import evaluate
from servable.training.report import Report, render
from servable.updating.reports import write_history, write_turn
from servable.workflows.rollout_page import render as render_rollout
from serving.making import IRIS, publish_iris
from training.test_drift_report import report as drift_report
from updating.turns import turn
from workflows.test_rollout_page import outcome as rollout_outcome

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no browser: chromium is not on PATH (a Debian package)")

#: Leaves a mark on the document if a browser takes it for markup, by whichever way.
_DO = "document.documentElement.setAttribute('ran','1')"
PROBES = (
    f"<script>{_DO}</script>",
    f'"><img src=x onerror="{_DO}">',
    f"'><svg onload={_DO}>",
    f"</style></title></textarea><script>{_DO}</script>",
    f"javascript:{_DO}",
    f"-->]]><iframe srcdoc='<script>parent.{_DO}</script>'></iframe>",
)
_META = re.compile(r"<meta http-equiv=[^>]*>")
NAME = re.compile(r"<html[^>]*\bran=")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def probed() -> Signature:
    """Iris with probes for the names of its columns and of its answer, and for its classes."""
    names = dict(zip((field.name for field in IRIS.inputs), PROBES, strict=False))
    fields = tuple(msgspec.structs.replace(field, name=names[field.name]) for field in IRIS.inputs)
    answer = msgspec.structs.replace(IRIS.outputs[0], name=PROBES[4], values=PROBES[:3])
    example = {names[name]: value for name, value in IRIS.example.items()}
    return msgspec.structs.replace(IRIS, inputs=fields, outputs=(answer,), example=example)


def report() -> str:
    signature = probed()
    truth = np.arange(60) % 3
    wrong = np.where(np.arange(60) < 6, (truth + 1) % 3, truth)
    chances = np.eye(3)[wrong] * 0.8 + 0.2 / 3
    evaluation = evaluate(signature, truth, {"prediction": wrong, "probabilities": chances})
    return render(
        Report(title=PROBES[0], evaluation=evaluation, signature=signature, data=PROBES[1], notes=PROBES)
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a model that is called and described by probes."""
    home = tmp_path_factory.mktemp("served") / "home"
    publish_iris(home, report=report().encode(), signature=probed())
    server = servable.serve(home=home, port=0, background=True)
    assert server is not None
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every page that is written to a file, full of probes, by its name."""
    folder = tmp_path_factory.mktemp("pages")
    home = folder / "home"
    for _ in range(2):
        publish_iris(home)
    with open_home(home) as place:
        turns = Turns(place.state, SystemClock())
        told = turn("refused", reason=PROBES[0], said=PROBES[1]).record
        told["signs"] = {"drift": PROBES[2], "quality": PROBES[3]}
        told["drifting"] = [{**each, "name": PROBES[1]} for each in told["drifting"]]
        told["gate"] = {"passed": False, "reasons": list(PROBES), "seconds": 0.0}
        turns.advance(turns.begin("iris", told), told, step="deploy", state="refused")
    write_turn("iris", 1, folder / "turn.html", home=home)
    write_history("iris", folder / "turns.html", home=home)
    servable.deploy("iris:1", canary="5,50", home=home)
    servable.show_rollout("iris", report=folder / "rollout.html", home=home)
    said = Event(at="2026-01-01T00:00:00Z", decision="start", step=0, reason=PROBES[1])
    steered = rollout_outcome(reason=PROBES[0], events=(said,), kind="canary")
    (folder / "told.html").write_text(render_rollout(steered, ()), encoding="utf-8")
    drifted = msgspec.structs.replace(drift_report(name=PROBES[1]), data=PROBES[0], notes=PROBES)
    (folder / "drift.html").write_text(render_drift(drifted), encoding="utf-8")
    (folder / "report.html").write_text(report(), encoding="utf-8")
    return {file.stem: file for file in folder.glob("*.html")}


def test_what_a_policy_refuses_is_noticed(browser: Browser, tmp_path: Path, files: dict[str, Path]) -> None:
    page = files["report"].read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(page.replace("<body>", f"<body>{PROBES[0]}<p style='color:red'>"), encoding="utf-8")
    seen = browser.see(f"file://{bad}")
    assert len(seen.refused) >= 2
    assert NAME.search(seen.document) is None
    # Without its policy the page would have run it.
    bad.write_text(_META.sub("", bad.read_text(encoding="utf-8")), encoding="utf-8")
    assert NAME.search(browser.see(f"file://{bad}").document) is not None


@pytest.mark.parametrize(
    ("path", "until"),
    [("/", "body"), ("/docs#/iris/predict_iris", ".opblock-body .execute"), ("/models/iris/report", "body")],
)  # fmt: skip
def test_served_pages(browser: Browser, url: str, path: str, until: str, tmp_path: Path) -> None:
    seen = browser.see(url + path, until=until)
    assert seen.refused == ()
    assert NAME.search(seen.document) is None
    assert all(each.startswith((url, "data:")) for each in seen.asked), seen.asked


@pytest.mark.parametrize("name", ["report", "drift", "turn", "turns", "rollout", "told"])
def test_pages_as_files(browser: Browser, files: dict[str, Path], name: str, tmp_path: Path) -> None:
    seen = browser.see(f"file://{files[name]}")
    assert seen.refused == ()
    assert NAME.search(seen.document) is None
    assert all(each.startswith(("file://", "data:")) for each in seen.asked), seen.asked
    # Values are harmless by themselves; the policy is a second wall.
    bare = tmp_path / "bare.html"
    bare.write_text(_META.sub("", files[name].read_text(encoding="utf-8")), encoding="utf-8")
    assert NAME.search(browser.see(f"file://{bare}").document) is None
