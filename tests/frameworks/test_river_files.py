"""Pickles of River: their own classes are opened without trust, and nothing else is ever called."""

import functools
import os
import pickle
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from river import compose, linear_model

from frameworks.river_models import MODELS, made
from servable.artifact.manifest import Variant
from servable.errors import ArtifactUnreadable, ArtifactUntrusted, ServableError
from servable.frameworks.base import EXECUTES, Trained
from servable.frameworks.river import ADAPTER
from servable.frameworks.river_files import open_file


def doubled(row: dict[str, Any]) -> dict[str, Any]:
    """A step that is code of the model's author."""
    return {name: value * 2 for name, value in row.items() if name != "town"}


class Calls:
    """Unpickled by calling what it was made with."""

    def __init__(self, *called: Any) -> None:
        self._called = called

    def __reduce__(self) -> Any:
        return self._called


def kept(thing: Any, folder: Path) -> Path:
    path = folder / "model.pkl"
    path.write_bytes(pickle.dumps(thing))
    return path


@pytest.mark.parametrize("name", MODELS)
def test_models_of_river_need_no_trust_and_execute_nothing(name: str, tmp_path: Path) -> None:
    given = made(name)
    trained = ADAPTER.take(given.model, sample=given.frame)
    variant = ADAPTER.write(trained, tmp_path)
    assert EXECUTES not in variant.options
    again = ADAPTER.restore(tmp_path, variant, trained.signature, trust=False)
    assert again.model.predict_one(given.rows[0]) == given.model.predict_one(given.rows[0])


def test_code_of_the_author_asks_for_trust(tmp_path: Path) -> None:
    given = made("logistic")
    model = compose.FuncTransformer(doubled) | linear_model.LogisticRegression()
    for row, answer in zip(given.rows, given.answers, strict=True):
        model.learn_one(row, answer)
    path = kept(model, tmp_path)
    with pytest.raises(ArtifactUntrusted, match=r"test_river_files\.doubled.*--trust"):
        ADAPTER.read(path, sample=given.frame, trust=False)
    trained = ADAPTER.read(path, sample=given.frame, trust=True)
    variant = ADAPTER.write(trained, tmp_path)
    assert variant.options[EXECUTES] is True
    with pytest.raises(ArtifactUntrusted):
        ADAPTER.load(tmp_path, variant, trained.signature, trust=False)
    assert ADAPTER.load(tmp_path, variant, trained.signature, trust=True)


@pytest.mark.parametrize(
    "thing",
    [
        Calls(os.mkdir, ("made",)),
        Calls(functools.partial(os.mkdir, "made"), ()),
        Calls(getattr, (os.PathLike, "register")),
        Calls(getattr, (linear_model.LogisticRegression, "__subclasses__")),
        Calls(eval, ("open('made', 'w')",)),
    ],
    ids=["call", "partial", "getattr", "subclasses", "eval"],
)
def test_nothing_else_is_called(thing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = linear_model.LogisticRegression()
    model.learn_one({"x": 1.0}, True)
    model.hidden = thing
    path = kept(model, tmp_path)
    with pytest.raises(ArtifactUntrusted):
        open_file(path, trust=False)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "names",
    [
        b"\x80\x04\x8c\x0eriver.datasets\x8c\x08Phishing\x93.",
        b"\x80\x04\x8c\x0friver.base.base\x8c\x08sys.exit\x93.",
        b"\x80\x04\x8c\x0friver.base.base\x8c\x02gc\x93.",
    ],
    ids=["files and the net", "imported module", "module"],
)
def test_parts_of_river_that_do_more_than_compute_are_foreign(names: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(names)
    with pytest.raises(ArtifactUntrusted):
        open_file(path, trust=False)


def test_what_cannot_be_pickled_cannot_be_kept(tmp_path: Path) -> None:
    given = made("logistic")
    model = compose.FuncTransformer(lambda row: row) | given.model
    trained = Trained(model, ADAPTER.take(given.model, sample=given.frame).signature, {}, {})
    with pytest.raises(ArtifactUnreadable, match="cannot be pickled"):
        ADAPTER.write(trained, tmp_path)


@pytest.mark.parametrize(("name", "times"), [("logistic", 300), ("forest", 30)])
def test_a_damaged_file_is_one_sentence(name: str, times: int, tmp_path: Path) -> None:
    """Whatever the damage, also within the parts of River that are compiled and panic."""
    data, draw = pickle.dumps(made(name).model), random.Random(0)
    path = tmp_path / "model.pkl"
    opened = 0
    for _ in range(times):
        damaged = bytearray(data)
        for place in draw.sample(range(min(len(data), 4_000)), 3):
            damaged[place] = draw.randrange(256)
        path.write_bytes(damaged)
        with suppress(ServableError):
            open_file(path, trust=False)
            opened += 1
    assert opened < times / 2


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04\x8c\x0enowhere.module\x8c\x05Thing\x93.")
    with pytest.raises(ServableError, match=r"needs the module nowhere"):
        open_file(path, trust=True)
    variant = Variant(name="trained", format="river", path="model.pkl", options={"missing": "none"})
    given = made("linear")
    signature = ADAPTER.take(given.model, sample=given.frame).signature
    with pytest.raises(ArtifactUntrusted):
        ADAPTER.restore(tmp_path, variant, signature, trust=False)
