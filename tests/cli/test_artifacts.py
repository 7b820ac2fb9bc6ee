"""``servable inspect`` and ``servable sign``: what a person types and sees."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hostile import call, gadgets
from registry.adding import add
from servable.registry.home import open_home

Invoke = Callable[..., Any]


def test_a_hostile_file_is_named_and_ends_with_6(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(call(*gadgets(tmp_path / "canary")["runpy"], 4))
    done = invoke("inspect", path)
    assert done.exit_code == 6
    assert "runpy.run_module" in done.stdout
    assert "pickle" in done.stdout
    told = json.loads(invoke("inspect", path, "--json").stdout)
    assert told["clean"] is False
    assert told["parts"][0]["kind"] == "pickle"
    assert told["parts"][0]["names"] == ["runpy.run_module"]


def test_data_end_with_0(invoke: Invoke, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(3))
    np.savez(tmp_path / "rows.npz", **{"a": np.arange(3), "n:b": np.ones(2)})
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": [1, 2]}))
    (tmp_path / "about.json").write_text('{"a": 1}')
    (tmp_path / "trees.txt").write_text("tree\nversion=v4\n")
    (tmp_path / "p.pmml").write_text('<?xml version="1.0"?>\n<PMML version="4.4"></PMML>')
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    done = invoke("inspect", tmp_path, "--json")
    told = json.loads(done.stdout)
    kinds = {part["path"]: part["kind"] for part in told["parts"] if "/" not in part["path"]}
    assert {part["path"] for part in told["parts"] if not part["clean"]} == set()
    assert done.exit_code == 0
    assert kinds["rows.npy"] == kinds["rows.npz"] == "numpy"
    assert (kinds["plain.pkl"], kinds["about.json"], kinds["trees.txt"]) == ("pickle", "text", "lightgbm")
    assert (kinds["p.pmml"], kinds["w.safetensors"], kinds["m.gguf"]) == ("pmml", "safetensors", "gguf")


def test_what_is_not_a_model_file_is_not_called_clean(invoke: Invoke, tmp_path: Path) -> None:
    for name, data in (
        ("model.bin", b"\x7fELF" + bytes(60)),
        ("model.rds", b"X\n\x00\x00\x00" + bytes(60)),
        ("model.dat", bytes(range(256))),
        ("cut.safetensors", (60).to_bytes(8, "little") + b'{"w":'),
    ):
        (tmp_path / name).write_bytes(data)
        assert invoke("inspect", tmp_path / name).exit_code == 6, name
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "model.npy").symlink_to("/etc/passwd")
    assert "it is a link" in invoke("inspect", tmp_path / "linked").stdout


def test_a_version_is_signed_and_looked_at(invoke: Invoke, home: Path, tmp_path: Path) -> None:
    with open_home(home) as place:
        add(place)
    done = invoke("sign", "churn", "--key", tmp_path / "k.pem", "--new-key", "--rollback")
    assert done.exit_code == 0, done.stderr
    assert "churn:1 is signed with the key" in done.stdout
    assert "trusted_keys" in done.stdout
    again = json.loads(invoke("sign", "churn:1", "--key", tmp_path / "k.pem", "--json").stdout)
    assert (again["model"], again["version"], again["rollback"]) == ("churn", 1, False)
    # The package of the tests holds no real graph.
    assert invoke("inspect", "churn:1").exit_code in (0, 6)


def test_what_cannot_be_done_is_one_sentence(invoke: Invoke, home: Path, tmp_path: Path) -> None:
    with open_home(home) as place:
        add(place)
    (tmp_path / "no.pem").write_text("nothing")
    for words, code in (
        (("sign", "churn", "--key", tmp_path / "none.pem"), 4),
        (("sign", "churn", "--key", tmp_path / "no.pem"), 2),
        (("sign", "nobody", "--key", tmp_path / "no.pem"), 4),
        (("inspect", tmp_path / "nothing.pkl"), 4),
        (("inspect", "nobody"), 4),
    ):
        done = invoke(*words)
        assert done.exit_code == code, done.stderr
        assert 1 <= len(done.stderr.splitlines()) <= 2
