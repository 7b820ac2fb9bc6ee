"""What is acknowledged is on the disk, whatever happens before it becomes a segment."""

import threading
from pathlib import Path
from typing import Any

import pytest

from servable.errors import Overloaded, StorageFailed
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.journal import JOURNALS, Journal, settle_orphans
from servable.monitoring.segments import TrafficStore
from servable.testing import FakeClock

ROWS = [FeedbackRow("a", 0, "yes"), FeedbackRow("a", 1, None, 0.5, 1)]


def kept(store: TrafficStore, model: str = "churn") -> list[dict[str, Any]]:
    return [row for table in store.read(store.segments(model, "feedback")) for row in table.to_pylist()]


def journals(store: TrafficStore) -> list[Path]:
    return sorted((store.root / JOURNALS).glob("*.jsonl"))


@pytest.fixture
def store(tmp_path: Path) -> TrafficStore:
    return TrafficStore(tmp_path)


def test_rows_become_a_segment_for_each_model(store: TrafficStore) -> None:
    journal = Journal(store, "s", FakeClock())
    journal.append("churn", ROWS).result(10)
    journal.append("fraud", ROWS[:1]).result(10)
    assert kept(store) == []
    assert journal.settle() == 3
    assert journal.settle() == 0
    assert [(row["request_id"], row["row"], row["outcome"], row["reward"]) for row in kept(store)] == [
        ("a", 0, "yes", None), ("a", 1, None, 0.5),
    ]  # fmt: skip
    assert len(kept(store, "fraud")) == 1
    assert journals(store) == []
    journal.append("churn", ROWS[:1]).result(10)
    assert journal.settle() == 1
    assert len(kept(store)) == 3
    journal.close()


def test_every_row_has_a_later_moment_although_the_clock_stands_still(store: TrafficStore) -> None:
    journal = Journal(store, "s", FakeClock())
    for _ in range(3):
        journal.append("churn", ROWS).result(10)
    journal.close()
    journal.settle()
    moments = [row["at"] for row in kept(store)]
    assert moments == sorted(set(moments))


def test_what_a_killed_server_left_is_found_once(store: TrafficStore) -> None:
    journal = Journal(store, "killed", FakeClock())
    journal.append("churn", ROWS).result(10)
    # Its server lives, so nobody else may have it.
    assert settle_orphans(store) == 0
    (path,) = journals(store)
    content = path.read_bytes()
    journal.close()
    journal.settle()
    # A kill between the segment and the end of the journal, and one in the middle of a line.
    path.write_bytes(content + b'["churn","b",0,"yes"')
    assert settle_orphans(store) == 2
    assert len(kept(store)) == 2
    assert journals(store) == []
    assert settle_orphans(store) == 0


def test_many_callers_share_a_sync_and_all_are_told(store: TrafficStore) -> None:
    journal = Journal(store, "s", FakeClock())
    told: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda name=f"r{number}": told.append(
                journal.append("churn", [FeedbackRow(name, 0, "yes")]).result(30)
            )
        )
        for number in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert len(told) == journal.settle() == 40
    assert {row["request_id"] for row in kept(store)} == {f"r{number}" for number in range(40)}


def test_a_storage_that_is_gone_is_told_and_may_come_back(store: TrafficStore) -> None:
    store.root.write_text("in the way")
    journal = Journal(store, "s", FakeClock())
    with pytest.raises(StorageFailed, match="while keeping feedback"):
        journal.append("churn", ROWS).result(10)
    store.root.unlink()
    journal.append("churn", ROWS).result(10)
    # The segments cannot be written: the journal stays, and is found again with the orphans.
    blocked = store.root / "churn"
    blocked.write_text("in the way")
    with pytest.raises(StorageFailed):
        journal.settle()
    assert len(journals(store)) == 1
    blocked.unlink()
    assert settle_orphans(store) == 2
    journal.close()


def test_a_row_that_nobody_can_write_down_is_told_and_the_next_are_kept(store: TrafficStore) -> None:
    journal = Journal(store, "s", FakeClock())
    with pytest.raises(StorageFailed, match="failed inside"):
        journal.append("churn", [FeedbackRow("a", 0, "half a letter: \ud800")]).result(10)
    journal.append("churn", ROWS).result(10)
    journal.close()
    assert journal.settle() == len(ROWS)


def test_what_waits_is_bounded_and_a_closed_journal_takes_nothing(store: TrafficStore) -> None:
    journal = Journal(store, "s", FakeClock(), most=1)
    # More than the bound is taken when nothing waits, so that a large body is never refused for ever.
    journal.append("churn", ROWS * 50).result(10)
    journal.close()
    with pytest.raises(StorageFailed, match="stopping"):
        journal.append("churn", ROWS)
    assert Overloaded.retryable
