"""Rows of a turn: traffic becomes rows like those of a file, in order of time, each once."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from servable.artifact.recipe import Recipe
from servable.artifact.signature import Field, Signature
from servable.errors import DataError, FileMissing, SettingInvalid
from servable.monitoring.segment_cache import SegmentCache
from servable.monitoring.segments import KINDS, TrafficStore
from servable.registry.home import open_home
from servable.updating import collect
from updating.making import BEGAN, MOMENT, rows, write_traffic

SIGNATURE = Signature(
    task="classification",
    inputs=(
        Field(name="x", kind="number", dtype="float64"),
        Field(name="y", kind="number", dtype="float64"),
        Field(name="shop", kind="category", dtype="str", values=("a", "b"), unknown="refuse"),
    ),
    outputs=(Field(name="label", kind="category", dtype="str", values=("no", "yes")),),
)


def test_labelled_traffic_becomes_rows(home: Path) -> None:
    frame = rows(6, seed=3)
    write_traffic(home, "shops", frame, first=0, labels=["yes", None, "no", "new", "no", "yes"])
    with open_home(home) as place:
        found = collect.labelled(place, "shops", SIGNATURE)
        assert collect.fresh(place, "shops", 0) == 5
        assert collect.fresh(place, "shops", found.labelled_until) == 0
    assert list(found.frame.columns) == ["x", "y", "shop", "label", collect.AT]
    assert found.frame["label"].tolist() == ["yes", "no", "new", "no", "yes"]
    assert found.frame["x"].tolist() == frame["x"].drop(1).tolist()
    assert found.frame[collect.AT].is_monotonic_increasing


def test_later_segments_come_later_whatever_their_names(home: Path) -> None:
    first, second = rows(4, seed=1), rows(4, seed=2)
    write_traffic(home, "shops", second, first=100)
    write_traffic(home, "shops", first, first=20)
    with open_home(home) as place:
        found = collect.labelled(place, "shops", SIGNATURE).frame
    assert found["x"].tolist() == [*first["x"], *second["x"]]


def test_without_traffic_there_are_no_rows(home: Path) -> None:
    with open_home(home) as place:
        assert len(collect.labelled(place, "shops", SIGNATURE).frame) == 0
        assert collect.fresh(place, "shops", 0) == 0


def test_an_input_that_no_older_version_had_is_missing(home: Path) -> None:
    write_traffic(home, "shops", rows(3, seed=1).drop(columns="y"), first=0)
    with open_home(home) as place:
        with pytest.raises(DataError, match="No captured row has the column 'y'"):
            collect.labelled(place, "shops", SIGNATURE)
        write_traffic(home, "shops", rows(2, seed=2), first=100)
        found = collect.labelled(place, "shops", SIGNATURE).frame
    assert found["y"].isna().tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("text", "dtype", "kind", "expected"),
    [
        ("yes", "str", "category", "yes"),
        (" yes ", "str", "category", "yes"),
        ("", "str", "category", None),
        ("3", "int64", "category", 3),
        ("3.0", "int64", "category", 3),
        ("3.5", "int64", "category", None),
        ("three", "int64", "category", None),
        ("TRUE", "bool", "boolean", True),
        ("0", "bool", "boolean", False),
        ("perhaps", "bool", "boolean", None),
        ("2.5", "float64", "number", 2.5),
        ("nan", "float64", "number", None),
        ("inf", "float64", "number", None),
        ("much", "float64", "number", None),
        ("0.5", "float64", "category", 0.5),
    ],
)
def test_outcomes_become_answers_of_the_targets_type(text: str, dtype: str, kind: Any, expected: Any) -> None:
    assert collect.typed(text, Field(name="label", kind=kind, dtype=dtype)) == expected


def test_original_rows_are_those_that_were_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "shops.csv"
    rows(20, seed=1).assign(more=1).to_csv(path, index=False)
    recipe = Recipe(data=str(path), sha256=collect.file_digest(path), target="label")
    found = collect.original(recipe, SIGNATURE, None)
    assert list(found.columns) == ["x", "y", "shop", "label"]
    assert len(found) == 20
    rows(21, seed=2).to_csv(path, index=False)
    with pytest.raises(DataError, match="digest differs"):
        collect.original(recipe, SIGNATURE, None)
    assert len(collect.original(recipe, SIGNATURE, path)) == 21
    path.unlink()
    with pytest.raises(FileMissing):
        collect.original(recipe, SIGNATURE, None)


def test_rows_that_were_handed_over_in_memory_are_gone() -> None:
    assert len(collect.original(Recipe(target="label"), SIGNATURE, None)) == 0


def test_what_cannot_be_trained_again_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="no recipe"):
        collect.check_kind(SIGNATURE, None, "shops:1")
    clusters = Signature(task="clustering", inputs=SIGNATURE.inputs, outputs=SIGNATURE.outputs)
    with pytest.raises(SettingInvalid, match="clustering"):
        collect.check_kind(clusters, Recipe(), "shops:1")


def test_moments_survive_the_way_into_a_record_and_back() -> None:
    for microseconds in (0, 1, 1_764_268_623_923_499, 1_999_999_999_999_999):
        assert collect.microseconds_of(collect.moment(microseconds)) == microseconds


def test_segments_that_were_read_are_not_opened_again_and_late_labels_count(home: Path) -> None:
    known = SegmentCache()
    write_traffic(home, "shops", rows(6, seed=3), first=0, labels=["yes", None, "no", "no", None, "yes"])
    with open_home(home) as place:
        assert collect.fresh(place, "shops", 0, known) == 4
        # Whoever opened the old segments again would find them damaged, and lose what they said.
        store = TrafficStore(home)
        for kind in KINDS:
            for path in store.segments("shops", kind):
                Path(path).write_bytes(b"")
        assert collect.fresh(place, "shops", 0, known) == 4
        late = {
            "request_id": ["request-0"],
            "row": pa.array([1], pa.int32()),
            "outcome": ["no"],
            "reward": pa.nulls(1, pa.float64()),
            "at": pa.array([BEGAN + timedelta(days=3)], MOMENT),
            "observed_at": pa.nulls(1, MOMENT),
        }
        store.write("shops", "feedback", "late", pa.table(late), BEGAN + timedelta(days=3))
        assert collect.fresh(place, "shops", 0, known) == 5
        until = int((BEGAN + timedelta(days=2)).timestamp() * 1e6)
        assert collect.fresh(place, "shops", until, known) == 1
