"""A folder and blob stores keep the same promises about segments."""

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from monitoring.stores import LostStore, register
from monitoring.traffic import START, feedback, moment, predictions
from servable.errors import DependencyMissing, StorageFailed
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.joined import join_stored
from servable.monitoring.journal import Journal, settle_orphans
from servable.monitoring.segment_places import BlobPlace, FolderPlace, SegmentPlace
from servable.monitoring.segments import TrafficStore
from servable.testing import FakeClock

Making = Callable[[Path], SegmentPlace]


def folder(path: Path) -> SegmentPlace:
    return FolderPlace(path / "traffic")


def memory(path: Path) -> SegmentPlace:
    return BlobPlace(f"memory:/{path}/traffic")


def drafts(path: Path) -> SegmentPlace:
    """A store in which a file is seen while it grows, so that drafts are moved to their names."""
    return BlobPlace(f"file://{path}/traffic")


@pytest.fixture(params=[folder, memory, drafts])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> SegmentPlace:
    make: Making = request.param
    return make(tmp_path)


@pytest.fixture
def lost() -> Iterator[str]:
    register()
    LostStore.there = True
    yield f"lost://{uuid.uuid4().hex}"
    LostStore.there = True


def contents(place: SegmentPlace, folder: str) -> dict[str, bytes]:
    paths = sorted(place.files(folder, lambda day: True), key=str)
    return {each.path.name: each.source.read() for each in place.read(paths)}


def test_what_is_put_is_found_and_replaced(place: SegmentPlace) -> None:
    assert place.folders() == []
    assert place.files("churn/predictions", lambda day: True) == []
    place.put("churn/predictions/2026-01-31/s-1.parquet", b"one")
    place.put("churn/predictions/2026-02-01/s-2.parquet", pa.py_buffer(b"two"))
    place.put("rose/feedback/2026-02-01/s-2.parquet", b"three")
    assert sorted(place.folders()) == ["churn", "rose"]
    assert contents(place, "churn/predictions") == {"s-1.parquet": b"one", "s-2.parquet": b"two"}
    assert contents(place, "churn/feedback") == {}
    chosen = place.files("churn/predictions", lambda day: day > "2026-01-31")
    assert [path.name for path in chosen] == ["s-2.parquet"]
    place.put("churn/predictions/2026-01-31/s-1.parquet", b"other")
    assert contents(place, "churn/predictions")["s-1.parquet"] == b"other"


def test_what_goes_while_it_is_read_is_passed_over(place: SegmentPlace) -> None:
    paths = [place.put(f"churn/feedback/2026-01-31/s-{number}.parquet", b"x") for number in range(40)]
    assert place.remove("churn/feedback", lambda day: day < "2026-01-31") == []
    assert len(place.remove("churn/feedback", lambda day: day < "2026-02-01")) == 40
    assert place.files("churn/feedback", lambda day: True) == []
    assert [found.source for found in place.read(paths)] == [None] * 40


def test_whoever_lists_meanwhile_sees_whole_files_alone(place: SegmentPlace) -> None:
    size, seen, ended = 100_000, [], threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.extend(len(content) for content in contents(place, "churn/feedback").values())

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(60):
        place.put(f"churn/feedback/2026-01-31/s-{number}.parquet", bytes(size))
    ended.set()
    looking.join()
    assert set(seen) <= {size}
    assert len(contents(place, "churn/feedback")) == 60


@pytest.mark.parametrize("scheme", ["", "memory:/", "file://"])
def test_traffic_of_several_machines_is_one(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path / 'shared'}" if scheme else ""
    homes = [tmp_path / name for name in (("one", "two") if url else ("one", "one"))]
    stores = [TrafficStore(home, url) for home in homes]
    stores[0].write("churn", "predictions", "one-1", predictions([("a", 0, 1, 0, "x")]), START)
    stores[1].write("churn", "predictions", "two-1", predictions([("b", 0, 1, 1, "y")]), moment(1))
    stores[1].write("churn", "feedback", "two-1", feedback([("a", 0, 9, "x", None)]), START)
    for store in stores:
        assert store.models() == ("churn",)
        found = join_stored(store, "churn")
        assert found.table["request_id"].to_pylist() == ["a", "b"]
        assert found.table["outcome"].to_pylist() == ["x", None]
    assert stores[0].key() == stores[1].key()
    assert stores[0].stamp("churn") == stores[1].stamp("churn") != ""
    assert stores[0].remove_before(moment(86_400).date()) == 3
    assert stores[1].segments("churn", "predictions") == ()
    if url:
        assert not (homes[0] / "traffic").exists()


def test_hashes_stay_alike_when_a_home_gets_a_blob_store(tmp_path: Path) -> None:
    own = TrafficStore(tmp_path / "home", "").key()
    url = f"memory:/{tmp_path}"
    assert TrafficStore(tmp_path / "home", url).key() == own
    assert TrafficStore(tmp_path / "other", url).key() == own
    fsspec.filesystem("memory").pipe_file(f"{tmp_path}/capture.key", b"short")
    with pytest.raises(StorageFailed, match="no key of 32 bytes"):
        TrafficStore(tmp_path / "home", url).key()


def test_the_settings_name_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVABLE_BLOB_URL", f"memory:/{tmp_path}/")
    TrafficStore(tmp_path / "home").write("churn", "feedback", "s", feedback([("a", 0, 1, "x", None)]), START)
    assert TrafficStore(tmp_path / "other").models() == ("churn",)
    assert TrafficStore(tmp_path / "other", "").models() == ()


def test_feedback_waits_in_its_journal_while_the_store_is_gone(tmp_path: Path, lost: str) -> None:
    store = TrafficStore(tmp_path, lost)
    journal = Journal(store, "s", FakeClock())
    LostStore.there = False
    journal.append("churn", [FeedbackRow("a", 0, "x")]).result(10)
    with pytest.raises(StorageFailed, match=r"blob store lost://.* failed while .*nobody answers"):
        journal.settle()
    for ask in (store.models, store.key, lambda: store.segments("churn", "feedback")):
        with pytest.raises(StorageFailed, match="nobody answers"):
            ask()
    with pytest.raises(StorageFailed, match="nobody answers"):
        store.write("churn", "predictions", "s", predictions([]), START)
    LostStore.there = True
    assert settle_orphans(store) == 1
    assert join_stored(store, "churn").unknown == 1
    journal.close()


def test_a_store_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="nothing://x"):
        TrafficStore(tmp_path, "nothing://x").models()
    with pytest.raises(DependencyMissing, match="s3"):
        TrafficStore(tmp_path, "s3://x").models()
