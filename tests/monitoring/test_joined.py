"""The join against a plain dictionary: any order, repeats, corrections, unknown ids."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.traffic import START, feedback, moment, predictions
from servable.errors import StorageFailed
from servable.logs import TextFormatter
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.joined import join, join_stored, joined, united
from servable.monitoring.journal import Journal
from servable.monitoring.segments import TrafficStore
from servable.testing import FakeClock

ids = st.sampled_from(["a", "b", "c", "ä", ""])
rows = st.integers(0, 2)
asked = st.lists(st.tuples(ids, rows, st.integers(1, 2), st.sampled_from(["x", "y"])), max_size=12)
said = st.lists(
    st.tuples(ids, rows, st.none() | st.sampled_from(["x", "y", "z"]), st.none() | st.floats(-2, 2)),
    max_size=20,
)


def by_dictionary(
    asked: list[tuple[str, int, int, float, str]],
    told: list[tuple[str, int, float, str | None, float | None]],
) -> tuple[dict[tuple[str, int, int], tuple[Any, ...]], int]:
    """What the join must give, said in the plainest way."""
    newest: dict[tuple[str, int, int], tuple[Any, ...]] = {}
    for name, row, version, at, answer in sorted(asked, key=lambda each: each[3]):
        newest[name, row, version] = (at, answer)
    labels: dict[tuple[str, int], dict[str, tuple[Any, float]]] = {}
    for name, row, at, outcome, reward in sorted(told, key=lambda each: each[2]):
        held = labels.setdefault((name, row), {})
        for key, value in (("outcome", outcome), ("reward", reward)):
            if value is not None and held.get(key, (None, 0))[0] != value:
                held[key] = (value, at)
    found = {}
    for (name, row, version), (at, answer) in newest.items():
        held = labels.get((name, row), {})
        since = [moment for _, moment in held.values()]
        found[name, row, version] = (
            at,
            answer,
            held.get("outcome", (None,))[0],
            held.get("reward", (None,))[0],
            max(since) if since else None,
        )
    known = {(name, row) for name, row, _ in newest}
    return found, len([key for key in labels if key not in known])


def as_dictionary(table: pa.Table) -> dict[tuple[str, int, int], tuple[Any, ...]]:
    return {
        (each["request_id"], each["row"], each["version"]): (
            (each["at"] - START).total_seconds(),
            each["out.prediction"],
            each["outcome"],
            each["reward"],
            None if each["labelled_at"] is None else (each["labelled_at"] - START).total_seconds(),
        )
        for each in table.to_pylist()
    }


@given(asked=asked, said=said, random=st.randoms(use_true_random=False), cut=st.integers(0, 20))
def test_any_order_repeats_and_corrections_give_what_a_dictionary_gives(
    asked: list[Any], said: list[Any], random: Any, cut: int
) -> None:
    given = [(name, row, version, float(at), answer) for at, (name, row, version, answer) in enumerate(asked)]
    told = [(name, row, 100.0 + at, outcome, reward) for at, (name, row, outcome, reward) in enumerate(said)]
    expected, unknown = by_dictionary(given, told)
    # What a journal that is read twice gives: the same rows once more.
    shuffled, repeated = random.sample(given, len(given)), random.sample(told, len(told)) + told[:cut]
    found = join(
        united([predictions(shuffled[:cut]), predictions(shuffled[cut:])]),
        united([feedback(repeated[cut:]), feedback(repeated[:cut])]),
    )
    assert as_dictionary(found.table) == expected
    assert found.table.num_rows == len(expected)
    assert found.unknown == unknown


def test_rows_come_in_the_order_of_time() -> None:
    table = join(predictions([("b", 0, 1, 5, "x"), ("a", 1, 1, 2, "y"), ("a", 0, 1, 2, "z")]), pa.table({}))
    assert table.table["request_id"].to_pylist() == ["a", "a", "b"]
    assert table.table["row"].to_pylist() == [0, 1, 0]


def test_a_home_without_traffic_gives_an_empty_table_with_its_columns(tmp_path: Path) -> None:
    table = joined(TrafficStore(tmp_path), "churn")
    assert table.num_rows == 0
    assert {"request_id", "row", "at", "version", "outcome", "reward", "labelled_at"} <= set(
        table.column_names
    )


def test_what_is_stored_is_found_by_its_time(tmp_path: Path) -> None:
    store = TrafficStore(tmp_path)
    store.write("churn", "predictions", "s-1", predictions([("a", 0, 1, 0, "x")]), START)
    day = 86_400.0
    store.write("churn", "predictions", "s-2", predictions([("b", 0, 1, day, "y")]), moment(day))
    store.write(
        "churn", "feedback", "s-1", feedback([("a", 0, day, "x", None), ("c", 0, 5, "x", None)]), START
    )
    found = join_stored(store, "churn")
    assert found.table["outcome"].to_pylist() == ["x", None]
    assert found.unknown == 1
    assert joined(store, "churn", since=moment(1))["request_id"].to_pylist() == ["b"]
    assert joined(store, "churn", until=moment(day))["request_id"].to_pylist() == ["a"]
    assert joined(store, "churn", columns=["out.prediction"]).num_columns == 8
    assert joined(store, "churn", columns=[]).num_columns == 7
    assert store.models() == ("churn",)


def test_versions_that_hold_a_column_in_two_types_are_one_table() -> None:
    one = pa.table({"in.a": [1.5], "in.b": [1], "in.c": [[1.0]], "in.d": pa.nulls(1)})
    other = pa.table({"in.a": ["x"], "in.b": [2.5], "in.c": ["y"], "in.d": ["z"]})
    assert united([one, other]).to_pydict() == {
        "in.a": ["1.5", "x"], "in.b": [1.0, 2.5], "in.c": ["[1.0]", "y"], "in.d": [None, "z"],
    }  # fmt: skip


def test_a_segment_that_went_is_passed_over_and_a_damaged_one_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = TrafficStore(tmp_path)
    paths = [
        store.write("churn", "feedback", f"s-{number}", feedback([("a", 0, 1, "x", None)]), START)
        for number in range(3)
    ]
    assert store.read([paths[0].with_name("gone.parquet")]) == []
    Path(paths[0]).write_bytes(b"no parquet")
    # The end, which says what is in it, is whole: only the values are damaged.
    content = bytearray(Path(paths[1]).read_bytes())
    content[4:60] = bytes(56)
    Path(paths[1]).write_bytes(content)
    assert [segment.table is None for segment in store.each(paths)] == [True, True, False]
    assert len(store.read(paths)) == 1
    lines = [TextFormatter().format(record) for record in caplog.records]
    assert len(lines) == 4
    assert all(f"segment={path}" in line for path, line in zip(paths[:2] * 2, lines, strict=True))


def test_a_segment_that_may_not_be_read_is_a_failure(tmp_path: Path) -> None:
    store = TrafficStore(tmp_path)
    store.root.mkdir()
    with pytest.raises(StorageFailed, match="cannot be read"):
        store.read([store.root / f"{'x' * 300}.parquet"])


def test_feedback_counts_before_it_is_a_segment_and_no_more_than_once_after(tmp_path: Path) -> None:
    store = TrafficStore(tmp_path)
    store.write("churn", "predictions", "s-1", predictions([("a", 0, 1, 0, "x"), ("b", 0, 1, 1, "x")]), START)
    journal = Journal(store, "s", FakeClock())
    journal.append("churn", [FeedbackRow("a", 0, "x"), FeedbackRow("z", 0, "x")]).result(10)
    journal.append("rose", [FeedbackRow("b", 0, "y")]).result(10)
    before = join_stored(store, "churn")
    assert before.table["outcome"].to_pylist() == ["x", None]
    assert before.unknown == 1
    # A row that a crash tore off was never acknowledged.
    (path,) = (store.root / ".journals").iterdir()
    with path.open("ab") as file:
        file.write(b'["churn","b",0,"torn"')
    assert join_stored(store, "churn").table["outcome"].to_pylist() == ["x", None]
    journal.close()
    assert journal.settle() == 3
    after = join_stored(store, "churn")
    assert after.table["outcome"].to_pylist() == ["x", None]
    assert after.unknown == 1


def test_old_days_go_whole_and_nothing_else(tmp_path: Path) -> None:
    store = TrafficStore(tmp_path)
    for number in range(3):
        at = moment(86_400.0 * number)
        store.write("churn", "predictions", f"s-{number}", predictions([("a", 0, 1, 0, "x")]), at)
    (tmp_path / "traffic" / "churn" / "notes").mkdir()
    assert store.remove_before((START + timedelta(days=2)).date()) == 2
    assert [path.stem for path in store.segments("churn", "predictions")] == ["s-2"]
    assert (tmp_path / "traffic" / "churn" / "notes").is_dir()
    assert store.remove_before(START.date()) == 0
