"""Forms that are made from a proven one."""

import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from optimization.models import trained
from servable.artifact.manifest import Variant
from servable.frameworks.base import MADE_FROM
from servable.frameworks.lookup import adapter
from servable.optimization import derived as module
from servable.optimization.choose import optimise
from servable.optimization.derived import exact, source
from servable.optimization.forms import FOLDER, Form
from servable.optimization.graph import Unconvertible


def made(name: str, kind: str = "onnx") -> Variant:
    return Variant(name=name, format=kind, path="")


def test_the_last_graph_is_what_others_are_made_from():
    double, single = made("onnx-fp64"), made("onnx-fp32")
    assert source([made("trained", "sklearn"), double, single]) == single
    assert source([made("trained", "sklearn"), double]) == double
    assert source([made("trained", "onnx")]) == made("trained", "onnx")
    assert source([made("trained", "torch"), made("text-fp32", "text")]) is None
    assert source([]) is None


def test_nothing_is_made_from_nothing(tmp_path):
    assert exact([], tmp_path) == ()


def test_trees_are_not_worth_a_try(tmp_path):
    model, given = trained("light")
    found = optimise(model, given.arrays, tmp_path, batches=(1,))
    assert exact(found.variants, tmp_path) == ()


# What a module of ``derived.MODULES`` is: this one makes the same graph again, and two that do not serve.
def _again(name: str, variant: Variant, package: Path, folder: Path) -> Variant:
    path = f"{FOLDER}/{name}.onnx"
    (folder / path).write_bytes((package / variant.path).read_bytes())
    options = {**variant.options, MADE_FROM: variant.name}
    return msgspec.structs.replace(variant, name=name, path=path, options=options, proof=None, timings=())


def _impossible(_: Path) -> Variant:
    raise Unconvertible("it is only a test")


def _never(_: Path) -> Variant:
    raise AssertionError("a lossy form is not made without somebody who decides about it")


def forms_of(variant: Variant, folder: Path) -> tuple[Form, ...]:
    return (
        Form("again-fp64", partial(_again, "again-fp64", variant, folder)),
        Form("rounded", _never, lossy=True),
        Form("impossible", _impossible),
    )


class Module:
    derived = staticmethod(forms_of)


@pytest.fixture
def _one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_module_of_forms", Module)  # type: ignore[arg-type] - stands for a module
    monkeypatch.setattr(module, "MODULES", ("a_module_of_forms",))


@pytest.mark.usefixtures("_one_module")
def test_they_are_proven_timed_and_tuned_like_every_form(tmp_path):
    model, given = trained("logistic-three")
    found = optimise(model, given.arrays, tmp_path, batches=(1,), tune=True)
    by_name = {variant.name: variant for variant in found.variants}
    again = by_name["again-fp64"]
    assert again.options[MADE_FROM] == source([each for each in found.variants if each != again]).name
    assert again.proof.equal
    assert again.timings
    assert (tmp_path / again.path).is_file()
    assert found.notes[-1] == "impossible: not made, because it is only a test."
    assert "rounded" not in by_name


@pytest.mark.usefixtures("_one_module")
def test_a_model_that_came_as_onnx_has_them_too(tmp_path):
    model, given = trained("logistic-three")
    first = optimise(model, given.arrays, tmp_path, batches=(1,))
    onnx = adapter("onnx")
    (tmp_path / "package").mkdir()
    held = msgspec.structs.replace(first.variants[1], proof=None)
    taken = onnx.restore(tmp_path, held, model.signature, trust=False)
    variant = onnx.write(taken, tmp_path / "package")
    found = optimise(taken, given.arrays, tmp_path / "package", fallback=variant, batches=(1,), tune=True)
    assert [each.name for each in found.variants] == ["trained", "again-fp64"]
    # The model itself is tuned too, because it may serve.
    assert all("session" in each.options for each in found.variants)
    answers = [
        onnx.load(tmp_path / "package", each, model.signature, trust=False).predict(given.arrays)
        for each in found.variants
    ]
    np.testing.assert_array_equal(answers[0]["prediction"], answers[1]["prediction"])
