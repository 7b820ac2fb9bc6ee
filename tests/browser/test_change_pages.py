"""The pages about turns and rollouts as a real browser lays them out, on a desk and on a telephone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import servable
from servable.clock import SystemClock
from servable.registry.home import open_home
from servable.registry.turns import Turns
from servable.updating.reports import write_history, write_turn
from serving.making import publish_iris
from updating.turns import turn

CHROMIUM = shutil.which("chromium") or ""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no browser: chromium is not on PATH (a Debian package)")

#: Tells what the layout came to, in an attribute of the body.
MEASURED = """<script>addEventListener("load", () => {
  document.body.dataset.wide = document.documentElement.scrollWidth + " in " + innerWidth;
});</script></body>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of a turn, of all turns, and of a rollout."""
    folder = tmp_path_factory.mktemp("pages")
    home = folder / "home"
    for _ in range(2):
        publish_iris(home)
    with open_home(home) as place:
        turns = Turns(place.state, SystemClock())
        for state in ("refused", "promoted"):
            told = turn(state)
            turns.advance(turns.begin("iris", told.record), told.record, step="deploy", state=told.state)
    write_turn("iris", 2, folder / "turn.html", home=home)
    write_history("iris", folder / "turns.html", home=home)
    servable.deploy("iris:1", canary="5,50", home=home)
    servable.show_rollout("iris", report=folder / "rollout.html", home=home)
    for page in folder.glob("*.html"):
        text = page.read_text(encoding="utf-8").replace("</body>", MEASURED)
        # The policy of the page would not let it run.
        page.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", text), encoding="utf-8")
    return folder


def look(page: Path, fragment: str, width: int, folder: Path) -> str:
    """The browser's document, once it was laid out."""
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    words += ["--disable-background-networking", f"--user-data-dir={folder / 'browser'}"]
    words += [f"--window-size={width},900", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [*words, f"file://{page}{fragment}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["turn.html", "turns.html", "rollout.html"])
def test_nothing_is_wider_than_a_telephone(name: str, pages: Path, tmp_path: Path) -> None:
    found = re.search(r'data-wide="(\d+) in (\d+)"', look(pages / name, "", 390, tmp_path))
    assert found is not None
    wide, window = map(int, found.groups())
    assert wide <= window <= 500


def test_a_link_to_a_turn_opens_it(pages: Path, tmp_path: Path) -> None:
    closed = '<details class="turn"><summary><b>Turn 1</b>'
    assert closed in look(pages / "turns.html", "", 1100, tmp_path)
    assert closed not in look(pages / "turns.html", "#turn-1", 1100, tmp_path)
