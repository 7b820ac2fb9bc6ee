"""``servable privacy`` and ``--personal``: what a person types and sees."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from serving.making_people import publish_people

Invoke = Callable[..., Any]


def test_an_erasure_gives_a_receipt_and_an_export_lines(invoke: Invoke, home: Path) -> None:
    publish_people(home)
    shown = invoke("deploy", "risk", "--capture", "1.0", "--capture-subject", "customer")
    assert "captured under a key for each customer" in " ".join(shown.stdout.split())
    done = invoke("privacy", "erase", "customer-17", "customer-18")
    assert (done.exit_code, done.stdout.count("Receipt")) == (0, 2)
    assert "customer-1" not in done.stdout
    assert json.loads(invoke("privacy", "erase", "ann", "--json").stdout)["complete"] is True
    assert invoke("privacy", "export", "ann").stdout == ""
    assert json.loads(invoke("privacy", "export", "ann", "--json").stdout)["rows"] == 0
    assert "Nothing is held" in invoke("privacy", "export", "--where", "email=a@b.c", "-o", "x.jsonl").stdout


def test_what_cannot_be_done_is_one_sentence(invoke: Invoke, home: Path) -> None:
    publish_people(home)
    for words, code, said in (
        (("privacy", "erase"), 2, "Say who"),
        (("privacy", "erase", "ann", "--where", "email=x"), 2, "not both"),
        (("privacy", "export", "--where", "email"), 2, "--where takes pairs"),
        (("deploy", "risk", "--capture-subject", "name"), 2, "no column 'name'"),
    ):
        done = invoke(*words)
        assert (done.exit_code, said in " ".join(done.stderr.split())) == (code, True), done.stderr


def test_personal_columns_are_in_no_file_that_shows_data(invoke: Invoke, home: Path, tmp_path: Path) -> None:
    towns = [f"canarytown{number}" for number in range(4)]
    rows = "".join(
        f"{number % 9},{towns[number % 4]},ann{number % 30}@example.com,{'yes' if number % 2 else 'no'}\n"
        for number in range(120)
    )
    (tmp_path / "data.csv").write_text("age,home_address,contact,answer\n" + rows)
    arguments = ("train", tmp_path / "data.csv", "--target", "answer", "--name", "odd", "--model", "logistic",
                 "--time-budget", "0.1", "--kind", "contact=category")  # fmt: skip
    wrong = invoke(*arguments, "--personal", "home_adress")
    assert (wrong.exit_code, "did you mean home_address?" in " ".join(wrong.stderr.split())) == (2, True)
    assert "one of drop, hash, encrypt" in " ".join(
        invoke(*arguments, "--personal", "age=keep").stderr.split()
    )
    made = invoke(*arguments, "--personal", "home_address,contact=hash", "--json")
    outcome = json.loads(made.stdout)
    assert outcome["suspects"] == []
    package = Path(outcome["package"])
    # The model itself remembers the categories that it learned; what shows data does not.
    for file in package.iterdir():
        if file.suffix in (".json", ".html"):
            assert b"canarytown" not in file.read_bytes(), file.name
            assert b"@example.com" not in file.read_bytes(), file.name
        if file.suffix == ".npz":
            with ZipFile(BytesIO(file.read_bytes())) as archive:
                content = b"".join(map(archive.read, archive.namelist()))
            assert b"canarytown" not in content, file.name
            assert b"@example.com" not in content, file.name
    described = json.loads(invoke("describe", "odd", "--json").stdout)
    fields = {field["name"]: field for field in described["signature"]["inputs"]}
    assert (fields["contact"]["capture"], fields["contact"]["personal"]) == ("hash", True)
    assert (fields["home_address"]["capture"], "values" in fields["home_address"]) == ("drop", False)
    assert described["recipe"]["personal"] == {"home_address": "drop", "contact": "hash"}
