"""Times as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.clock import span_s

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@given(st.integers(0, 10**6), st.sampled_from(sorted(SECONDS)), st.sampled_from(["", " "]))
def test_a_span_is_a_number_of_units(count: int, unit: str, between: str) -> None:
    assert span_s(f"{count}{between}{unit}") == count * SECONDS[unit]
    assert span_s(f" {count}{between}{unit.upper()} ") == count * SECONDS[unit]


def test_parts_of_a_unit() -> None:
    assert span_s("1.5h") == 5400


@pytest.mark.parametrize("text", ["", "1", "d", "1 day", "-1d", "1.d", ".5h", "1h30m", "inf s"])
def test_what_is_no_span(text: str) -> None:
    assert span_s(text) is None
