"""Session options out of a package: used where they fit this machine, passed over where they do not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimization.graphs import convolution
from servable.errors import ArtifactUnreadable
from servable.frameworks.lookup import adapter
from servable.frameworks.onnx import open_session, predictor_with
from servable.frameworks.onnx_session import (
    CPU,
    DEFAULT,
    SESSION,
    SessionChoice,
    kind_of_machine,
    other_providers,
    stored_choice,
)


def kept(entry: Any) -> dict[str, Any]:
    return {SESSION: {kind_of_machine(): entry}}


def test_the_entry_of_this_machine_is_used(tmp_path: Path) -> None:
    path = convolution(tmp_path / "model.onnx")
    entry = {"threads": 2, "slots": 3, "arena": False, "patterns": False, "level": "basic", "seconds": 0.5}
    assert stored_choice(kept(entry)) == SessionChoice(**entry)
    options = open_session(path, kept(entry)).get_session_options()
    assert options.intra_op_num_threads == 2
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    plain = open_session(path).get_session_options()
    assert plain.intra_op_num_threads == 1
    assert plain.enable_cpu_mem_arena


def test_the_entry_of_another_machine_is_not(tmp_path: Path) -> None:
    options = {SESSION: {"another machine": {"threads": 2}}}
    assert stored_choice(options) is None
    session = open_session(convolution(tmp_path / "model.onnx"), options)
    assert session.get_session_options().intra_op_num_threads == 1


def test_keys_of_a_newer_program_are_passed_over() -> None:
    assert stored_choice(kept({"threads": 2, "warp": 9})) == SessionChoice(threads=2)


@pytest.mark.parametrize(
    "entry",
    [
        {"threads": 0},
        {"threads": -1},
        {"threads": 10**9},
        {"threads": "2"},
        {"threads": 2.5},
        {"slots": True},
        {"slots": 10**9},
        {"arena": "no"},
        {"level": "everything"},
        {"provider": "AzureExecutionProvider"},
        {"provider": "NoSuchExecutionProvider"},
        {"provider": "x" * 10_000},
        {"provider": ["CPUExecutionProvider"]},
        {"seconds": -1.0},
        {"seconds": None},
        [],
        "threads",
        None,
        7,
    ],
)
def test_a_hostile_entry_means_the_defaults(tmp_path: Path, entry: Any) -> None:
    assert stored_choice(kept(entry)) is None
    path = convolution(tmp_path / "model.onnx")
    session = open_session(path, kept(entry))
    assert session.get_session_options().intra_op_num_threads == 1
    assert session.get_providers() == [CPU]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(entry=ANYTHING | st.dictionaries(st.sampled_from(SessionChoice.__struct_fields__), ANYTHING))
def test_no_entry_at_all_raises(entry: Any) -> None:
    for options in (kept(entry), {SESSION: entry}):
        found = stored_choice(options)
        if found is not None:
            assert 1 <= found.threads <= 256
            assert 1 <= found.slots <= 256
            assert found.provider in (CPU, *other_providers())


def test_a_package_with_a_hostile_entry_answers(tmp_path: Path) -> None:
    onnx = adapter("onnx")
    trained = onnx.read(convolution(tmp_path / "model.onnx"), sample=None, trust=False)
    folder = tmp_path / "package"
    folder.mkdir()
    variant = onnx.write(trained, folder)
    variant.options.update(kept({"threads": {"$ne": 1}}))
    rows = {"image": np.ones((2, 4, 8, 8), np.float32)}
    answer = onnx.load(folder, variant, trained.signature, trust=False).predict(rows)
    expected = onnx.wrap(trained).predict(rows)
    assert all(np.array_equal(answer[name], expected[name]) for name in expected)


def test_a_damaged_file_is_refused_with_and_without_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nonsense")
    for options in (None, kept({"threads": 2})):
        with pytest.raises(ArtifactUnreadable, match=r"model\.onnx"):
            open_session(path, options)
    assert predictor_with(path, {"feeds": [], "outputs": {}}, DEFAULT) is None


def test_a_provider_that_is_not_here_gives_no_predictor(tmp_path: Path) -> None:
    path = convolution(tmp_path / "model.onnx")
    assert predictor_with(path, {"feeds": [], "outputs": {}}, DEFAULT) is not None
    absent = SessionChoice(provider="CUDAExecutionProvider")
    if absent.provider not in other_providers():
        with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
            assert predictor_with(path, {"feeds": [], "outputs": {}}, absent) is None


def test_the_kind_of_machine_names_what_matters() -> None:
    assert "cores, onnxruntime " in kind_of_machine()
    assert kind_of_machine().endswith("CPU")
