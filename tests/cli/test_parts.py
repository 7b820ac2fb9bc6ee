"""The small pure parts of the command: options, payloads, numbers, names, progress."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from servable.cli import cells, options, payload
from servable.cli.progress import RichProgress
from servable.errors import DataError, FileMissing, InputError, SettingInvalid
from servable.workflows.intake import is_path, name_of

VERBS = (
    "demo",
    "select",
    "train",
    "evaluate",
    "add",
    "optimize",
    "deploy",
    "rollback",
    "undeploy",
    "serve",
    "call",
    "models",
    "status",
    "describe",
    "client",
)


def test_minimums_and_kinds():
    assert options.minimums(["accuracy=0.85", " r2 = -1 "]) == {"accuracy": 0.85, "r2": -1.0}
    assert options.minimums(None) == {}
    assert options.kinds(["a=b=category"]) == {"a=b": "category"}


@pytest.mark.parametrize("text", ["accuracy", "=0.5", "accuracy=", "accuracy=high"])
def test_a_gate_that_is_none(text):
    with pytest.raises(SettingInvalid, match="--min"):
        options.minimums([text])


def test_a_kind_that_is_none():
    with pytest.raises(SettingInvalid, match="there is no kind 'colour'"):
        options.kinds(["a=colour"])


@pytest.mark.parametrize(
    ("text", "rows", "single"),
    [
        ("[1, 2]", [1, 2], True),
        ("[[1, 2]]", [[1, 2]], False),
        ('{"a": 1}', {"a": 1}, True),
        ('[{"a": 1}]', [{"a": 1}], False),
        ('{"input": [1]}', [1], True),
        ('{"inputs": [[1]]}', [[1]], False),
        ("[]", [], True),
    ],
)
def test_json_payloads(text, rows, single, tmp_path):
    assert payload.read(text, {}) == (rows, single)
    file = tmp_path / "rows.json"
    file.write_text(text)
    assert payload.read(f"@{file}", {}) == (rows, single)


@pytest.mark.parametrize("text", ["", "hello", "{", "3", '"text"', "null"])
def test_json_that_is_no_row(text):
    with pytest.raises(InputError):
        payload.read(text, {})


def test_csv_payloads_are_typed_by_the_models_columns(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("age,plan,member,code,label\n42,basic,TRUE,007,x\n,, ,8,y\n1.5,7,maybe,,z\nold,a,0,b,z\n")
    inputs = {"age": "number", "plan": "category", "member": "boolean", "code": "text"}
    rows, single = payload.read(str(file), inputs)
    assert single is False
    assert rows == [
        {"age": 42, "plan": "basic", "member": True, "code": "007"},
        {"age": None, "plan": None, "member": None, "code": "8"},
        {"age": 1.5, "plan": "7", "member": "maybe", "code": None},
        {"age": "old", "plan": "a", "member": False, "code": "b"},
    ]
    unknown, _ = payload.read(f"@{file}", {})
    assert unknown[0] == {"age": 42, "plan": "basic", "member": "TRUE", "code": 7, "label": "x"}


def test_files_that_cannot_be_sent(tmp_path):
    with pytest.raises(FileMissing, match="There is no file"):
        payload.read("@missing.json", {})
    with pytest.raises(FileMissing, match="There is no file"):
        payload.read("missing.csv", {})
    empty = tmp_path / "empty.csv"
    empty.write_text("a,b\n")
    with pytest.raises(DataError, match="no rows"):
        payload.read(str(empty), {})
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        payload.read(str(binary), {})


@pytest.mark.parametrize(
    ("path", "name"),
    [("model.pkl", "model"), ("dir/My Model v2.onnx", "my-model-v2"), ("Überfall_1.2.skops", "berfall_1.2")],
)
def test_names_from_files(path, name):
    assert name_of(Path(path)) == name


def test_a_file_whose_name_gives_none():
    with pytest.raises(SettingInvalid, match="--name NAME"):
        name_of(Path("模型.pkl"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("model.pkl", True), ("a/b", True), ("MODEL.ONNX", True), ("churn", False), ("churn:3", False)],
)
def test_paths_and_names(text, expected):
    assert is_path(text) is expected


def test_who_asks_whether_it_is_a_file_imports_nothing_that_takes_files_in():
    code = "import sys; from servable.workflows.intake import is_path; is_path('churn'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"httpx", "onnx", "onnxruntime", "pandas", "servable.workflows.add", "sklearn"}
    assert heavy & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (8.25e-6, "8.2 µs"), (0.0165, "16.5 ms"), (2.0, "2.0 s")],
)
def test_durations(seconds, text):
    assert cells.duration(seconds) == text


def test_numbers():
    assert [cells.number(value) for value in (None, 0.87, 123456.0)] == ["-", "0.8700", "123,456.0"]


def test_progress_without_a_terminal_is_one_line_for_each_stage():
    stream = io.StringIO()
    with RichProgress(Console(file=stream, width=100)) as progress:
        progress.advance()
        progress.begin("Reading [data]", 3)
        progress.advance(1, "row [1]")
        progress.begin("Training")
        progress.done("accuracy 0.94")
        progress.done()
    lines = stream.getvalue().splitlines()
    assert [line.rsplit(" ", 2)[0] for line in lines] == ["✓ Reading [data]", "✓ Training  accuracy 0.94"]


def test_progress_of_a_stage_that_failed_claims_nothing():
    stream = io.StringIO()
    with pytest.raises(ValueError), RichProgress(Console(file=stream)) as progress:  # noqa: PT012
        progress.begin("Training")
        raise ValueError
    assert stream.getvalue() == ""


def test_progress_on_a_terminal_draws_bars():
    stream = io.StringIO()
    with RichProgress(Console(file=stream, force_terminal=True, width=100)) as progress:
        progress.begin("Training", 2)
        progress.advance(1, "fold 1")
    assert "Training" in stream.getvalue()


def test_every_verb_has_an_example_and_exit_codes(invoke):
    listed = invoke("--help").output
    for verb in VERBS:
        assert f" {verb} " in listed
        page = invoke(verb, "--help")
        assert page.exit_code == 0
        assert "Example:" in page.output
        assert f"servable {verb}" in page.output
        assert "Exit codes: 0 done" in page.output


def test_the_version(invoke):
    from servable import __version__

    assert invoke("--version").output == f"servable {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train"],
        ["train", "x.csv"],
        ["select", "x.csv", "--folds", "1"],
        ["demo", "--port", "x"],
    ],
)
def test_wrong_usage(invoke, arguments):
    ended = invoke(*arguments)
    assert ended.exit_code == 2
    assert "Traceback" not in ended.output


def test_help_is_quick_and_loads_nothing_heavy(command):
    import subprocess
    import sys

    code = (
        "import sys, json; from servable.cli.main import app\n"
        "heavy = ['numpy', 'pandas', 'sklearn', 'onnxruntime', 'httpx', 'sqlalchemy', 'msgspec']\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert command("--help").returncode == 0


def test_an_interrupt_ends_quietly(invoke, monkeypatch):
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("servable.workflows.look.models", interrupted)
    ended = invoke("models")
    assert (ended.exit_code, ended.output) == (130, "")


@pytest.mark.parametrize("name", ["picture.png", "A B.JPG", "sound.wav", "@picture.webp"])
def test_a_picture_or_a_sound_is_one_row(name: str):
    assert payload.read(name, {}) == (Path(name.removeprefix("@")), True)
