"""Inputs that may be about people are told of, and never marked silently."""

import numpy as np

from servable.artifact.personal import with_personal
from servable.workflows.personal import choices, sentences, suspects
from serving.making_people import PEOPLE

ROWS = {
    "numbers": np.array([[4111111111111111.0], [2.5]]),
    "strings": np.array([["a", "ann@example.com"], ["b", ""]], object),
}


def test_names_and_values_are_looked_at() -> None:
    found = {each.column: each.looks_like for each in suspects(PEOPLE, ROWS)}
    assert found == {
        "email": "its values look like e-mail addresses",
        "amount": "its values look like card numbers",
    }
    assert {each.column for each in suspects(PEOPLE, None)} == {"email"}
    said = list(sentences(suspects(PEOPLE, None)))
    assert len(said) == 1
    assert "--personal email" in said[0]


def test_what_is_marked_is_not_suspected_again() -> None:
    assert {each.column for each in suspects(with_personal(PEOPLE, {"email": "hash"}), ROWS)} == {"amount"}


def test_columns_without_a_choice_are_dropped() -> None:
    assert choices(["a", "b"]) == {"a": "drop", "b": "drop"}
    assert choices({"a": "hash"}) == {"a": "hash"}
    assert choices(None) == {}
