"""The Tap seam: what everybody who is told of requests must hold to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from servable.runtime.waiting import Waiting
from servable.serving.live import Tap
from servable.tensors import Arrays
from servable.testing.expect import expect


def check_tap(tap: Tap, asked: Arrays, answers: Arrays) -> None:
    """Try what the Tap seam promises: it raises nothing and changes nothing that it is given.

    Args:
        tap: of a live model.
        asked: rows that the model takes; they are changed here afterwards.
        answers: what it answers to them; likewise.

    Raises:
        AssertionError: a promise is broken.
    """
    rows = len(next(iter(asked.values())))
    before = [_copies(asked), _copies(answers)]
    cases: Sequence[tuple[Arrays, int, Arrays | None, str]] = (
        (asked, rows, answers, "ok"),
        (asked, rows, None, "model_failed"),
        # Nothing was decoded, so there is nothing to look at.
        ({}, 0, None, "malformed_request"),
    )
    for arrays, count, given, code in cases:
        # A tap has no result; one that gave something would tempt somebody to use it.
        tap.took(Waiting(arrays, count), f"request-{code}", given, code, 0.001)
    for kept, now in zip(before, (asked, answers), strict=True):
        expect(kept.keys() == now.keys(), "a tap leaves the arrays as they are")
        expect(
            all(np.array_equal(kept[name], now[name]) for name in kept), "a tap changes nothing in the arrays"
        )
    # The memory is used again for the next request.
    for arrays in (asked, answers):
        for array in arrays.values():
            array[...] = array.dtype.type()


def _copies(arrays: Arrays) -> dict[str, Any]:
    return {name: array.copy() for name, array in arrays.items()}
