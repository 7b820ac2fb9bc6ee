"""Which models may answer rows of several callers in one run."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from servable.errors import ModelFailed
from servable.frameworks.base import MIXES
from servable.runtime.batchable import Batching, as_declared, batching_elsewhere, batching_of
from servable.tensors import NUMBERS, PREDICTION, Arrays

EXAMPLE = {NUMBERS: np.array([[1.0, 2.0, 3.0]])}
Model = Callable[[Arrays], dict[str, Any]]


def of(model: Callable[[Any], Any]) -> Model:
    return lambda arrays: {PREDICTION: model(arrays[NUMBERS])}


def one_at_a_time(numbers: Any) -> Any:
    if len(numbers) != 1:
        raise ModelFailed("One row, please.")
    return numbers.sum(axis=1)


def picky(numbers: Any) -> Any:
    if (numbers[:, 0] < 1).any():
        raise ModelFailed("Too small.")
    return numbers.sum(axis=1)


@pytest.fixture(params=["here", "elsewhere"])
def tried(request: pytest.FixtureRequest) -> Callable[[Model], Batching]:
    def here(model: Model) -> Batching:
        return batching_of(model, EXAMPLE)

    def elsewhere(model: Model) -> Batching:
        async def run(arrays: Arrays) -> dict[str, Any]:
            return model(arrays)

        return asyncio.run(batching_elsewhere(run, EXAMPLE))

    return here if request.param == "here" else elsewhere


@pytest.mark.parametrize(
    "model",
    [
        of(lambda numbers: numbers.sum(axis=1)),
        of(lambda numbers: numbers.argmax(axis=1)),
        of(lambda numbers: numbers.astype(np.float32) * (1 + 1e-7 * len(numbers))),
        of(lambda numbers: np.array(["a", "b"], object)[(numbers[:, 0] > 0.7).astype(int)]),
        of(lambda numbers: np.full(len(numbers), np.nan)),
        of(picky),
    ],
    ids=["sums", "labels", "rounding", "texts", "nan", "picky"],
)
def test_rows_that_do_not_notice_each_other_share_a_run(
    tried: Callable[[Model], Batching], model: Model
) -> None:
    assert tried(model) == Batching()


def test_a_fixed_batch_dimension_is_run_row_by_row(tried: Callable[[Model], Batching]) -> None:
    batching = tried(of(one_at_a_time))
    assert (batching.shared, batching.rows) == (True, 1)
    assert "one row at a time" in batching.reason


@pytest.mark.parametrize(
    "model",
    [
        of(lambda numbers: numbers - numbers.mean(axis=0)),
        of(lambda numbers: numbers / np.abs(numbers).max()),
        of(lambda numbers: (numbers[:, 0] >= numbers[:, 0].max()).astype(int)),
        of(lambda numbers: numbers.sum(axis=1)[::-1]),
        of(lambda numbers: np.array([numbers.sum()])),
    ],
    ids=["mean", "scale", "labels", "order", "one answer"],
)
def test_rows_that_influence_each_other_stay_alone(tried: Callable[[Model], Batching], model: Model) -> None:
    batching = tried(model)
    assert not batching.shared
    assert batching.reason.startswith("rows influence each other: prediction")


def test_a_model_that_fails_on_its_example_says_so(tried: Callable[[Model], Batching]) -> None:
    def broken(_numbers: Any) -> Any:
        raise ModelFailed("No.")

    with pytest.raises(ModelFailed, match="No"):
        tried(of(broken))


def test_a_form_may_say_itself_that_its_rows_influence_each_other() -> None:
    assert as_declared(Batching(), {}) == Batching()
    assert as_declared(Batching(), {MIXES: False}) == Batching()
    declared = as_declared(Batching(True, 4), {MIXES: True})
    assert (declared.shared, declared.rows) == (False, 4)
    assert "influence each other" in declared.reason
    found = Batching(False, 0, "rows influence each other: prediction")
    assert as_declared(found, {MIXES: True}) == found
