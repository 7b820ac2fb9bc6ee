"""Scoring files: the model's own answers beside every row, in every form, resumed and never half-written."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
import pytest
import zstandard
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import servable
from servable.errors import (
    ConflictError,
    DataError,
    FileMissing,
    ModelFailed,
    ModelNotFound,
    SettingInvalid,
    StorageFailed,
)
from servable.frameworks import lookup
from servable.registry.home import open_home, publish
from servable.testing import RecordedProgress

ROWS = 6000


@pytest.fixture(scope="module")
def mixed() -> pd.DataFrame:
    """Rows of every kind, with an identifier and a note that the model does not know."""
    random = np.random.default_rng(0)
    age = random.integers(18, 90, ROWS).astype(float)
    age[random.random(ROWS) < 0.1] = np.nan
    plan = random.choice(["basic", "plus", "a, b", 'say "x"'], ROWS)
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(random.integers(0, 900, ROWS), unit="D")
    member = random.random(ROWS) < 0.5
    score = np.nan_to_num(age, nan=40) / 30 + member + (plan == "plus") + random.normal(0, 0.5, ROWS)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "age": age,
            "plan": plan,
            "joined": days.strftime("%Y-%m-%d"),
            "member": member,
            "note": [f"line {row}\nof two, or none" if row % 7 == 0 else "" for row in range(ROWS)],
            "left": np.where(score > 2.5, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def mixed_home(mixed: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with ``churn:1``, trained on the mixed rows."""
    home = tmp_path_factory.mktemp("mixed") / "home"
    servable.train(
        mixed.drop(columns=["id", "note"]).head(1500),
        target="left",
        name="churn",
        model="logistic",
        time_budget_s=0.1,
        home=home,
    )
    return home


@pytest.fixture(scope="module")
def inputs(mixed: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows in every form."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = mixed.drop(columns="left")
    found = {
        name: folder / name
        for name in ("a.csv", "a.csv.gz", "a.csv.zst", "b.csv", "a.jsonl", "a.jsonl.gz", "a.parquet")
    }
    rows.to_csv(found["a.csv"], index=False)
    found["a.csv.gz"].write_bytes(gzip.compress(found["a.csv"].read_bytes()))
    found["a.csv.zst"].write_bytes(zstandard.compress(found["a.csv"].read_bytes()))
    other = rows.assign(joined=pd.to_datetime(rows["joined"]).dt.strftime("%d.%m.%Y"))
    other.to_csv(found["b.csv"], index=False, sep=";", decimal=",", encoding="utf-16", na_rep="?")
    rows.to_json(found["a.jsonl"], orient="records", lines=True)
    found["a.jsonl.gz"].write_bytes(gzip.compress(found["a.jsonl"].read_bytes()))
    rows.to_parquet(found["a.parquet"], index=False, row_group_size=700)
    return found


def own_answers(home: Path, frame: pd.DataFrame) -> dict[str, Any]:
    """What the version's predictor says, fed by the training side's own packing."""
    from servable.frameworks.frame import pack

    with open_home(home) as place:
        package = place.package(place.models.resolve("churn"))
    chosen = package.manifest.chosen
    predictor = lookup.adapter(chosen.format).load(package.folder, chosen, package.signature, trust=False)
    answers = predictor.predict(pack(frame, package.signature))
    labels = np.array(package.signature.classes)
    chances = {f"probability_{label}": answers["probabilities"][:, i] for i, label in enumerate(labels)}
    return {"prediction": labels[answers["prediction"]], **chances}


def read(path: Path) -> pa.Table:
    if path.suffix == ".csv":
        return pa.Table.from_pandas(pd.read_csv(path, keep_default_na=False))
    if path.suffix == ".jsonl":
        return pa.Table.from_pylist([json.loads(line) for line in path.read_text().splitlines()])
    return pa.parquet.read_table(path)


@pytest.fixture(scope="module")
def expected(mixed: pd.DataFrame, mixed_home: Path) -> dict[str, Any]:
    return own_answers(mixed_home, mixed)


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "a.csv.zst", "b.csv", "a.jsonl", "a.jsonl.gz", "a.parquet"]
)
def test_every_form_gives_the_models_own_answers_beside_the_rows(
    name: str,
    output: str,
    inputs: dict[str, Path],
    mixed_home: Path,
    expected: dict[str, Any],
    mixed: pd.DataFrame,
    tmp_path: Path,
) -> None:
    target = tmp_path / output
    outcome = servable.score("churn", inputs[name], output=target, home=mixed_home, batch_rows=1000)
    assert (outcome.rows, outcome.resumed, outcome.model, outcome.version) == (ROWS, 0, "churn", 1)
    found = read(target)
    assert found.column_names[:6] == ["id", "age", "plan", "joined", "member", "note"]
    assert [int(value) for value in found["id"].to_pylist()] == list(range(ROWS))
    assert found["plan"].to_pylist() == mixed["plan"].tolist()
    assert [value or "" for value in found["note"].to_pylist()] == mixed["note"].tolist()
    assert found["prediction"].to_pylist() == expected["prediction"].tolist()
    for label in ("no", "yes"):
        column = f"probability_{label}"
        np.testing.assert_allclose(found[column].to_numpy(), expected[column], rtol=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == [output]


def test_texts_stay_as_they_were_written(inputs: dict[str, Path], mixed_home: Path, tmp_path: Path) -> None:
    """What goes from CSV to CSV, or from JSON lines to JSON lines, is not written in another way."""
    servable.score("churn", inputs["a.csv"], output=tmp_path / "out.csv", home=mixed_home)
    written = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    given = pd.read_csv(inputs["a.csv"], dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(written[given.columns], given)
    servable.score("churn", inputs["a.jsonl"], output=tmp_path / "out.jsonl", home=mixed_home)
    lines = zip(
        inputs["a.jsonl"].read_text().splitlines(),
        (tmp_path / "out.jsonl").read_text().splitlines(),
        strict=True,
    )
    for before, after in lines:
        assert after.startswith(before[:-1] + ', "prediction": ')


def test_columns_to_keep_are_chosen(inputs: dict[str, Path], mixed_home: Path, tmp_path: Path) -> None:
    answers = ["prediction", "probability_no", "probability_yes"]
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        for output in ("out.csv", "out.jsonl", "out.parquet"):
            target = tmp_path / f"{name}-{output}"
            servable.score("churn", inputs[name], output=target, home=mixed_home, keep=["note", "id"])
            assert read(target).column_names == ["note", "id", *answers]
            target = tmp_path / f"{name}-only-{output}"
            servable.score("churn", inputs[name], output=target, home=mixed_home, only_answers=True)
            assert read(target).column_names == answers
            assert read(target).num_rows == ROWS
    with pytest.raises(DataError, match=r"has no column 'ID' to keep; did you mean \"id\""):
        servable.score("churn", inputs["a.csv"], output=tmp_path / "x.csv", home=mixed_home, keep=["ID"])


def bad_row(path: Path, row: int, **values: str) -> None:
    """Rewrite a CSV file with other values in one data row, counted from 1."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name, value in values.items():
        frame.loc[row - 1, name] = value
    frame.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("age", "old", "row 4321, column 'age': expected a number or null, got a text of 3 characters."),
        ("joined", "soon", "row 4321, column 'joined': expected a date"),
        (
            "member",
            "perhaps",
            "row 4321, column 'member': expected true or false, got a text of 7 characters.",
        ),
        ("age", "1e999", "row 4321, column 'age': expected a number or null, got a text of 5 characters."),
    ],
)
def test_a_value_that_does_not_fit_stops_everything_with_its_row(
    name: str, values: str, said: str, inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    data = tmp_path / "bad.csv"
    data.write_bytes(inputs["a.csv"].read_bytes())
    bad_row(data, 4321, **{name: values})
    with pytest.raises(DataError) as caught:
        servable.score("churn", data, output=tmp_path / "out.csv", home=mixed_home)
    assert caught.value.message.startswith(f"{data}, {said}")
    assert list(tmp_path.iterdir()) == [data]


def test_rows_that_cannot_be_read_are_named(
    inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    def refused(name: str, content: bytes) -> str:
        data = tmp_path / name
        data.write_bytes(content)
        with pytest.raises(DataError) as caught:
            servable.score("churn", data, output=tmp_path / "out.csv", home=mixed_home)
        return caught.value.message

    lines = inputs["a.csv"].read_bytes()
    assert "row 6001 has 2 fields for 6 names" in refused("a.csv", lines + b"1,2\n")
    assert "a quotation mark that is never closed" in refused("open.csv", lines + b'1,2,"cut off\n')
    foreign = "7,30,Käse,2020-01-01,True,\n".encode("cp1252")
    rows = lines.partition(b"\n")[2]
    assert "or one near it is not UTF-8" in refused("foreign.csv", lines + rows * 8 + foreign)
    objects = inputs["a.jsonl"].read_bytes()
    assert "row 6001 is no JSON object." in refused("a.jsonl", objects + b"{oops}\n")
    assert "row 6001, column 'age': expected a number or null, got a text of 1 character." in refused(
        "b.jsonl", objects + b'{"age": "1", "member": true, "joined": "2020-01-01", "plan": "plus"}\n'
    )
    assert "is damaged or cut off" in refused("c.csv.gz", inputs["a.csv.gz"].read_bytes()[:-500])
    assert "is damaged or cut off" in refused("d.parquet", inputs["a.parquet"].read_bytes()[:-500])
    assert "is one JSON list" in refused("e.json", b"[{}]")
    assert "is empty" in refused("f.csv", b"")
    assert "no rows below" in refused("g.csv", b"age,plan,joined,member\n")
    assert "is a binary file" in refused("h.csv", bytes(range(256)))
    assert "more than once" in refused("i.csv", b"age,age\n1,2\n")
    assert "the name of an answer" in refused(
        "j.csv", b"age,plan,joined,member,prediction\n1,a,2020-01-01,1,x\n"
    )
    assert "none of the columns" in refused("k.csv", b"x,y\n1,2\n") or "no such column" in refused(
        "k.csv", b"x,y\n1,2\n"
    )
    assert not (tmp_path / "out.csv").exists()


def test_an_absent_column_counts_as_missing_and_is_told(
    inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    data = tmp_path / "less.csv"
    pd.read_csv(inputs["a.csv"], keep_default_na=False).drop(columns="age").to_csv(data, index=False)
    outcome = servable.score("churn", data, output=tmp_path / "out.csv", home=mixed_home)
    assert outcome.absent == ("age",)
    data = tmp_path / "other.csv"
    pd.read_csv(inputs["a.csv"], keep_default_na=False).rename(columns={"member": "Member"}).to_csv(data)
    with pytest.raises(DataError, match=r"column 'member': .*did you mean \"Member\""):
        servable.score("churn", data, output=tmp_path / "out2.csv", home=mixed_home)


class Interrupting(RecordedProgress):
    """Ctrl-C after so many pieces."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self._left = pieces

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        super().advance(amount, note)
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "b.csv", "a.jsonl", "a.parquet"])
def test_an_interrupted_run_goes_on_and_the_output_is_the_same(
    name: str, output: str, inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    whole, target = tmp_path / f"whole-{output}", tmp_path / output
    options = {"home": mixed_home, "batch_rows": 700}
    servable.score("churn", inputs[name], output=whole, **options)
    with pytest.raises(KeyboardInterrupt):
        servable.score("churn", inputs[name], output=target, progress=Interrupting(2), **options)
    assert not target.exists()
    assert (tmp_path / f"{output}.parts").is_dir()
    outcome = servable.score("churn", inputs[name], output=target, **options)
    assert 0 < outcome.resumed < outcome.rows == ROWS
    assert target.read_bytes() == whole.read_bytes()
    assert not (tmp_path / f"{output}.parts").exists()


@pytest.mark.parametrize("kept", range(0, 4000, 97))
def test_a_journal_cut_off_anywhere_loses_no_row(
    kept: int, inputs: dict[str, Path], mixed_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever of the last writes reached the disk."""
    folder = tmp_path_factory.mktemp("cut")
    target = folder / "out.csv"
    options = {"home": mixed_home, "batch_rows": 2000, "only_answers": True}
    with pytest.raises(KeyboardInterrupt):
        servable.score("churn", inputs["a.csv"], output=target, progress=Interrupting(3), **options)
    for part in ("journal.jsonl", "rows"):
        path = folder / "out.csv.parts" / part
        size = path.stat().st_size
        os.truncate(path, min(size, kept if part == "journal.jsonl" else kept * 40))
    servable.score("churn", inputs["a.csv"], output=target, **options)
    assert len(target.read_bytes().splitlines()) == ROWS + 1


def test_what_exists_or_was_made_of_something_else_is_left_alone(
    inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    data, target = tmp_path / "a.csv", tmp_path / "out.csv"
    data.write_bytes(inputs["a.csv"].read_bytes())
    options = {"home": mixed_home, "batch_rows": 700}
    target.write_text("precious")
    with pytest.raises(ConflictError, match="--overwrite"):
        servable.score("churn", data, output=target, **options)
    assert target.read_text() == "precious"
    with pytest.raises(SettingInvalid, match="the input itself"):
        servable.score("churn", data, output=data, overwrite=True, **options)
    with pytest.raises(KeyboardInterrupt):
        servable.score("churn", data, output=target, overwrite=True, progress=Interrupting(2), **options)
    with pytest.raises(ConflictError, match=r"What is to be written is not the same.*--restart"):
        servable.score("churn", data, output=target, overwrite=True, only_answers=True, **options)
    bad_row(data, 1, age="20")
    with pytest.raises(ConflictError, match=r"The input is not the same.*--restart"):
        servable.score("churn", data, output=target, overwrite=True, **options)
    outcome = servable.score("churn", data, output=target, overwrite=True, restart=True, **options)
    assert outcome.resumed == 0
    assert len(pd.read_csv(target)) == ROWS


def test_what_cannot_be_is_said_before_anything_is_made(
    inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    data = inputs["a.csv"]
    cases: list[tuple[type[Exception], dict[str, Any]]] = [
        (SettingInvalid, {"output": tmp_path / "out.xlsx"}),
        (SettingInvalid, {"output": tmp_path / "out.csv", "keep": ["id"], "only_answers": True}),
        (SettingInvalid, {"output": tmp_path / "out.csv", "batch_rows": -1}),
        (StorageFailed, {"output": tmp_path / "nowhere" / "out.csv"}),
        (FileMissing, {"output": tmp_path / "out.csv", "data": tmp_path / "none.csv"}),
        (ModelNotFound, {"output": tmp_path / "out.csv", "reference": "other"}),
    ]
    for error, options in cases:
        with pytest.raises(error):
            servable.score(**{"reference": "churn", "data": data, "home": mixed_home, **options})
    assert list(tmp_path.iterdir()) == []


def test_it_runs_where_an_event_loop_runs(inputs: dict[str, Path], mixed_home: Path, tmp_path: Path) -> None:
    async def cell() -> int:
        return servable.score("churn", inputs["a.csv"], output=tmp_path / "out.csv", home=mixed_home).rows

    assert asyncio.run(cell()) == ROWS


def test_progress_tells_rows_speed_and_time(
    inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    seen = RecordedProgress()
    servable.score(
        "churn", inputs["a.csv"], output=tmp_path / "out.csv", home=mixed_home, batch_rows=700, progress=seen
    )
    stage = next(each for each in seen.stages if each.title == "Score a.csv")
    assert stage.advanced == stage.total == inputs["a.csv"].stat().st_size
    assert stage.outcome == "6,000 rows"
    assert all("rows, " in note and " a second" in note for note in stage.notes)
    assert stage.notes[-1].endswith(" to go")


def test_neither_pandas_nor_a_training_library_is_needed(
    inputs: dict[str, Path], mixed_home: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('pandas', 'sklearn', 'lightgbm', 'onnx'): raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import servable\n"
        "print(servable.score('churn', sys.argv[1], output=sys.argv[2], home=sys.argv[3]).rows)"
    )
    for name, output in (("a.csv", "out.parquet"), ("a.jsonl", "out.jsonl"), ("a.parquet", "out.csv")):
        command = [sys.executable, "-c", code, str(inputs[name]), str(tmp_path / output), str(mixed_home)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == str(ROWS), done.stderr


def test_a_model_without_column_names_takes_all_columns_in_order(home: Path, tmp_path: Path) -> None:
    irises = load_iris()
    model = LogisticRegression(max_iter=500).fit(irises.data, irises.target)
    servable.add(model, name="plain", home=home)
    data = tmp_path / "irises.csv"
    np.savetxt(data, irises.data, delimiter=",", header="a,b,c,d", comments="", fmt="%.1f")
    target = tmp_path / "out.csv"
    with open_home(home) as place:
        names = [field.name for field in place.package(place.models.resolve("plain")).signature.inputs]
    if len(names) == 4:
        text = data.read_text().splitlines(keepends=True)
        data.write_text(",".join(names) + "\n" + "".join(text[1:]))
    servable.score("plain", data, output=target, home=home)
    assert pd.read_csv(target)["prediction"].tolist() == model.predict(irises.data).tolist()


def test_a_model_of_python_runs_in_processes_and_a_failing_row_is_named(home: Path, tmp_path: Path) -> None:
    from faults.misbehaving import write_model
    from faults.misbehaving_model import RAISE

    with open_home(home) as place, place.packages.staging() as folder:
        record = publish(place, folder, write_model(folder, "sum"))
        names = [field.name for field in place.package(record).signature.inputs]
    data, target = tmp_path / "sums.csv", tmp_path / "sums.out.csv"
    values = np.arange(8000.0).reshape(-1, 2)
    frame = pd.DataFrame(values, columns=names)
    frame.to_csv(data, index=False)
    outcome = servable.score("sum", data, output=target, home=home, batch_rows=1000)
    assert outcome.executor == "process"
    assert pd.read_csv(target)["prediction"].tolist() == values.sum(axis=1).tolist()
    frame.loc[2500, names[0]] = RAISE
    frame.to_csv(data, index=False)
    with pytest.raises(ModelFailed, match="failed on row 2501 of "):
        servable.score("sum", data, output=tmp_path / "again.csv", home=home, batch_rows=1000)
    assert not (tmp_path / "again.csv").exists()
