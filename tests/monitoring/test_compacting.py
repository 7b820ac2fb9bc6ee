"""Segments are put together beside readers, writers, erasure and retention, and killed at every step."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import pytest

from monitoring.traffic import START, feedback, moment, predictions
from servable.errors import StorageFailed
from servable.monitoring.compacting import compact
from servable.monitoring.joined import join_stored
from servable.monitoring.people import People, remove, spelled
from servable.monitoring.sealed_tables import sealed_table
from servable.monitoring.sealing import NoSubjectKeys
from servable.monitoring.segment_cache import SegmentCache
from servable.monitoring.segments import TrafficStore

OVER = START + timedelta(days=2)
LATER = OVER + timedelta(minutes=2)
LAST = OVER + timedelta(hours=3)


def always() -> bool:
    return True


@pytest.fixture(params=["folder", "memory", "drafts"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TrafficStore:
    urls = {"folder": "", "memory": f"memory:/{tmp_path}/store", "drafts": f"file://{tmp_path}/store"}
    return TrafficStore(tmp_path / "home", urls[request.param])


def write(store: TrafficStore, number: int, day: int = 0) -> PurePath:
    at = 86_400.0 * day + number
    rows = predictions([(f"r{number}", 0, 1, at, "x"), (f"r{number}", 1, 1, at, "y")])
    return store.write("churn", "predictions", f"p-{number:03}", rows, moment(at))


def ids(store: TrafficStore) -> list[str]:
    return sorted(
        each for table in store.tables("churn", "predictions") for each in table["request_id"].to_pylist()
    )


def names(store: TrafficStore) -> list[str]:
    return sorted(path.name for path in store.files("churn", "predictions"))


def test_many_become_one_and_a_day_that_goes_on_stays(store: TrafficStore) -> None:
    for number in range(20):
        write(store, number)
    for number in range(20, 23):
        write(store, number, day=2)
    store.write("churn", "feedback", "f-1", feedback([("r3", 0, 90, "x", None)]), START)
    store.write("churn", "feedback", "f-2", feedback([("r4", 0, 91, "y", 2.0)]), START)
    before, joined = ids(store), join_stored(store, "churn").table
    assert compact(store, OVER, always) == 22
    assert len(store.segments("churn", "predictions")) == 4
    assert len(store.segments("churn", "feedback")) == 1
    for now in (OVER, LATER, LAST):
        compact(store, now, always)
        assert ids(store) == before
        assert join_stored(store, "churn").table.equals(joined)
    assert len(names(store)) == 5
    # Nothing is left to do, and nothing is done.
    assert compact(store, LAST, always) == 0


def test_a_reader_who_listed_before_reads_all_rows_once(store: TrafficStore) -> None:
    for number in range(5):
        write(store, number)
    listed = store.segments("churn", "predictions")
    compact(store, OVER, always)
    compact(store, LATER, always)
    assert not any(name.startswith("p-") and name.endswith(".parquet") for name in names(store))
    assert sum(table.num_rows for table in store.read(listed)) == 10
    compact(store, LAST, always)
    assert store.read(listed) == []


def test_late_segments_join(store: TrafficStore) -> None:
    for number in range(3):
        write(store, number)
    compact(store, OVER, always)
    # Written, and not known to be.
    write(store, 1)
    assert len(ids(store)) == 6
    write(store, 3)
    compact(store, OVER, always)
    assert len(store.segments("churn", "predictions")) == 1
    assert ids(store) == sorted(f"r{number}" for number in range(4) for _ in range(2))


def test_feedback_that_is_written_again_is_not_there_twice(store: TrafficStore) -> None:
    def tell(number: int) -> None:
        table = feedback([(f"r{number}", 0, 90, "x", None)])
        store.write("churn", "feedback", f"a-host-1-{number}", table, START)

    def told() -> int:
        return sum(table.num_rows for table in store.tables("churn", "feedback"))

    for number in range(9):
        tell(number)
    for hours in range(6):
        compact(store, OVER + timedelta(hours=2 * hours), always)
        # From a journal of a server that was killed before it could remove it.
        tell(4)
        assert told() == 9
    tell(9)
    assert told() == 10


def test_columns_of_several_versions_stay_apart(store: TrafficStore) -> None:
    for number in range(4):
        rows = predictions([(f"r{number}", 0, 1, number, "x")])
        more = rows.append_column("in.new", pa.array([1.5])) if number % 2 else rows
        store.write("churn", "predictions", f"p-{number}", more, moment(number))
    compact(store, OVER, always)
    compact(store, LAST, always)
    tables = store.tables("churn", "predictions")
    assert sorted(("in.new" in table.column_names, table.num_rows) for table in tables) == [
        (False, 2),
        (True, 2),
    ]
    assert compact(store, LAST, always) == 0


class Known(NamedTuple):
    """The keys of subjects, and who was erased."""

    keys: Mapping[str, bytes]
    erased: Mapping[str, int] = {}


class Killed(BaseException):
    """The process ends here."""


class KilledPlace:
    """A place that ends the process before or after its n-th change."""

    def __init__(self, place: Any, change: int, *, after: bool) -> None:
        self._place = place
        self._left = change
        self._after = after

    def __getattr__(self, name: str) -> Any:
        done = getattr(self._place, name)
        if name not in ("put", "move", "discard"):
            return done

        def changed(*given: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            found = done(*given)
            if self._left == 0:
                raise Killed
            return found

        return changed


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("now", [OVER, LATER, LAST])
def test_a_kill_at_any_change_leaves_every_row_once(tmp_path: Path, now: Any, after: bool) -> None:
    for change in range(1, 9):
        store = TrafficStore(tmp_path / str(change), "")
        for number in range(4):
            write(store, number)
        before = ids(store)
        for earlier in (OVER, LATER):
            if earlier < now:
                compact(store, earlier, always)
        whole, store.place = store.place, KilledPlace(store.place, change, after=after)
        with suppress(Killed):
            compact(store, now, always)
        store.place = whole
        assert ids(store) == before
        for again in (now, now + timedelta(minutes=2), now + timedelta(hours=3)):
            compact(store, again, always)
            assert ids(store) == before
        assert len(names(store)) == 2


def test_whoever_is_erased_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    class Stamped(TrafficStore):
        """Somebody is erased after the segments were read."""

        erased = 0

        def stored(self, *given: Any) -> Any:
            yield from super().stored(*given)
            self.erased += 1

    store = Stamped(tmp_path, "")

    class Keys:
        declares = staticmethod(lambda model: False)

        def stamp(self) -> str:
            return str(store.erased)

    store.keys = Keys()  # type: ignore[assignment]  # No more of it is asked for.
    for number in range(3):
        write(store, number)
    assert compact(store, OVER, always) == 0
    assert len(store.segments("churn", "predictions")) == 3


def test_nothing_changes_while_another_one_changes_segments(store: TrafficStore) -> None:
    for number in range(3):
        write(store, number)
    before = names(store)
    assert compact(store, OVER, lambda: False) == 0
    assert names(store) == before


@pytest.mark.parametrize("now", [OVER, LATER, LAST])
def test_erasing_reaches_every_copy(store: TrafficStore, now: Any) -> None:
    for number in range(4):
        rows = predictions([(f"r{number}", 0, 1, number, "x")]).append_column(
            "in.who", pa.array([f"u{number}"])
        )
        store.write("churn", "predictions", f"p-{number}", rows, moment(number))
    for step in (OVER, LATER, LAST):
        if step <= now:
            compact(store, step, always)
    removed = remove(store, "churn", People(frozenset(), {"who": spelled(store, "u2")}))
    assert removed.rows == 1
    for again in (now, now + timedelta(minutes=2), now + timedelta(hours=3)):
        compact(store, again, always)
        assert ids(store) == ["r0", "r1", "r3"]
    for path in store.files("churn", "predictions"):
        for found in store.place.read([path]):
            assert b"u2" not in found.source.read()


def test_old_days_go_with_all_that_is_in_them(store: TrafficStore) -> None:
    for number in range(3):
        write(store, number)
    compact(store, OVER, always)
    compact(store, LATER, always)
    assert store.remove_before((START + timedelta(days=1)).date()) == 1
    assert names(store) == []


def test_a_damaged_segment_is_left_as_it_is(tmp_path: Path) -> None:
    store = TrafficStore(tmp_path, "")
    paths = [write(store, number) for number in range(3)]
    Path(paths[1]).write_bytes(b"PAR1 not")
    compact(store, OVER, always)
    assert Path(paths[1]) in store.segments("churn", "predictions")
    assert len(ids(store)) == 4
    assert compact(store, LAST, always) == 0
    assert Path(paths[1]).read_bytes() == b"PAR1 not"


def test_a_damaged_ledger_is_said_and_not_guessed(tmp_path: Path) -> None:
    store = TrafficStore(tmp_path, "")
    for number in range(2):
        write(store, number)
    compact(store, OVER, always)
    (ledger,) = tmp_path.rglob("compacted.json")
    ledger.write_text("{")
    with pytest.raises(StorageFailed, match="is damaged"):
        store.segments("churn", "predictions")


def test_what_is_remembered_is_read_again_once(store: TrafficStore) -> None:
    cache = SegmentCache()
    for number in range(6):
        write(store, number)
    before = join_stored(cache.of(store), "churn").table
    compact(store, OVER, always)
    assert join_stored(cache.of(store), "churn").table.equals(before)
    compact(store, LATER, always)
    assert join_stored(cache.of(store), "churn").table.equals(before)


def test_readers_and_writers_beside_it_see_every_row_once(tmp_path: Path) -> None:
    store, written, ended = TrafficStore(tmp_path, ""), [0], threading.Event()
    faults: list[str] = []

    def read() -> None:
        while not ended.is_set():
            least = written[0]
            found = ids(TrafficStore(tmp_path, ""))
            if len(found) != 2 * len(set(found)):
                faults.append("a row was there twice, or one of two was not")
            if len(set(found)) < least:
                faults.append(f"{least - len(set(found))} rows were lost")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(120):
        write(store, number)
        written[0] = number + 1
        if number % 10 == 9:
            # Each pass moves the sources of the one before aside, which readers may have listed.
            compact(store, OVER + timedelta(minutes=number), always)
    ended.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert len(ids(store)) == 240


def test_sealed_rows_are_put_together_unopened(tmp_path: Path) -> None:
    class Keys(NoSubjectKeys):
        known: ClassVar[dict[str, bytes]] = {}

        def find(self, subjects: Any) -> Any:
            return Known({each: self.known[each] for each in subjects if each in self.known})

    store = TrafficStore(tmp_path, "", Keys())
    secret = store.secret()
    for number in range(4):
        subject = secret.subject_id(f"u{number % 2}")
        Keys.known.setdefault(subject, secret.new_key(subject))
        key = secret.data_key(subject, Keys.known[subject])
        assert key is not None
        rows = predictions([(f"r{number}", 0, 1, number, "x")])
        made = sealed_table(
            rows, ("request_id", "out.prediction"), [subject], [key], secret, "churn/predictions"
        )
        store.write("churn", "predictions", f"p-{number}", made, moment(number))
    assert ids(store) == ["r0", "r1", "r2", "r3"]
    sealed, Keys.known = Keys.known, {}
    # Without any key, as after a restore, nothing is lost either.
    assert compact(store, OVER, always) == 4
    assert ids(store) == []
    Keys.known = sealed
    assert len(store.segments("churn", "predictions")) == 1
    assert ids(store) == ["r0", "r1", "r2", "r3"]
    Keys.known = {subject: key for subject, key in sealed.items() if subject != secret.subject_id("u0")}
    assert ids(store) == ["r1", "r3"]
