"""What the driver says of GPUs, and how they are counted."""

import pytest

from servable.frameworks.accelerators import Before, memory_of, visible
from servable.testing import FakePredictor


@pytest.mark.parametrize(
    ("shown", "number", "name"),
    [
        (None, 0, 0),
        (None, 3, 3),
        ("2,0", 0, 2),
        ("2,0", 1, 0),
        ("2,0", 2, None),
        ("", 0, None),
        ("-1", 0, None),
        ("0,-1,2", 1, None),
        (" 1 , GPU-3e1c ", 1, "GPU-3e1c"),
    ],
)
def test_gpus_are_counted_as_cuda_counts_them(shown: str | None, number: int, name: int | str | None) -> None:
    environment = {} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}
    assert visible(number, environment) == name


class OnGpu(FakePredictor):
    """Says that it runs on the first GPU, and how much of it it keeps."""

    device = "cuda:0"
    accelerator_bytes = 7


def test_a_model_on_the_processor_takes_nothing_of_a_gpu() -> None:
    assert Before().taken(FakePredictor()) == 0


def test_what_a_model_says_that_it_keeps_is_the_least() -> None:
    assert Before().taken(OnGpu()) >= 7


def test_the_first_gpu_has_memory() -> None:
    memory = memory_of(0)
    if memory is None:
        pytest.skip("no GPU whose driver can be asked")
    assert 0 < memory.used < memory.total
    assert memory_of(1000) is None
