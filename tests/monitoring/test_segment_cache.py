"""Segments are opened once, within a bound of memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import pytest

from monitoring.traffic import START, feedback, moment, predictions
from servable.monitoring.joined import join_stored
from servable.monitoring.segment_cache import SegmentCache
from servable.monitoring.segments import Segment, TrafficStore


class CountingStore(TrafficStore):
    """Counts the segments that are opened."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, "")
        self.opened: list[str] = []

    def each(self, paths: Iterable[PurePath], columns: Iterable[str] | None = None) -> Iterator[Segment]:
        for segment in super().each(paths, columns):
            self.opened.append(segment.path.stem)
            yield segment

    def since_last(self) -> list[str]:
        opened, self.opened = self.opened, []
        return opened


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    made = CountingStore(tmp_path)
    for number in range(50):
        write(made, number)
    return made


def write(store: TrafficStore, number: int, day: int = 0) -> None:
    at = 86_400.0 * day + number
    store.write(
        "churn", "predictions", f"p-{number}", predictions([(f"r{number}", 0, 1, at, "x")]), moment(at)
    )


def test_only_new_segments_are_opened_and_the_outcome_is_the_same(store: CountingStore) -> None:
    cache = SegmentCache()
    assert join_stored(cache.of(store), "churn").table.equals(join_stored(store, "churn").table)
    assert len(store.since_last()) == 100
    write(store, 50)
    write(store, 51, day=1)
    store.write("churn", "feedback", "f-1", feedback([("r3", 0, 90, "x", None)]), START)
    found = join_stored(cache.of(store), "churn")
    assert sorted(store.since_last()) == ["f-1", "p-50", "p-51"]
    assert found.table.num_rows == 52
    # A label that comes late, and one that is corrected, are about rows that were read long ago.
    store.write(
        "churn", "feedback", "f-2", feedback([("r3", 0, 99, "y", None), ("r51", 0, 99, "x", 1)]), moment(9e4)
    )
    found = join_stored(cache.of(store), "churn")
    assert store.since_last() == ["f-2"]
    outcomes = dict(
        zip(found.table["request_id"].to_pylist(), found.table["outcome"].to_pylist(), strict=True)
    )
    assert (outcomes["r3"], outcomes["r51"], outcomes["r4"]) == ("y", "x", None)
    assert found.table.equals(join_stored(store, "churn").table)


def test_days_that_went_are_forgotten_and_nothing_else_is_opened(store: CountingStore) -> None:
    cache = SegmentCache()
    write(store, 60, day=2)
    assert join_stored(cache.of(store), "churn").table.num_rows == 51
    store.since_last()
    store.remove_before(moment(86_400).date())
    assert join_stored(cache.of(store), "churn").table["request_id"].to_pylist() == ["r60"]
    assert store.since_last() == []


def test_a_segment_that_goes_alone_takes_nothing_with_it(store: CountingStore) -> None:
    cache = SegmentCache()
    join_stored(cache.of(store), "churn")
    Path(store.segments("churn", "predictions")[0]).unlink()
    assert join_stored(cache.of(store), "churn").table.num_rows == 49


def test_memory_is_bounded_and_what_has_no_room_is_read_again(store: CountingStore) -> None:
    one = sum(table.nbytes for table in store.tables("churn", "predictions")) // 50
    store.since_last()
    cache = SegmentCache(most_bytes=one * 20)
    assert join_stored(cache.of(store), "churn").table.num_rows == 50
    assert len(store.since_last()) == 50
    assert join_stored(cache.of(store), "churn").table.num_rows == 50
    assert 25 <= len(store.since_last()) <= 35
    cache.keep([])
    assert join_stored(cache.of(store), "churn").table.num_rows == 50
    assert len(store.since_last()) == 50


def test_a_damaged_segment_is_opened_once_and_named(
    store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    cache = SegmentCache()
    path = store.segments("churn", "predictions")[7]
    Path(path).write_bytes(b"no parquet")
    for _ in range(3):
        assert join_stored(cache.of(store), "churn").table.num_rows == 49
    assert store.since_last().count(path.stem) == 1
    assert len(caplog.records) == 1
    assert cache.damaged("churn") == (str(path),)
    assert cache.damaged("rose") == ()
