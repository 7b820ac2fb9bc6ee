from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.client.retry import (
    RETRYABLE_STATUSES,
    Attempt,
    RetryBudget,
    RetryPolicy,
    retry_after_s,
    wait_before_retry,
)
from servable.testing import FakeClock

ATTEMPTS = st.builds(
    Attempt,
    number=st.integers(0, 20),
    status=st.one_of(st.none(), st.integers(100, 599)),
    retry_after_s=st.one_of(st.none(), st.floats(0, 1e6)),
    remaining_s=st.floats(-10, 1e6),
)
POLICIES = st.builds(RetryPolicy, retries=st.integers(0, 10), base_s=st.floats(0, 1), cap_s=st.floats(0, 10))


@given(POLICIES, ATTEMPTS, st.floats(0, 1))
def test_a_retry_is_allowed_useful_and_in_time(policy, attempt, jitter):
    wait = wait_before_retry(policy, attempt, jitter)
    if wait is None:
        return
    assert attempt.number < policy.retries
    assert attempt.status is None or attempt.status in RETRYABLE_STATUSES
    assert 0 <= wait < attempt.remaining_s
    assert wait >= (attempt.retry_after_s or 0)
    assert wait <= policy.cap_s + (attempt.retry_after_s or 0)


@given(st.integers(0, 5), st.floats(0, 1))
def test_waits_grow_and_are_spread_over_all_of_it(number, jitter):
    policy = RetryPolicy(retries=10, base_s=0.1, cap_s=100.0)
    wait = wait_before_retry(policy, Attempt(number, 503, None, 1e9), jitter)
    assert wait is not None
    assert wait == pytest.approx(0.1 * 2**number * jitter)


@pytest.mark.parametrize("status", [200, 400, 404, 422, 500, 501])
def test_no_retry_where_it_cannot_help(status):
    assert wait_before_retry(RetryPolicy(5), Attempt(0, status, None, 100.0), 0.5) is None


def test_retry_after_in_seconds_and_as_a_date():
    clock = FakeClock()
    assert retry_after_s("7", clock) == 7.0
    later = format_datetime(clock.now() + timedelta(seconds=30), usegmt=True)
    assert retry_after_s(later, clock) == pytest.approx(30.0, abs=1.0)
    earlier = format_datetime(clock.now() - timedelta(seconds=30), usegmt=True)
    assert retry_after_s(earlier, clock) == 0.0


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5", "Mon, 99 Foo 2026", "²"])
def test_a_retry_after_that_says_nothing(header):
    assert retry_after_s(header, FakeClock()) is None


def test_the_budget_holds_a_storm_to_a_tenth():
    budget = RetryBudget(ratio=0.1, reserve=10)
    retries = 0
    for _ in range(1000):
        budget.earn()
        retries += budget.spend() + budget.spend()
    assert 100 <= retries <= 111
