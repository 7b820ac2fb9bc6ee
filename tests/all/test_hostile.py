"""Nothing of a hostile file is executed, and all of them are refused, with every framework installed."""

from typing import Any

import pytest

from hostile_outcomes import check_refused, check_unseen, outcomes

pytest.importorskip("tensorflow")
pytest.importorskip("torch")
pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcomes(tmp_path_factory.mktemp("hostile"), "every")


def test_nothing_hostile_is_executed(found: dict[str, Any]) -> None:
    assert len(found) > 300
    check_unseen(found)


def test_everything_hostile_is_refused_in_one_sentence(found: dict[str, Any]) -> None:
    check_refused(found)


@pytest.mark.parametrize("name", ["torch", "old-torch-4", "lambda", "lambda-h5", "saved-PyFuncStateless"])
def test_what_would_be_executed_is_named(found: dict[str, Any], name: str) -> None:
    assert "was not opened, because" in found[name]["added"]["told"]
