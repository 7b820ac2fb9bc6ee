"""``servable tls dev``: what a person types and sees."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Invoke = Callable[..., Any]


def test_a_certificate_for_development(invoke: Invoke, tmp_path: Path) -> None:
    out = str(tmp_path / "tls")
    made = invoke("tls", "dev", "--host", "dev.local", "--client", "ci", "--out", out)
    assert made.exit_code == 0
    assert "A certificate for localhost, 127.0.0.1, ::1, dev.local is valid until 20" in made.stdout
    assert f"servable serve --tls-cert {out}/cert.pem --tls-key {out}/key.pem" in made.stdout
    assert f'ca="{out}/ca.pem"' in made.stdout
    told = json.loads(invoke("tls", "dev", "--host", "dev.local", "--out", out, "--json").stdout)
    assert (told["new_authority"], told["hosts"][-1]) == (False, "dev.local")


def test_what_cannot_be_done_is_one_sentence(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("tls", "dev", "--host", "a b", "--out", str(tmp_path / "tls"))
    assert (done.exit_code, "'a b' is no host" in done.stderr) == (3, True)
    both = invoke("serve", "--tls-dev", "--tls-cert", "cert.pem")
    assert (both.exit_code, "leave out --tls-cert" in both.stderr) == (2, True)
