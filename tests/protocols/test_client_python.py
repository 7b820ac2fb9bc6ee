"""The Python client: it compiles for every signature and is typed as the model is."""

import typing
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from mypy import api as mypy

from protocols.client_signatures import ALL, CREDIT, LARGE, NASTY, TRAPS, signatures
from servable.artifact.signature import Signature
from servable.protocols.client_python import python_client
from servable.protocols.client_shape import Subject
from thoroughness import examples


def source_of(model: str, signature: Signature) -> str:
    return python_client(Subject(model, 3, "ab12", signature))


def loaded(model: str, signature: Signature) -> ModuleType:
    module = ModuleType("generated")
    exec(compile(source_of(model, signature), "generated.py", "exec"), module.__dict__)
    return module


@settings(max_examples=examples(60), deadline=None)
@given(signatures())
def test_a_client_of_any_signature_compiles_and_has_its_fields(signature: Signature) -> None:
    module = loaded("any-model", signature)
    names = {field.name for field in signature.inputs}
    assert set(module.AnyModelRow.__annotations__) == names
    optional = {field.name for field in signature.inputs if field.missing and field.kind != "tensor"}
    assert set(module.AnyModelRow.__optional_keys__) == optional


@pytest.mark.slow
def test_mypy_finds_nothing_in_clients_and_in_their_use(tmp_path: Path) -> None:
    for name, signature in ALL.items():
        module = f"{name.replace('-', '_').replace('.', '_')}_client"
        (tmp_path / f"c_{module}.py").write_text(source_of(name, signature), encoding="utf-8")
    (tmp_path / "use.py").write_text(
        "from typing import assert_type, Literal\n"
        "from datetime import date\n"
        "from c_credit_client import CreditClient, CreditRow\n"
        "from c_price_client import PriceClient\n"
        "from c_3d_picture_client import Model3dPictureClient\n"
        "from c_several_client import SeveralClient\n"
        'base: CreditRow = {"age": 40, "city": "Bergen", "member": True, "grade": 1}\n'
        'row: CreditRow = {**base, "since": date(2026, 1, 31)}\n'
        "client = CreditClient()\n"
        "answer = client.predict(row)\n"
        "assert_type(answer.prediction, Literal[0, 1])\n"
        "assert_type(answer.probabilities[answer.prediction], float | None)\n"
        'assert_type(PriceClient().predict({"y": 1}).prediction, float | None)\n'
        'scores = Model3dPictureClient().predict({"pixels": [[1, 2], [3, 4]]}).prediction\n'
        "assert_type(scores, list[float | None])\n"
        'several = SeveralClient().predict({"x": (1, 2), "words": ["a"]}).prediction\n'
        'assert_type(several["class"], int)\n'
    )
    said, complaints, code = mypy.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(tmp_path)])
    assert (code, complaints) == (0, ""), said
    (tmp_path / "misuse.py").write_text(
        "from c_credit_client import CreditClient\n"
        'good = {"age": 40, "city": "Bergen", "member": True}\n'
        'CreditClient().predict({"age": 40, "city": "Oslo", "member": True, "grade": 3})\n'
        'CreditClient().predict({"age": 40, "city": "Oslo", "member": True, "grade": 1, "job": "king"})\n'
        'CreditClient().predict({"age": 40, "city": "Oslo", "member": True})\n'
        'CreditClient().predict({"age": 40, "city": "Oslo", "member": True, "grade": 1, "aeg": 1})\n'
    )
    arguments = ["--strict", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "misuse.py")]
    said, _, code = mypy.run(arguments)
    assert code == 1
    assert [line.split(":")[1] for line in said.splitlines()[:-1] if "error" in line] == ["3", "4", "5", "6"]


def test_the_head_says_what_the_client_was_made_for() -> None:
    module = loaded("credit", CREDIT)
    assert (module.MODEL, module.VERSION, module.PACKAGE) == ("credit", 3, "ab12")
    assert "credit, version 3" in (module.__doc__ or "")
    assert '"age": 40.0' in (module.__doc__ or "")


def test_an_example_that_nobody_would_read_is_left_out() -> None:
    assert len(source_of("large", LARGE)) < 20_000
    assert "predict(...)" in source_of("large", LARGE)


def test_fields_are_explained() -> None:
    doc = loaded("credit", CREDIT).CreditRow.__doc__
    assert "age: a number; seen in training: 17 to 90; for example 40.0." in doc
    assert "Where they live" in doc


def test_known_values_are_types_closed_where_the_model_refuses_others() -> None:
    module = loaded("credit", CREDIT)
    assert typing.get_args(module.CreditJob) == ("cook", "nurse")
    assert module.CreditCity == typing.Literal["Oslo", "北京"] | str
    assert typing.get_args(module.CreditLabel) == (0, 1)


def test_nasty_names_are_kept_to_the_letter() -> None:
    module = loaded("nasty", NASTY)
    assert list(module.NastyRow.__annotations__) == list(TRAPS)
    kinds = [module.__dict__[name] for name in module.__dict__ if name.startswith("Nasty")]
    assert sum(typing.get_origin(kind) is typing.Literal for kind in kinds) == len(TRAPS) + 1
