"""``servable audit``: what a person types and sees."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from servable.security.checkpoints import new_signing_key

Invoke = Callable[..., Any]


def test_the_life_of_a_log(invoke: Invoke, home: Path, tmp_path: Path) -> None:
    assert invoke("keys", "create", "--name", "ci", "--scope", "read").exit_code == 0
    shown = invoke("audit", "show", "--since", "1d", "--what", "keys")
    assert "keys.create" in shown.stdout
    assert "key=ci" in shown.stdout
    assert "Nothing was recorded." in invoke("audit", "show", "--who", "key:nobody").stdout
    (record,) = json.loads(invoke("audit", "show", "--json").stdout)
    assert (record["number"], record["who"][:5], record["where"][:5]) == (1, "user:", "host:")
    public = invoke("audit", "key").stdout.strip()
    assert public.startswith("servable/audit+")
    outside = tmp_path / "outside.notes"
    note = invoke("audit", "checkpoint", "--out", outside).stdout
    assert note.startswith("servable/audit/")
    invoke("keys", "revoke", "ci")
    good = invoke("audit", "verify", "--checkpoint", outside, "--key", public)
    assert (good.exit_code, good.stdout.startswith("Intact: records 1 to 2")) == (0, True)
    assert invoke("audit", "export", "--output", tmp_path / "out.jsonl").exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["record"]["what"] for line in lines] == ["keys.create", "keys.revoke"]
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("DELETE FROM audit")
        connection.execute("DELETE FROM audit_checkpoints")
    bad = invoke("audit", "verify", "--checkpoint", outside)
    assert (bad.exit_code, bad.stdout.startswith("truncated Record 1 is missing at the end")) == (5, True)
    found = json.loads(invoke("audit", "verify", "--checkpoint", outside, "--json").stdout)
    assert (found["intact"], found["faults"][0]["kind"]) == (False, "truncated")


def test_checkpoints_of_others_and_changed_ones(invoke: Invoke, tmp_path: Path) -> None:
    invoke("keys", "create", "--name", "ci", "--scope", "read")
    outside = tmp_path / "outside"
    outside.mkdir()
    invoke("audit", "checkpoint", "--out", outside)
    (file,) = outside.iterdir()
    other = tmp_path / "other.pub"
    other.write_text(new_signing_key().public)
    unknown = invoke("audit", "verify", "--checkpoint", file, "--key", other)
    assert (unknown.exit_code, "unknown keys were not compared" in unknown.stdout) == (0, True)
    file.write_text(file.read_text().replace("\n1\n", "\n9\n"))
    changed = invoke("audit", "verify", "--checkpoint", outside)
    assert (changed.exit_code, f"In {file}" in changed.stdout.replace("\n", "")) == (5, True)


def test_what_cannot_be_done_is_one_sentence(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("audit", "verify").exit_code == 4
    invoke("keys", "create", "--name", "ci", "--scope", "read")
    for words, code, said in (
        (("verify", "--checkpoint", tmp_path / "none"), 4, "no checkpoints at"),
        (("verify", "--key", "nonsense"), 3, "is no public key"),
        (("show", "--since", "soon"), 2, "is no time"),
        (("export", "--output", tmp_path / "none" / "x"), 7, "writing"),
    ):
        done = invoke("audit", *words)
        assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.splitlines()) <= 2


def test_a_home_that_signs_has_checkpoints_after_its_commands(invoke: Invoke, home: Path) -> None:
    invoke("audit", "--help")
    invoke("keys", "create", "--name", "ci", "--scope", "read")
    assert not (home / "audit.key").exists()
    invoke("audit", "key")
    found = json.loads(invoke("audit", "verify", "--json").stdout)
    assert (found["intact"], found["compared"]) == (True, 1)
