"""What is asked of live models becomes segments, within bounds, and never at the cost of serving."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.signature import Field, with_captures
from servable.errors import ServableError, UnavailableError
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.metrics import Metrics
from servable.monitoring.segments import TrafficStore
from servable.registry.home import open_home
from servable.runtime.waiting import Waiting
from servable.serving.answer import answer
from servable.serving.capture_tap import chosen
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Live
from servable.settings import ServerSettings
from servable.testing import check_tap
from serving.making import IRIS, expected, publish_iris

ROW = [5.1, 3.5, 1.4, 0.2]
Visit = Callable[[Host], Awaitable[Any]]


def capture(home: Path, share: float, name: str = "iris") -> None:
    with open_home(home) as opened:
        deployment = opened.deployments.get(name)
        assert deployment is not None
        opened.deployments.deploy(name, deployment.version, wishes={"capture": share})


def visit(home: Path, course: Visit, **settings: Any) -> Any:
    async def inside() -> Any:
        host = Host(RegistrySource(home), Metrics("test"), ServerSettings(home=str(home), **settings))
        await host.reconcile()
        try:
            return await course(host)
        finally:
            await host.close()

    return asyncio.run(inside())


def live_of(host: Host, reference: str = "iris") -> Live:
    found = host.find(reference)
    assert isinstance(found, Live)
    return found


def asked(rows: int) -> Waiting:
    """A request whose values are all the number of its rows."""
    return Waiting({"numbers": np.full((rows, 4), float(rows))}, rows)


def answers(rows: int) -> dict[str, Any]:
    """Versicolor to one row, setosa to each of more."""
    return {"prediction": np.full(rows, int(rows == 1)), "probabilities": np.full((rows, 3), 1 / 3)}


async def ask(host: Host, request_id: str = "r", rows: int = 1, row: Any = ROW) -> None:
    body = json.dumps({"inputs": [row] * rows}).encode()
    await answer(live_of(host), body, request_id)


def captured(home: Path, model: str = "iris") -> list[dict[str, Any]]:
    store = TrafficStore(home)
    tables = store.read(store.segments(model, "predictions"))
    return [row for table in tables for row in table.to_pylist()]


def dropped(host: Host) -> int:
    return host.metrics.snapshot().models[0].capture_dropped


def test_every_request_and_its_answer_is_captured_when_the_server_ends(home: Path) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> None:
        await ask(host, "a", rows=2)
        await ask(host, "b", row=dict.fromkeys([field.name for field in IRIS.inputs], 7.0))
        with pytest.raises(ServableError):
            await ask(host, "wrong", row=["no", "number", 1, 2])

    visit(home, course)
    rows = captured(home)
    assert [(row["request_id"], row["row"]) for row in rows] == [("a", 0), ("a", 1), ("b", 0)]
    assert [row[f"in.{field.name}"] for row in rows[:1] for field in IRIS.inputs] == ROW
    label, chances = expected(ROW)
    assert rows[0]["out.prediction"] == label
    assert rows[0]["out.probabilities"] == pytest.approx(list(chances))
    assert {(row["version"], row["code"], row["sampled"]) for row in rows} == {(1, "ok", 1.0)}
    assert all(0 < row["seconds"] < 60 for row in rows)


def test_the_tap_holds_to_the_seam_and_keeps_no_memory_of_others(home: Path) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> None:
        asked = {"numbers": np.array([ROW, ROW])}
        answers = {
            "prediction": np.array([1, 2]),
            "probabilities": np.array([[0.1, 0.8, 0.1], [0.0, 0.0, 1.0]]),
        }
        check_tap(live_of(host).tap, asked, answers)

    visit(home, course)
    rows = captured(home)
    assert [row["out.prediction"] for row in rows] == ["versicolor", "virginica", None, None]
    assert rows[0]["in.sepal length (cm)"] == 5.1
    assert rows[1]["out.probabilities"] == [0.0, 0.0, 1.0]


def test_nothing_is_made_where_nothing_is_captured(home: Path) -> None:
    publish_iris(home)
    visit(home, ask)
    assert not (home / "traffic").exists()


def test_a_changed_share_holds_at_once_and_loads_nothing_anew(home: Path) -> None:
    publish_iris(home)

    async def course(host: Host) -> None:
        before = live_of(host)
        await ask(host, "before")
        capture(home, 1.0)
        await host.reconcile()
        assert live_of(host) is before
        await ask(host, "during")
        capture(home, 0.0)
        await host.reconcile()
        await ask(host, "after")

    visit(home, course)
    assert [row["request_id"] for row in captured(home)] == ["during"]


def test_a_share_is_chosen_by_the_id(home: Path) -> None:
    publish_iris(home)
    capture(home, 0.3)
    ids = [f"request-{number}" for number in range(60)]

    async def course(host: Host) -> None:
        for _ in range(2):
            for each in ids:
                await ask(host, each)

    visit(home, course)
    found = [row["request_id"] for row in captured(home)]
    wanted = [each for each in ids if chosen(each, 0.3)]
    assert 5 < len(wanted) < 30
    assert sorted(found) == sorted(wanted * 2)
    assert {row["sampled"] for row in captured(home)} == {0.3}


@given(share=st.floats(0, 1), other=st.floats(0, 1), request_id=st.text(max_size=20))
def test_a_larger_share_holds_the_smaller(share: float, other: float, request_id: str) -> None:
    small, large = sorted((share, other))
    assert chosen(request_id, large) or not chosen(request_id, small)
    assert chosen(request_id, 1.0)


def test_the_share_is_what_it_says() -> None:
    for share in (0.01, 0.1, 0.5):
        count = sum(chosen(f"{number:020x}", share) for number in range(20_000))
        assert abs(count - 20_000 * share) < 5 * (20_000 * share * (1 - share)) ** 0.5


def test_segments_come_while_the_server_runs_and_follow_a_new_version(home: Path) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> None:
        await ask(host, "old")
        publish_iris(home)
        await host.reconcile()
        await ask(host, "new")
        while len(captured(home)) < 2:
            await asyncio.sleep(0.02)
        assert host.metrics.snapshot().models[0].captured == 1

    visit(home, course, capture_interval_s=0.05)
    assert sorted((row["request_id"], row["version"]) for row in captured(home)) == [("new", 2), ("old", 1)]


def test_what_does_not_fit_into_memory_is_dropped_and_counted(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> int:
        for number in range(5):
            await ask(host, f"large {number}", rows=20)
            await ask(host, f"small {number}")
        return dropped(host)

    assert visit(home, course, capture_rows=10, capture_interval_s=3600) == 100
    assert {row["request_id"] for row in captured(home)} == {f"small {number}" for number in range(5)}
    said = [record for record in caplog.records if "dropped" in record.message]
    assert len(said) == 1
    assert visit(home, course, capture_memory=1024, capture_interval_s=3600) >= 100


def test_rows_that_the_disk_does_not_take_in_time_are_dropped_and_counted(home: Path) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> int:
        tap = live_of(host).tap
        # The thread needs milliseconds for a page, and the event loop gives it none.
        for number in range(3_000):
            tap.took(asked(1), str(number), answers(1), "ok", 0.1)
        return dropped(host)

    lost = visit(home, course, capture_rows=100, capture_interval_s=3600)
    assert lost > 0
    rows = captured(home)
    assert len({row["request_id"] for row in rows}) == len(rows) == 3_000 - lost
    assert all(row["in.sepal length (cm)"] == 1.0 for row in rows)


def test_a_full_page_becomes_a_segment_before_the_interval_is_over(home: Path) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> None:
        for number in range(3):
            await ask(host, f"r{number}", rows=2)
        while len(captured(home)) < 4:
            await asyncio.sleep(0.02)
        assert len(captured(home)) == 4

    visit(home, course, capture_segment_rows=4, capture_interval_s=3600)
    assert len(captured(home)) == 6


def test_requests_of_every_kind_share_a_segment_in_their_order(home: Path) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> None:
        tap = live_of(host).tap
        piece = asked(2)
        piece.places = [7, 9]
        tap.took(asked(1), "a", answers(1), "ok", 0.1)
        tap.took(piece, "b", answers(2), "ok", 0.1)
        tap.took(asked(2), "c", None, "model_failed", 0.1)
        tap.took(asked(1), "d", {**answers(1), "prediction": np.array([2], np.int32)}, "ok", 0.1)
        tap.took(asked(2), "e", answers(2), "ok", 0.1)

    visit(home, course)
    assert len(TrafficStore(home).segments("iris", "predictions")) == 1
    rows = captured(home)
    assert [(row["request_id"], row["row"], row["code"]) for row in rows] == [
        ("a", 0, "ok"), ("b", 7, "ok"), ("b", 9, "ok"), ("c", 0, "model_failed"), ("c", 1, "model_failed"),
        ("d", 0, "ok"), ("e", 0, "ok"), ("e", 1, "ok"),
    ]  # fmt: skip
    assert [row["out.prediction"] for row in rows] == [
        "versicolor", "setosa", "setosa", None, None, "virginica", "setosa", "setosa"
    ]  # fmt: skip
    assert [row["in.sepal length (cm)"] for row in rows] == [1.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0]


def test_each_row_says_the_share_of_its_time(home: Path) -> None:
    publish_iris(home)

    async def course(host: Host) -> None:
        for share in (1.0, 0.9999, 1.0):
            capture(home, share)
            await host.reconcile()
            await ask(host, f"at {share}", rows=2)

    visit(home, course)
    found = sorted((row["request_id"], row["sampled"]) for row in captured(home))
    assert found == [("at 0.9999", 0.9999)] * 2 + [("at 1.0", 1.0)] * 4


def test_no_object_stays_that_the_garbage_collector_follows(home: Path) -> None:
    publish_iris(home)
    capture(home, 1.0)

    async def course(host: Host) -> int:
        tap = live_of(host).tap
        given, answered = asked(1), answers(1)
        tap.took(given, "first", answered, "ok", 0.1)
        before = len(gc.get_objects())
        for number in range(2_000):
            tap.took(given, str(number), answered, "ok", 0.1)
        return len(gc.get_objects()) - before

    assert visit(home, course, capture_interval_s=3600) < 500
    assert len(captured(home)) == 2_001


def test_a_store_that_is_gone_costs_rows_and_nothing_else(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_iris(home)
    capture(home, 1.0)
    (home / "traffic").write_text("in the way")

    async def course(host: Host) -> int:
        for number in range(5):
            await ask(host, f"r{number}")
        while dropped(host) < 5:
            await asyncio.sleep(0.02)
        with pytest.raises(UnavailableError, match="could not be kept; send it again"):
            await host.recorder.keep("iris", [FeedbackRow("r1", 0, "setosa")])
        (home / "traffic").unlink()
        await ask(host, "back")
        await host.recorder.keep("iris", [FeedbackRow("back", 0, "setosa")])
        return dropped(host)

    assert visit(home, course, capture_interval_s=0.05) == 5
    assert [row["request_id"] for row in captured(home)] == ["back"]
    said = [record for record in caplog.records if "captured rows were dropped" in record.message]
    assert len(said) == 1


def test_feedback_becomes_segments_when_the_server_ends(home: Path) -> None:
    publish_iris(home)

    async def course(host: Host) -> None:
        await host.recorder.keep("iris", [FeedbackRow("a", 0, "setosa")])

    visit(home, course)
    store = TrafficStore(home)
    (table,) = store.read(store.segments("iris", "feedback"))
    assert table["outcome"].to_pylist() == ["setosa"]


def test_private_columns_are_as_the_signature_says(home: Path) -> None:
    names = [field.name for field in IRIS.inputs]
    publish_iris(home, signature=with_captures(IRIS, {names[0]: "drop", names[1]: "hash"}))
    capture(home, 1.0)
    visit(home, ask)
    (row,) = captured(home)
    assert f"in.{names[0]}" not in row
    assert row[f"in.{names[1]}"] != "3.5"
    assert len(row[f"in.{names[1]}"]) == 32
    assert (home / "traffic" / ".key").stat().st_mode & 0o777 == 0o600


def test_texts_pictures_and_sounds_are_hashed_by_themselves() -> None:
    kinds: list[Any] = ["text", "image", "audio", "number", "category", "tensor"]
    found = [Field(name="x", kind=kind, dtype="float64").captured for kind in kinds]
    assert found == ["hash"] * 3 + ["keep"] * 3
