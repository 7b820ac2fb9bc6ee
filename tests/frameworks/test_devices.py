"""The words for devices, and what becomes of a wish."""

import pytest

from servable.frameworks.base import DEVICE
from servable.frameworks.devices import Placed, gpu_number, is_device, settle, wanted


@pytest.mark.parametrize(
    ("wish", "gpus", "device", "said"),
    [
        ("auto", 0, "cpu", ""),
        ("auto", 2, "cuda:0", ""),
        ("cpu", 2, "cpu", ""),
        ("cuda", 1, "cuda:0", ""),
        ("cuda:1", 2, "cuda:1", ""),
        ("cuda:1", 1, "cpu", "there are 1 GPUs"),
        ("cuda", 0, "cpu", "nobody put one in"),
    ],
)
def test_a_wish_is_met_or_the_reason_is_said(wish: str, gpus: int, device: str, said: str) -> None:
    placed = settle(wish, gpus, "nobody put one in")
    assert placed.device == device
    assert said in placed.note
    assert bool(placed.note) == bool(said)


def test_only_words_for_devices_count() -> None:
    assert [text for text in ("auto", "cpu", "cuda", "cuda:7", "cuda:x", "gpu", "") if is_device(text)] == [
        "auto",
        "cpu",
        "cuda",
        "cuda:7",
    ]
    assert wanted({}) == wanted({DEVICE: "gpu"}) == wanted({DEVICE: 1}) == "auto"
    assert (gpu_number("cuda"), gpu_number("cuda:3"), gpu_number("cpu")) == (0, 3, None)
    assert Placed("cpu").note == ""
