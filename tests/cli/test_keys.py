"""``servable keys``: what a person types and sees."""

import json
from collections.abc import Callable
from typing import Any

from servable.security.keys import shown

Invoke = Callable[..., Any]


def test_the_life_of_a_key(invoke: Invoke) -> None:
    made = invoke("keys", "create", "--name", "ci", "--scope", "predict:income,read", "--expires", "90d")
    assert made.exit_code == 0
    lines = made.stdout.splitlines()
    assert lines[0].startswith("Key ci allows predict:income, read:* until 20")
    # Alone on its line, whole, so that it can be copied.
    assert shown(lines[1]) is not None
    listed = invoke("keys", "list")
    assert "predict:income, read:*" in listed.stdout
    assert lines[1].split("_", 2)[2] not in listed.stdout
    turned = invoke("keys", "rotate", "ci", "--overlap", "2h", "--json")
    assert shown(json.loads(turned.stdout)["key"]) is not None
    assert json.loads(turned.stdout)["until"]
    assert invoke("keys", "revoke", "ci").stdout.count("is revoked") == 2
    assert "was revoked before" in invoke("keys", "revoke", "ci").stdout
    rows = json.loads(invoke("keys", "list", "--json").stdout)
    assert [row["state"] for row in rows] == ["revoked", "revoked"]


def test_the_limits_of_a_key(invoke: Invoke) -> None:
    limits = ("--rate", "100/s", "--quota", "1M/day", "--concurrency", "16")
    made = invoke("keys", "create", "--name", "app", "--scope", "predict", *limits)
    assert "at 100/s, 1,000,000/day, 16 at once and does not expire" in " ".join(made.stdout.split())
    turned = invoke("keys", "rotate", "app", "--json")
    rows = json.loads(invoke("keys", "list", "--json").stdout)
    assert len(rows) == 2
    for row in (*rows, json.loads(turned.stdout)["row"]):
        assert (row["rate"], row["quota"], row["concurrency"]) == ("100/s", 1_000_000, 16)
        assert row["used_today"] == 0
    listed = " ".join(invoke("keys", "list").stdout.split())
    assert "limits" in listed
    assert "today" in listed


def test_what_cannot_be_done_is_one_sentence(invoke: Invoke) -> None:
    for words, code, said in (
        (("create", "--name", "a", "--scope", "write:x"), 3, "'write:x' is no scope"),
        (("create", "--name", "a b", "--scope", "read"), 3, "no name of a key"),
        (("create", "--name", "a", "--scope", "read", "--expires", "soon"), 2, "--expires is a span of time"),
        (("create", "--name", "a", "--scope", "read", "--rate", "fast"), 3, "'fast' is no rate"),
        (("create", "--name", "a", "--scope", "read", "--quota", "5/s"), 3, "'5/s' is no quota"),
        (("create", "--name", "a", "--scope", "read", "--concurrency", "0"), 3, "from 1 to 1000000"),
        (("revoke", "nobody"), 4, "There is no key 'nobody'"),
        (("rotate", "nobody"), 4, "There is no active key 'nobody'"),
    ):
        done = invoke("keys", *words)
        assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.splitlines()) <= 2
    assert "everybody who reaches a server" in invoke("keys", "list").stdout
