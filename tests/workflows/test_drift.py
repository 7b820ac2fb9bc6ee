"""Drift of files and of captured traffic, from end to end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import servable
from inputs.models import LABELS, PICTURES, colours
from inputs.pictures import saved
from servable.clock import SystemClock
from servable.errors import DataError, SettingInvalid
from servable.monitoring.drift import Observed
from servable.monitoring.drift_records import Limits
from servable.monitoring.segments import TrafficStore
from servable.monitoring.standing import known
from servable.monitoring.standing_metrics import standing_metrics
from servable.registry.findings import Findings
from servable.registry.home import open_home
from servable.testing import FakeClock, RecordedProgress
from servable.workflows.drift import DRIFT, drift, refresh_drift
from servable.workflows.hints import hints_of

pytest.importorskip("river", reason="streams are followed with river, of the extra monitoring")

NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)


def served(iris: pd.DataFrame, rows: int, seed: int = 0) -> pd.DataFrame:
    """Irises drawn anew from those there are, in no order."""
    return iris.sample(rows, replace=True, random_state=seed).reset_index(drop=True)


def test_rows_like_those_learned_from_do_not_drift(trained_home: Path, iris: pd.DataFrame) -> None:
    found = drift("iris", served(iris, 600), window="100", home=trained_home)
    assert found.drifting == ()
    assert found.share == 0
    others = {"prediction", "probability", "error"}
    assert {column.name for column in found.columns} == {*iris.columns[:4], *others}
    assert (found.rows, found.windows, found.version) == (600, 6, 1)


def test_a_column_that_moved_is_named_with_its_moment_and_the_report_shows_it(
    trained_home: Path, iris: pd.DataFrame, tmp_path: Path
) -> None:
    frame = served(iris, 1200, seed=1)
    frame.loc[700:, "sepal_width"] += 3
    frame["at"] = pd.date_range("2026-01-01", periods=1200, freq="1h", tz="UTC").astype(str)
    # The rows come in another order than they were served.
    path = tmp_path / "late.csv"
    frame.sample(frac=1, random_state=2).to_csv(path, index=False)
    progress = RecordedProgress()
    page = tmp_path / "drift.html"
    found = drift("iris:1", path, window="4d", time="at", report=page, home=trained_home, progress=progress)
    column = next(column for column in found.columns if column.name == "sepal_width")
    assert (column.state, column.since_row) == ("drift", 700)
    assert column.since == "2026-01-30T04:00:00Z"
    assert found.since == "2026-01-01T00:00:00Z"
    assert "Compare" in [stage.title for stage in progress.stages]
    text = page.read_text(encoding="utf-8")
    assert "sepal_width" in text
    assert text.count("<svg") >= 2
    assert "http:" not in text.replace("http://www.w3.org", "")


def test_worse_answers_are_told_where_the_right_ones_are_known(
    trained_home: Path, iris: pd.DataFrame
) -> None:
    frame = served(iris, 600, seed=3).rename(columns={"species": "truth"})
    frame.loc[300:, "truth"] = "setosa"
    found = drift("iris", frame, window="100", target="truth", home=trained_home)
    error = next(column for column in found.columns if column.side == "quality")
    assert error.state == "drift"
    assert error.since_row == pytest.approx(300, abs=5)
    assert error.strongest is not None
    assert error.strongest.worse > 0.4
    assert [stream.name for stream in found.streams if stream.changes] == ["error"]


def test_rows_without_right_answers_say_nothing_of_quality(trained_home: Path, iris: pd.DataFrame) -> None:
    found = drift("iris", served(iris, 200).drop(columns="species"), window="100", home=trained_home)
    assert all(column.side != "quality" for column in found.columns)


def test_what_cannot_be_looked_at_is_said(trained_home: Path, iris: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="No traffic of iris:1"):
        drift("iris", home=trained_home)
    with pytest.raises(DataError, match="no rows"):
        drift("iris", iris.iloc[:0], home=trained_home)
    with pytest.raises(DataError, match="'when'"):
        drift("iris", iris, time="when", home=trained_home)
    with pytest.raises(DataError, match="'truth'"):
        drift("iris", iris, target="truth", home=trained_home)
    with pytest.raises(SettingInvalid, match="--time"):
        drift("iris", iris, window="1d", home=trained_home)


def test_columns_that_never_varied_are_watched_although_the_model_does_not_take_them(
    iris: pd.DataFrame, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    frame = iris.assign(site="north", lamp=4.5)
    servable.train(frame, target="species", name="iris", model="logistic", time_budget_s=0.1, home=home)
    rows = served(frame, 400)
    rows.loc[200:, "site"] = "south"
    rows.loc[300:, "lamp"] = 5.0
    found = drift("iris", rows, window="50", home=home)
    unused = [column for column in found.columns if column.side == "unused"]
    assert {column.name: (column.state, column.since_row) for column in unused} == {
        "site": ("drift", 200),
        "lamp": ("drift", 300),
    }
    assert any("never varied" in note for note in found.notes)
    # They change no answer, so they are no drift of the inputs.
    assert found.share == 0


def write(store: TrafficStore, name: str, frame: pd.DataFrame, first: datetime, version: int = 1) -> None:
    """A segment of rows that a server answered, one a minute, with their labels beside it."""
    rows = len(frame)
    at = [first + timedelta(minutes=place) for place in range(rows)]
    ids = [f"{name}-{place}" for place in range(rows)]
    labels = sorted(frame["species"].unique())
    moment = pa.timestamp("us", "UTC")
    columns = {
        "request_id": pa.array(ids),
        "row": pa.array([0] * rows, pa.int32()),
        "at": pa.array(at, moment),
        "version": pa.array([version] * rows, pa.int32()),
        "code": pa.array(["ok"] * rows),
        "seconds": pa.array([0.001] * rows),
        **{f"in.{column}": pa.array(frame[column].astype(float)) for column in frame.columns[:4]},
        "out.prediction": pa.array(frame["answer"]),
        "out.probabilities": pa.array(
            [[0.95 if label == answer else 0.025 for label in labels] for answer in frame["answer"]]
        ),
        "sampled": pa.array([1.0] * rows),
    }
    store.write("iris", "predictions", name, pa.table(columns), first)
    feedback = {
        "request_id": pa.array(ids),
        "row": pa.array([0] * rows, pa.int32()),
        "outcome": pa.array(frame["species"]),
        "reward": pa.array([None] * rows, pa.float64()),
        "at": pa.array(at, moment),
        "observed_at": pa.array([None] * rows, moment),
    }
    store.write("iris", "feedback", name, pa.table(feedback), first)


def test_captured_traffic_is_looked_at_again_only_when_there_is_more(
    trained_home: Path, iris: pd.DataFrame
) -> None:
    servable.deploy("iris", home=trained_home)
    store = TrafficStore(trained_home)
    clock = FakeClock(NOW)
    frame = served(iris, 1500, seed=4)
    frame["answer"] = frame["species"]
    with open_home(trained_home, create=False) as home:
        findings = Findings(home.state, clock)
        assert refresh_drift(home, clock) == ()
        write(store, "one", frame.iloc[:900], NOW - timedelta(days=2))
        assert refresh_drift(home, clock) == ("iris",)
        (finding,) = findings.of(DRIFT)
        assert (finding.value["rows"], finding.value["inputs"], finding.value["quality"]) == (900, 0, 0)
        token = home.change_token()
        assert refresh_drift(home, clock) == ()
        assert home.change_token() == token
        moved = frame.iloc[900:].copy()
        moved["petal_length"] += 5
        moved["answer"] = "virginica"
        write(store, "two", moved, NOW - timedelta(days=1))
        assert refresh_drift(home, clock) == ("iris",)
        (finding,) = findings.of(DRIFT)
        found = known(findings.of)
    value = finding.value
    assert (finding.version, value["rows"], value["inputs"], value["quality"]) == (1, 1500, 1, 1)
    columns = {column["name"]: column for column in value["columns"]}
    assert columns["petal_length"]["since"] == "2026-03-19T12:00:00Z"
    assert columns["petal_length"]["state"] == "drift"
    families = {family.name: family for family in standing_metrics(found)}
    samples = {sample.labels["column"]: sample.value for sample in families["servable_drifting"].samples}
    assert samples["petal_length"] == 1.0
    assert samples["sepal_width"] == 0.0
    strengths = {sample.labels["column"]: sample.value for sample in families["servable_drift"].samples}
    assert strengths["petal_length"] > 1


def test_traffic_of_the_version_that_is_deployed_is_shown(trained_home: Path, iris: pd.DataFrame) -> None:
    servable.deploy("iris", home=trained_home)
    frame = served(iris, 800, seed=5)
    frame["answer"] = frame["species"]
    store = TrafficStore(trained_home)
    recent = SystemClock().now() - timedelta(days=3)
    write(store, "ours", frame, recent)
    write(store, "theirs", frame, recent, version=7)
    found = drift("iris", home=trained_home)
    assert (found.data, found.rows, found.window) == ("captured traffic", 800, "200 rows")
    assert found.share == 0
    assert all(column.state == "steady" for column in found.columns if column.side != "output")


def test_a_model_that_cannot_be_looked_at_does_not_hold_up_the_others(
    trained_home: Path, iris: pd.DataFrame
) -> None:
    servable.deploy("iris", home=trained_home)
    frame = served(iris, 300)
    frame["answer"] = frame["species"]
    write(TrafficStore(trained_home), "one", frame, NOW - timedelta(hours=6))
    with open_home(trained_home, create=False) as home:
        profile = home.package(home.models.resolve("iris:1")).folder / "profile.json"
        profile.chmod(0o644)
        profile.write_bytes(b"{}")
        assert refresh_drift(home, FakeClock(NOW)) == ()


def test_times_are_said_only_where_they_are_known() -> None:
    rows = Observed(2, {}, np.asarray([0.0, 60.0]))
    assert [rows.when(place) for place in (0, 1, 2)] == ["1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z", ""]
    assert Observed(2, {}).when(0) == ""


def test_the_break_in_the_electricity_market_is_found_at_its_row_with_its_columns(
    shared_data: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(shared_data / "electricity_elec2" / "elec2.csv")
    home = tmp_path / "home"
    servable.train(
        frame.iloc[:7248], target="class", name="elec", model="lightgbm", time_budget_s=0.1, home=home
    )
    rest = frame.iloc[7248:]
    found = drift("elec", rest, window="336", home=home, limits=Limits())
    broken = {column.name for column in found.columns if column.since_row == 17_424 - 7248}
    assert broken == {"vicprice", "vicdemand", "transfer"}
    assert all(column.state == "drift" for column in found.columns if column.name in broken)
    error = next(column for column in found.columns if column.side == "quality")
    assert error.state == "drift"
    steady = {column.name for column in found.columns if column.state == "steady"}
    assert {"day", "period"} <= steady


def test_a_model_from_elsewhere_is_compared_with_its_sample(
    trained_home: Path, iris: pd.DataFrame, home: Path
) -> None:
    names = list(iris.columns[:4])
    with open_home(trained_home, create=False) as place:
        folder = place.package(place.models.resolve("iris:1")).folder
    (graph,) = folder.glob("variants/onnx-fp64.onnx")
    rows = served(iris, 400, seed=6)[names]
    rows.iloc[200:, 2] += 3
    servable.add(graph, name="alone", home=home)
    with pytest.raises(DataError, match="--sample"):
        drift("alone", rows, window="100", home=home)
    servable.add(graph, name="graph", sample=iris[names], home=home)
    found = drift("graph", rows, window="100", home=home)
    told = {column.name: column.since_row for column in found.drifting if column.side == "input"}
    assert told == {"petal_length": pytest.approx(200, abs=3)}


def test_pictures_are_compared_with_the_sample(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def pictures(root: Path, brighter: int) -> Path:
        for place in range(90):
            pixels = random.integers(0, 120, (12, 20, 3), dtype=np.uint8)
            pixels[:, :, place % 3] += 50
            folder = root / LABELS[place % 3]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{place}.png").write_bytes(saved(Image.fromarray(pixels + np.uint8(brighter)), "PNG"))
        return root

    (tmp_path / "net.toml").write_text(f'scores = "logits"\n{PICTURES}')
    hints = hints_of(tmp_path / "net.toml", labels=",".join(LABELS))
    home = tmp_path / "home"
    servable.add(
        colours(tmp_path), name="pets", hints=hints, sample=pictures(tmp_path / "sample", 0), home=home
    )
    (calm,) = drift("pets", pictures(tmp_path / "calm", 0), window="90", home=home).columns
    assert (calm.kind, calm.state) == ("array", "steady")
    (column,) = drift("pets", pictures(tmp_path / "bright", 80), window="90", home=home).columns
    assert (column.state, column.since_row) == ("drift", 0)
    assert column.strongest is not None
    assert column.strongest.statistic > 0.9
