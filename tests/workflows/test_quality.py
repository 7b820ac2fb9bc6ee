"""Live quality of a home: looked at again only when something is new, shown where people look."""

import uuid
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import servable
from monitoring.stores import LostStore, register
from monitoring.traffic import START, feedback, moment, predictions
from servable.errors import DataError, FileMissing, ModelNotFound, SettingInvalid
from servable.monitoring.segment_cache import RememberedTraffic, SegmentCache
from servable.monitoring.segments import Segment, TrafficStore
from servable.registry.home import Home, open_home
from servable.testing import FakeClock
from servable.workflows.quality import refresh_quality, remove_old
from servable.workflows.traffic import moment as moment_of
from serving.making import publish_iris

LABELS = ("setosa", "versicolor", "virginica")


def write(home: Path, answers: list[tuple[str, int, int, float, Any]], name: str = "s-1") -> None:
    table = predictions(answers)
    table = table.append_column("code", pa.array(["ok"] * len(answers)))
    table = table.append_column("sampled", pa.array(np.full(len(answers), 0.5)))
    TrafficStore(home).write("iris", "predictions", name, table, START)


def tell(home: Path, rows: list[Any], name: str = "s-1") -> None:
    TrafficStore(home).write("iris", "feedback", name, feedback(rows), START)


@pytest.fixture
def served(home: Path) -> Path:
    publish_iris(home)
    publish_iris(home)
    write(home, [("a", 0, 1, 0, "setosa"), ("b", 0, 1, 1, "setosa"), ("b", 0, 2, 2, "virginica"),
                 ("c", 0, 9, 3, "setosa")])  # fmt: skip
    return home


def test_figures_follow_labels_and_corrections_and_nothing_is_done_twice(served: Path) -> None:
    clock = FakeClock()
    with open_home(served, clock=clock) as home:
        assert refresh_quality(home, clock) == ("iris",)
        found = {each.version: each.value for each in home.findings.of("quality")}
        # Version 9 is no version of the registry.
        assert set(found) == {1, 2}
        assert found[1]["whole"]["labels"] == 0
        token = home.change_token()
        assert refresh_quality(home, clock) == ()
        assert home.change_token() == token
        clock.advance(3600)
        tell(
            served, [("a", 0, 10, "setosa", None), ("b", 0, 11, "setosa", None), ("z", 0, 11, "setosa", None)]
        )
        assert refresh_quality(home, clock) == ("iris",)
        accuracy = [
            each.value["whole"]["metrics"]["accuracy"]["value"] for each in home.findings.of("quality")
        ]
        assert accuracy == [1.0, 0.0]
        clock.advance(3600)
        tell(served, [("b", 0, 20, "virginica", 3.0)], "s-2")
        assert refresh_quality(home, clock) == ("iris",)
        accuracy = [
            each.value["whole"]["metrics"]["accuracy"]["value"] for each in home.findings.of("quality")
        ]
        assert accuracy == [0.5, 1.0]
    outcome = servable.quality("iris", home=served)
    assert outcome.unknown == 1
    assert [row.version for row in outcome.versions] == [1, 2]
    assert outcome.versions[0].quality.whole.metrics["reward"].value == 3.0


def test_a_look_that_took_long_is_not_repeated_at_once(served: Path) -> None:
    clock = FakeClock()
    with open_home(served, clock=clock) as home:
        assert refresh_quality(home, clock) == ("iris",)
        tell(served, [("a", 0, 10, "setosa", None)])
        assert refresh_quality(home, clock) == ()
        clock.advance(3600)
        assert refresh_quality(home, clock) == ("iris",)


class CountingCache(SegmentCache):
    """Counts the segments that a home's traffic gives away to it."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def of(self, store: TrafficStore) -> RememberedTraffic:
        return super().of(Counting(store, self.opened))


class Counting(TrafficStore):
    """The same traffic, which writes down what is opened."""

    def __init__(self, store: TrafficStore, opened: list[str]) -> None:
        super().__init__(store.root.parent, "")
        self._opened = opened

    def each(self, paths: Iterable[PurePath], columns: Iterable[str] | None = None) -> Iterator[Segment]:
        for segment in super().each(paths, columns):
            self._opened.append(f"{segment.path.parts[-3]} {segment.path.stem}")
            yield segment


def accuracy_of(home: Home) -> list[float]:
    return [each.value["whole"]["metrics"]["accuracy"]["value"] for each in home.findings.of("quality")]


def test_only_new_segments_are_opened_and_late_and_corrected_labels_count(served: Path) -> None:
    clock, cache = FakeClock(), CountingCache()
    for number in range(2, 30):
        write(served, [(f"m{number}", 0, 1, number, "setosa")], f"s-{number}")
    with open_home(served, clock=clock) as home:
        assert refresh_quality(home, clock, cache) == ("iris",)
        assert len(cache.opened) == 29
        for labels, opened, accuracy in (
            ([("m2", 0, 9, "setosa", None), ("b", 0, 9, "setosa", None)], ["feedback f-1"], [1.0, 0.0]),
            ([("m2", 0, 10, "virginica", None)], ["feedback f-2"], [0.5, 0.0]),
            ([("a", 0, 11, "setosa", None)], ["feedback f-3"], [2 / 3, 0.0]),
        ):
            cache.opened.clear()
            clock.advance(3600)
            tell(served, labels, opened[0].split()[1])
            assert refresh_quality(home, clock, cache) == ("iris",)
            assert cache.opened == opened
            assert accuracy_of(home) == pytest.approx(accuracy)
        cache.opened.clear()
        clock.advance(3600)
        assert refresh_quality(home, clock, cache) == ()
        assert cache.opened == []
    # Whoever watches next opens nothing while nothing is new, and then everything once.
    with open_home(served, clock=clock) as home:
        cache = CountingCache()
        assert refresh_quality(home, clock, cache) == ()
        assert cache.opened == []
        tell(served, [("a", 0, 12, "virginica", None)], "f-4")
        assert refresh_quality(home, clock, cache) == ("iris",)
        assert len(cache.opened) == len(set(cache.opened)) == 33
        assert accuracy_of(home) == pytest.approx([1 / 3, 0.0])


def test_a_damaged_segment_is_named_once_and_the_others_count(
    served: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, cache = FakeClock(), SegmentCache()
    write(served, [("d", 0, 1, 4, "setosa")], "s-9")
    damaged = served / "traffic" / "iris" / "predictions" / "2026-01-31" / "s-9.parquet"
    damaged.write_bytes(b"no parquet")
    with open_home(served, clock=clock) as home:
        for number in range(3):
            tell(served, [("a", 0, 10 + number, "setosa", None)], f"f-{number}")
            assert refresh_quality(home, clock, cache) == ("iris",)
            clock.advance(3600)
        (read,) = home.findings.of("quality_read")
        assert read.value["damaged"] == [str(damaged)]
        assert home.findings.of("quality")[0].value["whole"]["labels"] == 1
    assert [record.message for record in caplog.records] == ["a damaged segment is passed over"]


def test_a_store_that_fails_is_asked_again_after_a_while(
    served: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    monkeypatch.setattr(LostStore, "there", True)
    monkeypatch.setenv("SERVABLE_BLOB_URL", f"lost://{uuid.uuid4().hex}")
    clock, cache = FakeClock(), SegmentCache()
    with open_home(served, clock=clock) as home:
        write(served, [("a", 0, 1, 0, "setosa")])
        assert refresh_quality(home, clock, cache) == ("iris",)
        write(served, [("b", 0, 1, 0, "setosa")], "s-2")
        monkeypatch.setattr(LostStore, "readable", False)
        for _ in range(3):
            clock.advance(300)
            assert refresh_quality(home, clock, cache) == ()
        assert refresh_quality(home, clock, cache) == ()
        assert [record.message for record in caplog.records] == ["live quality is not known"]
        # What is known stays.
        assert home.findings.of("quality")[0].value["answers"] == 1
        monkeypatch.setattr(LostStore, "readable", True)
        assert refresh_quality(home, clock, cache) == ()
        clock.advance(300)
        assert refresh_quality(home, clock, cache) == ("iris",)
        assert home.findings.of("quality")[0].value["answers"] == 2


def test_what_is_too_old_goes(served: Path) -> None:
    clock = FakeClock()
    with open_home(served, clock=clock) as home:
        assert refresh_quality(home, clock) == ("iris",)
        clock.advance(6 * 86_400)
        assert remove_old(home, clock) == 0
        assert TrafficStore(served).segments("iris", "predictions")
        clock.advance(3 * 86_400)
        assert remove_old(home, clock) == 1
        assert refresh_quality(home, clock) == ("iris",)
        assert not TrafficStore(served).segments("iris", "predictions")
        assert home.findings.of("quality") == ()


def test_status_and_describe_show_it(served: Path) -> None:
    tell(served, [("b", 0, 11, "virginica", None)])
    with open_home(served) as home:
        refresh_quality(home, FakeClock())
    (row,) = servable.status(home=served).deployments
    assert row.quality is not None
    assert row.quality.recent.metrics["accuracy"].value == 1.0
    known = servable.describe("iris:1", home=served).quality
    assert known is not None
    assert known.whole.metrics["accuracy"].value == 0.0


def test_traffic_is_shown_and_exported(served: Path, tmp_path: Path) -> None:
    tell(served, [("a", 0, 10, "setosa", None)])
    target = tmp_path / "out.parquet"
    outcome = servable.traffic("iris", home=served, output=target)
    assert [(row.version, row.rows, row.labelled, row.errors) for row in outcome.versions] == [
        (1, 2, 1, 0), (2, 1, 0, 0), (9, 1, 0, 0),
    ]  # fmt: skip
    assert outcome.newest[0]["request_id"] == "c"
    assert pa.parquet.read_table(target)["outcome"].to_pylist() == ["setosa", None, None, None]
    since = servable.traffic("iris", home=served, since=START + timedelta(seconds=2))
    assert [row.version for row in since.versions] == [2, 9]
    with pytest.raises(SettingInvalid, match="no Parquet file"):
        servable.traffic("iris", home=served, output=tmp_path / "out.csv")
    with pytest.raises(ModelNotFound):
        servable.traffic("rose", home=served)


def test_times_as_people_say_them() -> None:
    now = moment(0)
    assert moment_of("2h", now) == now - timedelta(hours=2)
    assert moment_of(" 1.5D ", now) == now - timedelta(days=1.5)
    assert moment_of("2026-01-31T12:00:00", now) == now == moment_of("2026-01-31T13:00+01:00", now)
    assert moment_of(now, moment(9)) == now
    with pytest.raises(SettingInvalid, match="'yesterday' is no time"):
        moment_of("yesterday", now)


def test_a_file_goes_straight_into_the_home(served: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("request_id,outcome,observed_at\na,versicolor,2026-01-31\nb,setosa,\n")
    outcome = servable.feedback("iris", file, home=served)
    assert (outcome.accepted, outcome.where) == (2, str(served))
    assert servable.quality("iris", home=served).versions[0].quality.whole.metrics["accuracy"].value == 0.5
    file.write_text("request_id,outcome\na,rose\n")
    with pytest.raises(DataError, match=r"labels\.csv: feedback\.outcome: expected one of the classes"):
        servable.feedback("iris", file, home=served)
    with pytest.raises(FileMissing):
        servable.feedback("iris", tmp_path / "none.csv", home=served)
    with pytest.raises(DataError, match="none of"):
        servable.feedback("iris", tmp_path / "labels.xlsx", home=served)
