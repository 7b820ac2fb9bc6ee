"""Wilson's interval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.monitoring.intervals import wilson


@given(share=st.floats(0, 1), size=st.floats(0.5, 1e6))
def test_wilson_holds_its_share(share: float, size: float) -> None:
    low, high = wilson(share, size)
    assert 0 <= low <= share <= high <= 1


def test_wilson_by_hand() -> None:
    # 81 of 263: the example of Newcombe, "Two-sided confidence intervals for the single proportion", 1998.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
