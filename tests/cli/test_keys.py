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
    assert lines[1].split("_")[2] not in listed.stdout
    turned = invoke("keys", "rotate", "ci", "--overlap", "2h", "--json")
    assert shown(json.loads(turned.stdout)["key"]) is not None
    assert json.loads(turned.stdout)["until"]
    assert invoke("keys", "revoke", "ci").stdout.count("is revoked") == 2
    assert "was revoked before" in invoke("keys", "revoke", "ci").stdout
    rows = json.loads(invoke("keys", "list", "--json").stdout)
    assert [row["state"] for row in rows] == ["revoked", "revoked"]


def test_what_cannot_be_done_is_one_sentence(invoke: Invoke) -> None:
    for words, code, said in (
        (("create", "--name", "a", "--scope", "write:x"), 3, "'write:x' is no scope"),
        (("create", "--name", "a b", "--scope", "read"), 3, "no name of a key"),
        (("create", "--name", "a", "--scope", "read", "--expires", "soon"), 2, "--expires is a span of time"),
        (("revoke", "nobody"), 4, "There is no key 'nobody'"),
        (("rotate", "nobody"), 4, "There is no active key 'nobody'"),
    ):
        done = invoke("keys", *words)
        assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.splitlines()) <= 2
    assert "everybody who reaches a server" in invoke("keys", "list").stdout
