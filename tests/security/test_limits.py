"""Limits as people write them, and what follows from them: pure, over many values."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servable.errors import InputError
from servable.security.limits import (
    NO_LIMITS,
    Limits,
    Rate,
    arrival,
    block,
    excess,
    limits_of,
    low,
    parse_limits,
    parse_quota,
    parse_rate,
)

SECOND_NS = 1_000_000_000
RATES = st.builds(Rate, st.integers(1, 10_000), st.sampled_from([1, 60, 3600, 86_400]))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1)),
        (" 60 / min ", Rate(60, 60)),
        ("60/m", Rate(60, 60)),
        ("5k/h", Rate(5000, 3600)),
        ("1.5K/hour", Rate(1500, 3600)),
        ("1M/day", Rate(1_000_000, 86_400)),
    ],
)
def test_rates_are_read(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "/s", "0/s", "-1/s", "1.5/s", "100/week", "x/s", "1e3/s", "1/s/s", "2G/s"]
)
def test_what_is_no_rate_is_said_so(text: str) -> None:
    with pytest.raises(InputError, match=r"is no rate; write|leave the rate out"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "quota"), [("10k/day", 10_000), ("1M/d", 1_000_000), ("250", 250), ("2.5k/day", 2500)]
)
def test_quotas_are_read(text: str, quota: int) -> None:
    assert parse_quota(text) == quota


@pytest.mark.parametrize("text", ["", "0/day", "100/s", "many/day", "1.5/day", "9999G/day"])
def test_what_is_no_quota_is_said_so(text: str) -> None:
    with pytest.raises(InputError, match="is no quota; write"):
        parse_quota(text)


@pytest.mark.parametrize("concurrency", [0, -1, 1_000_001])
def test_what_is_no_concurrency_is_said_so(concurrency: int) -> None:
    with pytest.raises(InputError, match="from 1 to 1000000"):
        parse_limits(None, None, concurrency)


@given(st.builds(Limits, st.none() | RATES, st.integers(0, 10**12), st.integers(0, 1_000_000)))
@example(NO_LIMITS)
def test_limits_are_kept_as_they_are_written(limits: Limits) -> None:
    assert limits_of(dict(limits.texts())) == limits


@given(RATES, st.lists(st.integers(0, 20 * SECOND_NS), max_size=200), st.integers(0, 10**18))
def test_of_any_span_at_most_a_window_and_the_rate_passes(rate: Rate, gaps: list[int], start: int) -> None:
    moment, now = 0, start
    passed: list[int] = []
    for gap in gaps:
        now += gap
        after = arrival(moment, now, rate.interval_ns)
        if excess(after, now, rate.worth_ns) <= 0:
            moment = after
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            span = passed[last] - passed[first]
            assert last - first + 1 <= rate.requests + span * rate.requests / (rate.window_s * SECOND_NS)


@given(RATES, st.integers(1, 10**18))
def test_a_windows_worth_passes_at_once_and_the_next_after_what_was_said(rate: Rate, now: int) -> None:
    # As many as the moments of so many requests.
    moment = arrival(0, now, rate.interval_ns * rate.requests)
    assert excess(moment, now, rate.worth_ns) == 0
    refused = excess(arrival(moment, now, rate.interval_ns), now, rate.worth_ns)
    assert refused == rate.interval_ns
    later = now + refused
    assert excess(arrival(moment, later, rate.interval_ns), later, rate.worth_ns) <= 0
    assert excess(arrival(moment, later - 1, rate.interval_ns), later - 1, rate.worth_ns) > 0


@given(st.integers(1, 10**6), st.lists(st.integers(0, 10), max_size=30))
def test_blocks_are_never_more_than_the_quota_and_reach_it(quota: int, given_back: list[int]) -> None:
    taken = answered = 0
    for unused in given_back:
        count = block(quota, taken)
        assert 0 <= count <= min(10_000, max(16, quota // 100))
        back = min(unused, count)
        taken += count - back
        answered += count - back
        assert answered <= taken <= quota
    assert block(quota, quota) == block(quota, quota + 5) == 0
    assert quota == 0 or block(quota, quota - 1) == 1


def test_the_next_block_is_fetched_early_where_blocks_are_large() -> None:
    assert low(1_000_000) == 2500
    assert low(100_000) == 250
    # Small quotas would be held by one server.
    assert low(100) == -1
