"""How keys are made and checked."""

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


@pytest.mark.soak
def test_a_check_takes_as_long_wherever_a_key_is_wrong() -> None:
    """Welch's t of wrong keys that differ in their first and in their last letter, and of unknown ids."""
    key = new_key()
    record = record_of(key)
    right = shown(key.text)
    assert right is not None
    swap = {"A": "B"}
    first = Shown(right.id, swap.get(right.secret[0], "A") + right.secret[1:])
    last = Shown(right.id, right.secret[:-1] + swap.get(right.secret[-1], "A"))
    kinds: dict[str, list[float]] = {"first": [], "last": [], "unknown": [], "none": []}
    given = {"first": (first, record), "last": (last, record), "unknown": (right, None), "none": (None, None)}
    for turn in range(20_000):
        for name in list(kinds)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter_ns()
            matches(*given[name])
            kinds[name].append(time.perf_counter_ns() - start)
    # The slow tenth is the machine's.
    calm = {name: sorted(times)[: len(times) * 9 // 10] for name, times in kinds.items()}
    means = {name: statistics.fmean(times) for name, times in calm.items()}
    assert abs(means["first"] - means["last"]) < 0.02 * means["last"], means
    assert abs(means["unknown"] - means["last"]) < 0.15 * means["last"], means
