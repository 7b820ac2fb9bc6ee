"""Following files: what counts as changed, and what is done about it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.engines import reload
from servable.engines.reload import Reload, look, settled_changes
from servable.errors import SettingInvalid
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import write_graph

LOOKS = st.dictionaries(
    st.sampled_from([Path("a"), Path("b")]), st.none() | st.tuples(*[st.integers(0, 2)] * 3)
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at as often as these tests change them."""
    monkeypatch.setattr(reload, "LOOK_S", 0.02)


@given(LOOKS, LOOKS)
def test_a_file_counts_as_changed_once_it_stands_still(known: dict, now: dict) -> None:
    assert settled_changes(known, known, now) == set()
    changed = settled_changes(known, now, now)
    assert changed == {file for file in (Path("a"), Path("b")) if known.get(file) != now.get(file)}
    assert settled_changes(now, now, now) == set()


def test_files_look_different_when_they_change(tmp_path: Path) -> None:
    file = tmp_path / "x"
    looks = [look([file])]
    file.write_text("a")
    looks.append(look([file]))
    os.utime(file, (1, 1))
    looks.append(look([file]))
    assert len({each[file] for each in looks}) == 3


class Course(NamedTuple):
    """What a reload did."""

    lines: list[str]
    restarts: list[ServerSettings | None]


def follow(
    reload_of: Callable[[Callable[[str], None]], Reload], change: Callable[[], None], *, well: bool = True
) -> Course:
    """Follow while something changes, until a line tells that it is done with."""
    course = Course([], [])

    async def watch() -> None:
        done = asyncio.Event()

        def say(line: str) -> None:
            course.lines.append(line)
            if not line.endswith(("restart", "taken in again")):
                done.set()

        async def restart(settings: ServerSettings | None) -> bool:
            course.restarts.append(settings)
            return well

        following = asyncio.create_task(reload_of(say).follow(restart))
        await asyncio.sleep(0)
        change()
        await asyncio.wait_for(done.wait(), 60)
        following.cancel()

    asyncio.run(watch())
    return course


def test_changed_settings_restart_the_workers(tmp_path: Path) -> None:
    config = tmp_path / "servable.toml"
    fresh = ServerSettings(max_rows=5)
    course = follow(
        lambda say: Reload({}, config, lambda: fresh, say, sources=tmp_path / "none"),
        lambda: config.write_text("[server]\nmax_rows = 5\n") and None,
    )
    assert course.restarts == [fresh]
    assert course.lines == [f"{config} changed; the workers restart", "the workers restarted"]


def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    config = tmp_path / "servable.toml"

    def refuse() -> ServerSettings:
        raise SettingInvalid("There is no such setting.")

    course = follow(
        lambda say: Reload({}, config, refuse, say, sources=tmp_path / "none"),
        lambda: config.write_text("x") and None,
    )
    assert course.restarts == []
    assert course.lines == [
        f"{config} changed and cannot be used: There is no such setting. The settings before stay."
    ]


def test_changed_sources_restart_the_workers(tmp_path: Path) -> None:
    module = tmp_path / "src" / "part" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    course = follow(
        lambda say: Reload({}, tmp_path / "no.toml", ServerSettings, say, sources=tmp_path / "src"),
        lambda: module.write_text("x = 1") and None,
        well=False,
    )
    assert course.restarts == [None]
    assert "those before go on" in course.lines[-1]


def test_a_changed_model_file_is_taken_in_again(tmp_path: Path, home: Path) -> None:
    model = tmp_path / "linear.onnx"
    write_graph(model)
    again = ["add", str(model), "--name", "linear", "--deploy", "--home", str(home)]

    def made(say: Callable[[str], None]) -> Reload:
        return Reload({model: again}, tmp_path / "no.toml", ServerSettings, say, sources=tmp_path / "none")

    course = follow(made, lambda: model.write_bytes(b"no model at all") and None)
    assert course.lines[-1] == f"{model} was not taken in; the version before goes on answering"
    course = follow(made, lambda: write_graph(model))
    assert course.lines[-1] == f"{model} is deployed; the running server changes over by itself"
    assert course.restarts == []
    with open_home(home) as opened:
        assert opened.deployments.get("linear").version == 1
