"""The response cache against a plain model of it, with a clock that moves when told."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from servable.inputs.rows import raw_files
from servable.monitoring.metrics import Meter
from servable.runtime.cache import ARRAY_BYTES, ENTRY_BYTES, NoCache, ResponseCache
from servable.testing import FakeClock
from thoroughness import examples

ANSWER = {"prediction": np.array([1.0])}
ONE = ENTRY_BYTES + ARRAY_BYTES + 8


def fresh(max_bytes: int = 1 << 20, max_age_s: float = 60.0) -> tuple[ResponseCache, Meter, FakeClock]:
    meter, clock = Meter("m", 1), FakeClock()
    return ResponseCache(max_bytes, max_age_s, meter, clock), meter, clock


def test_an_answer_is_given_again_until_it_is_too_old() -> None:
    cache, meter, clock = fresh()
    key = cache.key({"numbers": np.array([[1.0, 2.0]])})
    assert cache.get(key) is None
    cache.put(key, ANSWER)
    clock.advance(59.9)
    found = cache.get(key)
    assert found is not None
    assert found["prediction"].tolist() == [1.0]
    clock.advance(0.1)
    assert cache.get(key) is None
    assert (meter.cache_hits, meter.cache_misses, meter.cache_bytes, len(cache)) == (1, 2, 0, 0)


def test_being_asked_for_does_not_make_an_answer_younger() -> None:
    cache, _, clock = fresh(max_age_s=10)
    cache.put(b"k", ANSWER)
    for _ in range(4):
        clock.advance(2.4)
        assert cache.get(b"k") is not None
    clock.advance(0.5)
    assert cache.get(b"k") is None


def test_the_least_recently_used_goes_first() -> None:
    cache, meter, _ = fresh(max_bytes=3 * ONE)
    for key in (b"a", b"b", b"c"):
        cache.put(key, ANSWER)
    assert cache.get(b"a") is not None
    cache.put(b"d", ANSWER)
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert cache.held_bytes == meter.cache_bytes == 3 * ONE


def test_what_is_too_large_is_not_kept_and_drives_nothing_out() -> None:
    cache, meter, _ = fresh(max_bytes=2 * ONE)
    cache.put(b"a", ANSWER)
    cache.put(b"b", {"prediction": np.zeros(1000)})
    assert len(cache) == 1
    assert cache.get(b"a") is not None
    # An answer that replaced one under the same key is not left behind by a larger one.
    cache.put(b"a", {"prediction": np.zeros(1000)})
    assert cache.get(b"a") is None
    assert meter.cache_bytes == 0


def test_texts_count_with_their_length() -> None:
    cache, _, _ = fresh()
    cache.put(b"a", {"y": np.array(["x" * 10_000, "y" * 10_000], object)})
    assert cache.held_bytes > 20_000


def test_an_answer_cannot_be_changed_by_those_who_share_it() -> None:
    cache, _, _ = fresh()
    batch = np.arange(1000.0)
    mine = {"prediction": batch[3:5], "other": batch[:1]}
    cache.put(b"k", mine)
    batch[:] = -1
    mine.clear()
    found = cache.get(b"k")
    assert found is not None
    assert found["prediction"].tolist() == [3.0, 4.0]
    assert found["prediction"].base is None
    for change in (lambda: found["prediction"].__setitem__(0, 9), lambda: found["prediction"].fill(9)):
        with pytest.raises(ValueError, match="read-only"):
            change()
    found.clear()
    again = cache.get(b"k")
    assert again is not None
    assert set(again) == {"prediction", "other"}


def test_clearing_gives_the_bytes_back() -> None:
    cache, meter, _ = fresh()
    cache.put(b"a", ANSWER)
    cache.put(b"b", ANSWER)
    cache.clear()
    assert (len(cache), cache.held_bytes, meter.cache_bytes) == (0, 0, 0)
    assert cache.get(b"a") is None


def test_no_cache_has_the_same_face() -> None:
    cache = NoCache()
    key = cache.key({"numbers": np.ones((1, 1))})
    cache.put(key, ANSWER)
    assert cache.get(key) is None
    cache.clear()


# ---------------------------------------------------------------- keys


def key(**arrays: Any) -> bytes:
    return fresh()[0].key(arrays)


def test_keys_tell_everything_apart() -> None:
    base = np.array([[1.0, 2.0]])
    different = [
        key(numbers=base),
        key(others=base),
        key(numbers=base.T),
        key(numbers=base.astype(np.float32)),
        key(numbers=base.view(np.int64)),
        key(numbers=base, strings=np.array([["a"]], object)),
        key(numbers=-base),
        key(numbers=np.array([[0.0]])),
        key(numbers=np.array([[-0.0]])),
        key(strings=np.array([["ab", "c"]], object)),
        key(strings=np.array([["a", "bc"]], object)),
        key(strings=np.array([["a"], ["bc"]], object)),
        key(strings=np.array([["a", "b\x00c"]], object)),
        key(strings=np.array([["", ""]], object)),
        key(x=np.zeros((0, 2))),
        key(x=np.zeros((2, 0))),
        key(),
    ]
    assert len(set(different)) == len(different)
    assert {len(each) for each in different} == {16}


def test_keys_see_values_and_not_how_they_lie() -> None:
    array = np.arange(12.0).reshape(3, 4)
    same = [
        array,
        np.asfortranarray(array),
        array.copy()[::1],
        np.arange(24.0).reshape(3, 8)[:, :4] * 0 + array,
    ]
    frozen = array.copy()
    frozen.setflags(write=False)
    assert len({key(x=each) for each in [*same, frozen, np.frombuffer(array.tobytes()).reshape(3, 4)]}) == 1
    texts = np.array([["é", "b"]], object)
    assert key(strings=texts) == key(strings=np.array([["b", "é"]], object)[:, ::-1])
    assert fresh()[0].key({"a": array, "b": texts}) == fresh()[0].key({"b": texts, "a": array})


ARRAYS = st.dictionaries(
    st.sampled_from(["a", "b", "numbers"]),
    st.builds(
        lambda values, dtype: np.array(values, dtype).reshape(1, -1),
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from(["f8", "f4", "i8", "u1"]),
    )
    | st.lists(st.text("ab", max_size=2), max_size=3).map(lambda texts: np.array([texts], object)),
    max_size=2,
)


@settings(max_examples=examples(300), deadline=None)
@given(ARRAYS, ARRAYS)
def test_keys_are_equal_for_equal_input_alone(one: dict[str, Any], other: dict[str, Any]) -> None:
    equal = one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tolist() == other[name].tolist()
        for name in one
    )
    assert (key(**one) == key(**other)) == equal


# ---------------------------------------------------------------- against a model


class Against(RuleBasedStateMachine):
    """The cache beside a list that is searched from end to end."""

    MOST = 6 * ONE
    AGE = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.cache, self.meter, self.clock = fresh(self.MOST, self.AGE)
        # Key, values, size, time; the least recently used first.
        self.kept: list[tuple[bytes, list[float], int, float]] = []
        self.hits = self.misses = 0

    def find(self, key: bytes) -> Any:
        return next((entry for entry in self.kept if entry[0] == key), None)

    # Only the number of values and what tells them apart matter; drawing each would take most of the time.
    @rule(
        key=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
        count=st.integers(0, 400),
        first=st.integers(0, 9),
    )
    def put(self, key: bytes, count: int, first: int) -> None:
        values = [first + place / 8 for place in range(count)]
        self.cache.put(key, {"prediction": np.array(values)})
        size = ENTRY_BYTES + ARRAY_BYTES + 8 * len(values)
        self.kept = [entry for entry in self.kept if entry[0] != key]
        if size <= self.MOST:
            while sum(entry[2] for entry in self.kept) + size > self.MOST:
                self.kept.pop(0)
            self.kept.append((key, values, size, self.clock.monotonic()))

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]))
    def get(self, key: bytes) -> None:
        entry = self.find(key)
        if entry is not None and self.clock.monotonic() - entry[3] >= self.AGE:
            self.kept.remove(entry)
            entry = None
        found = self.cache.get(key)
        if entry is None:
            self.misses += 1
            assert found is None
        else:
            self.hits += 1
            self.kept.remove(entry)
            self.kept.append(entry)
            assert found is not None
            assert found["prediction"].tolist() == entry[1]

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 9.5, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.kept)
    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.kept = []

    @invariant()
    def agrees(self) -> None:
        held = sum(entry[2] for entry in self.kept)
        assert self.cache.held_bytes == self.meter.cache_bytes == held <= self.MOST
        assert len(self.cache) == len(self.kept)
        assert (self.meter.cache_hits, self.meter.cache_misses) == (self.hits, self.misses)


Against.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestAgainstAModel = Against.TestCase


def test_files_are_told_apart_by_every_byte() -> None:
    cache, _, _ = fresh()
    keys = [
        cache.key({"image": raw_files(files)})
        for files in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], ["abc"], [b"ab", b"d"])
    ]
    assert len(set(keys)) == 5
    assert cache.key({"image": raw_files([b"ab", b"c"])}) == keys[0]
