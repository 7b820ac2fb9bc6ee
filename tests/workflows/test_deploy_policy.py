"""How a deployment is served: said once, kept, shown, and heard by servers; and options of sessions."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

import servable
from optimization.graphs import convolution
from servable.artifact.manifest import SAMPLE_FILE
from servable.artifact.package import open_package
from servable.errors import SettingInvalid
from servable.frameworks.onnx_session import SESSION, kind_of_machine
from servable.registry.home import open_home, republish
from servable.testing import RecordedProgress


@pytest.fixture
def taken_in(tmp_path: Path, home: Path) -> Path:
    """A home with ``image:1``, a small foreign ONNX model with a fixed batch dimension."""
    servable.add(convolution(tmp_path / "image.onnx", batch=1), name="image", home=home)
    return home


def token(home: Path) -> int:
    with open_home(home, create=False) as opened:
        return opened.change_token()


def test_wishes_are_kept_shown_and_forgotten(taken_in: Path) -> None:
    assert servable.deploy("image", home=taken_in).policy == {}
    before = token(taken_in)
    said = servable.deploy("image", executor="process", processes=2, cache="64MiB", pin=True, home=taken_in)
    wishes = {"executor": "process", "processes": 2, "cache_bytes": 64 * 1024**2, "pinned": True}
    assert said.policy == wishes
    assert (said.version, said.previous) == (1, None)
    assert token(taken_in) != before, "servers follow a change of the policy alone"
    assert servable.deploy("image", home=taken_in).policy == wishes
    changed = servable.deploy("image", executor="auto", pin=False, run_limit_s=2, home=taken_in)
    assert changed.policy == {"processes": 2, "cache_bytes": 64 * 1024**2, "run_limit_s": 2.0}
    assert servable.describe("image", home=taken_in).policy == changed.policy
    assert servable.models(home=taken_in)[0].policy == changed.policy
    assert servable.status(home=taken_in).deployments[0].policy == changed.policy
    reset = servable.deploy("image", reset_policy=True, max_batch=8, home=taken_in)
    assert reset.policy == {"max_batch": 8}


def test_a_wish_that_cannot_be_used_changes_nothing(taken_in: Path) -> None:
    with pytest.raises(SettingInvalid, match="64MiB"):
        servable.deploy("image", cache="plenty", home=taken_in)
    assert servable.models(home=taken_in)[0].deployed is None


def test_describe_says_where_each_form_runs_and_why(taken_in: Path, finished_home: Path) -> None:
    (row,) = servable.describe("image", home=taken_in).variants
    assert row.runs == "inline"
    assert "graph is declarative" in row.runs_why
    assert row.session["threads"] == 1
    assert row.session_said == "the default options"
    servable.deploy("image", executor="process", processes=3, home=taken_in)
    (row,) = servable.describe("image", home=taken_in).variants
    assert (row.runs, row.runs_why) == ("process", "the deployment asks for it; 3 processes")
    rows = {row.name: row for row in servable.describe("iris", home=finished_home).variants}
    assert rows["trained"].runs == "process"
    assert "runs Python code" in rows["trained"].runs_why
    assert rows["trained"].session == {}
    assert rows["onnx-fp64"].runs == "inline"
    assert rows["onnx-fp64"].session["seconds"] > 0


def test_on_another_machine_it_is_measured_at_load(taken_in: Path) -> None:
    elsewhere(taken_in)
    (row,) = servable.describe("image", home=taken_in).variants
    assert (row.runs, row.runs_why) == ("", "one row is timed when it is loaded here")
    assert row.session == {}


def test_optimize_adds_what_is_best_here_and_keeps_what_is_best_elsewhere(taken_in: Path) -> None:
    elsewhere(taken_in)
    progress = RecordedProgress()
    outcome = servable.optimize("image", home=taken_in, progress=progress)
    assert (outcome.model, outcome.version) == ("image", 1)
    assert "Tune for this machine" in [stage.title for stage in progress.stages]
    found = servable.describe("image", home=taken_in)
    kept = open_package(Path(found.package)).manifest.chosen.options[SESSION]
    assert kept["elsewhere"] == {"threads": 5}
    assert kept[kind_of_machine()]["threads"] == 1


def test_a_fixed_batch_dimension_breaks_nothing(taken_in: Path) -> None:
    found = servable.describe("image", home=taken_in)
    assert list(found.variants[0].timings) == ["1"]
    assert not (Path(found.package) / SAMPLE_FILE).exists()


def test_training_tunes_every_compiled_form(finished_home: Path) -> None:
    manifest = open_package(Path(servable.describe("iris", home=finished_home).package)).manifest
    compiled = [variant for variant in manifest.variants if variant.format == "onnx"]
    assert compiled
    for variant in compiled:
        assert np.isfinite(variant.options[SESSION][kind_of_machine()]["seconds"])
    assert SESSION not in manifest.variant("trained").options


def elsewhere(home: Path) -> None:
    """Let the package of ``image:1`` look as if it came from another machine."""
    with open_home(home) as opened:
        record = opened.models.resolve("image")
        package = opened.package(record)
        (variant,) = package.manifest.variants
        options = {**variant.options, SESSION: {"elsewhere": {"threads": 5}}}
        manifest = msgspec.structs.replace(
            package.manifest,
            machine="another",
            variants=(msgspec.structs.replace(variant, options=options),),
            files=(),
        )
        with opened.packages.staging() as folder:
            for entry in package.manifest.files:
                shutil.copyfile(package.folder / entry.path, folder / entry.path)
            republish(opened, folder, manifest, record)
