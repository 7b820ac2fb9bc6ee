"""How keys are made and checked."""

import itertools
import math
import random
import statistics
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.security.keys import KeyRecord, NewKey, Shown, matches, new_key, shown
from servable.security.scopes import parse_scopes


def record_of(key: NewKey) -> KeyRecord:
    return KeyRecord(key.id, "k", key.salt, key.digest, parse_scopes(["predict"]), "2026-01-01T00:00:00Z")


def test_a_key_is_known_again_and_holds_256_bits() -> None:
    made = [new_key() for _ in range(200)]
    assert len({key.id for key in made}) == len({key.text for key in made}) == 200
    for key in made:
        parts = shown(key.text)
        assert parts is not None
        assert parts.id == key.id
        # 43 letters of 6 bits.
        assert len(parts.secret) == 43
        assert matches(parts, record_of(key))
        assert parts.secret not in "".join((key.salt, key.digest))


@given(st.integers(0, 60), st.characters(codec="ascii"))
def test_a_key_with_one_other_letter_is_none(place: int, letter: str) -> None:
    key = new_key()
    place %= len(key.text)
    other = key.text[:place] + letter + key.text[place + 1 :]
    parts = shown(other)
    assert parts is None or other == key.text


@given(st.text(max_size=100))
def test_other_texts_are_no_keys(text: str) -> None:
    assert shown(text) is None


def test_only_the_secret_of_the_record_matches() -> None:
    mine, other = new_key(), new_key()
    parts = shown(mine.text)
    assert not matches(parts, record_of(other))
    assert not matches(parts, None)
    assert not matches(None, record_of(mine))
    assert not matches(None, None)


def test_the_state_of_a_key() -> None:
    record = record_of(new_key())
    before, after = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    assert record.state(after) == "active"
    late = record._replace(expires_at="2026-02-01T00:00:00Z")
    assert (late.state(before), late.state(after)) == ("active", "expired")
    assert late._replace(revoked_at="2026-01-02T00:00:00Z").state(after) == "revoked"


#: Where a difference of timings counts as one; a statistic of chance is beyond it once in 150,000 times.
_T = 4.5


def timings(given: dict[str, tuple[Shown | None, KeyRecord | None]], seed: int) -> dict[str, list[float]]:
    """Nanoseconds of checks of each kind, in an order of chance, so that none comes after the same one."""
    order = random.Random(seed).choices(list(given), k=80_000)
    taken: dict[str, list[float]] = {name: [] for name in given}
    for name in order:
        shown_key, record = given[name]
        start = time.perf_counter_ns()
        matches(shown_key, record)
        taken[name].append(time.perf_counter_ns() - start)
    # The slow fifth is the machine's; the limit is one for all kinds, so that it hides no difference.
    limit = sorted(itertools.chain(*taken.values()))[len(order) * 8 // 10]
    return {name: [each for each in times if each <= limit] for name, times in taken.items()}


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t: how many standard errors two means are apart."""
    error = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(error)


@pytest.mark.soak
def test_a_check_takes_as_long_wherever_a_key_is_wrong() -> None:
    """Wrong keys that differ in their first and in their last letter: nothing can be told by their time."""
    key = new_key()
    record = record_of(key)
    right = shown(key.text)
    assert right is not None
    first = Shown(right.id, ("B" if right.secret[0] == "A" else "A") + right.secret[1:])
    last = Shown(right.id, right.secret[:-1] + ("B" if right.secret[-1] == "A" else "A"))
    given = {"first": (first, record), "last": (last, record), "unknown": (right, None), "none": (None, None)}
    rounds = [timings(given, seed) for seed in range(3)]
    found = [welch(taken["first"], taken["last"]) for taken in rounds]
    # A difference that is there is there each time.
    assert min(map(abs, found)) < _T, found
    for kind in ("unknown", "none"):
        # Ids are no secrets; that nobody has one shows by no more than a few steps of the interpreter.
        means = [statistics.fmean(taken[kind]) / statistics.fmean(taken["last"]) for taken in rounds]
        assert statistics.median(means) == pytest.approx(1, abs=0.1), (kind, means)


@pytest.mark.soak
def test_a_check_that_ends_at_the_first_wrong_letter_would_be_noticed() -> None:
    draw = random.Random(0)
    quick = [draw.gauss(1000, 50) for _ in range(16_000)]
    slow = [draw.gauss(1005, 50) for _ in range(16_000)]
    assert abs(welch(quick, slow)) > _T > abs(welch(quick, quick[::-1]))
