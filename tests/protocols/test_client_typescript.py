"""The TypeScript client as text; that it compiles and works is shown where a compiler is."""

import re

import pytest
from hypothesis import given, settings

from protocols.client_signatures import ALL, CREDIT, LARGE, NASTY, signatures
from servable.artifact.signature import Signature
from servable.protocols.client_shape import Subject
from servable.protocols.client_typescript import typescript_client
from thoroughness import examples


def source_of(model: str, signature: Signature) -> str:
    return typescript_client(Subject(model, 3, "ab12", signature))


def without_texts(source: str) -> str:
    """What is left without comments, texts and patterns."""
    plain = r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|`[^`]*`|replace\(/.*?/, |/\^https.*?/\.test'
    return re.sub(plain, "", source, flags=re.DOTALL)


@settings(max_examples=examples(100), deadline=None)
@given(signatures())
def test_texts_and_comments_end_where_they_should(signature: Signature) -> None:
    left = without_texts(source_of("any-model", signature))
    for opening, closing in ("{}", "()", "[]"):
        assert left.count(opening) == left.count(closing)
    assert left.isascii()
    assert '"' not in left
    assert "*/" not in left


@pytest.mark.parametrize(("name", "signature"), list(ALL.items()))
def test_every_type_is_declared_once(name: str, signature: Signature) -> None:
    declared = re.findall(r"^export (?:type|interface|class) (\w+)", source_of(name, signature), re.MULTILINE)
    assert len(declared) == len(set(declared))


def test_known_values_are_unions_closed_where_the_model_refuses_others() -> None:
    source = source_of("credit", CREDIT)
    assert 'export type CreditJob = "cook" | "nurse";' in source
    assert 'export type CreditCity = "Oslo" | "北京" | (string & {});' in source
    assert "export type CreditLabel = 0 | 1;" in source
    assert "  job?: CreditJob | null;" in source
    assert "  since?: CreditMoment | null;" in source
    assert "readonly probabilities: Readonly<Record<CreditLabel, number | null>>;" in source


def test_fields_are_explained_and_the_head_has_an_example() -> None:
    source = source_of("credit", CREDIT)
    assert "/** A number; seen in training: 17 to 90; for example 40.0. */" in source
    assert "Made by `servable client` for credit, version 3,\n * package ab12." in source
    assert " *   age: 40.0," in source
    assert "predict(...)" in source_of("large", LARGE)


def test_names_that_would_do_harm_are_written_otherwise() -> None:
    source = source_of("nasty", NASTY)
    assert '  ["__proto__"]: ' in source
    assert '  "class": ' in source or "  class: " in source
    assert "*\\/" in source
