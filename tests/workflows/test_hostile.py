"""Nothing of a hostile file is executed, and all of them are refused."""

from typing import Any

import pytest

from hostile_outcomes import check_refused, check_unseen, outcomes


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcomes(tmp_path_factory.mktemp("hostile"), "core")


def test_nothing_hostile_is_executed(found: dict[str, Any]) -> None:
    assert len(found) > 250
    check_unseen(found)


def test_everything_hostile_is_refused_in_one_sentence(found: dict[str, Any]) -> None:
    check_refused(found)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("os-0", "os.system"),
        ("getattr", "os.system"),
        ("pickle-1", "os.system"),
        ("packed-xz", "os.system"),
        ("joblib-zlib", "posix.system"),
        ("skops-function", "os"),
        ("onnx-hard-link-graph-False", "hard links"),
        ("onnx-length-graph-True", "does not have"),
        ("onnx-unknown-key-graph-True", "__class__"),
        ("onnx-absolute-function-True", "plain file in the same folder"),
    ],
)
def test_what_is_wrong_is_said(found: dict[str, Any], name: str, word: str) -> None:
    assert word in found[name]["added"]["told"]
