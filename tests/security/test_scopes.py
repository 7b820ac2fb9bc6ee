"""What a scope allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import InputError
from servable.security.scopes import ACTIONS, Scope, allowed, parse_scope, parse_scopes

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
NEEDS = st.sampled_from(["see", *ACTIONS])


@given(st.sampled_from(ACTIONS), NAMES, st.sampled_from(["", "*"]))
def test_a_scope_is_read_as_it_is_written(action: str, name: str, star: str) -> None:
    assert str(parse_scope(f"{action}:{name}{star}")) == f"{action}:{name}{star}"


@given(NEEDS, NAMES, NAMES)
def test_a_scope_for_one_model_says_nothing_about_another(need: str, name: str, other: str) -> None:
    for action in ACTIONS:
        scope = parse_scope(f"{action}:{name}")
        assert scope.covers(need, other) == (name == other and scope.covers(need, name))  # type: ignore[arg-type]
        assert not scope.covers(need, "*")  # type: ignore[arg-type]


@given(NEEDS, NAMES, NAMES)
def test_a_star_means_every_name_that_begins_so(need: str, begins: str, rest: str) -> None:
    for action in ACTIONS:
        all_, some = parse_scope(action), parse_scope(f"{action}:{begins}*")
        assert all_ == Scope(action, "*")
        assert some.covers(need, begins + rest) == all_.covers(need, "anything")  # type: ignore[arg-type]
        assert some.covers(need, rest) == (rest.startswith(begins) and all_.covers(need, rest))  # type: ignore[arg-type]


def test_what_each_action_allows() -> None:
    needs = ("see", *ACTIONS)
    table = {action: [need for need in needs if parse_scope(action).covers(need, "m")] for action in ACTIONS}
    assert table == {
        "predict": ["see", "predict"],
        "feedback": ["see", "feedback"],
        "read": ["see", "read"],
        "deploy": ["see", "read", "deploy"],
        "admin": list(needs),
    }


def test_several_scopes_allow_what_any_of_them_does() -> None:
    scopes = parse_scopes(["predict:a, read:b", "predict:a"])
    assert scopes == (Scope("predict", "a"), Scope("read", "b"))
    assert allowed(scopes, "predict", "a")
    assert allowed(scopes, "read", "b")
    assert not allowed(scopes, "read", "a")
    assert not allowed((), "see", "a")


@pytest.mark.parametrize(
    "text", ["", ":", "predict:", "write:a", "predict:A", "predict:a*b", "predict:**", "*:a", "predict: a"]
)
def test_what_is_no_scope_is_said(text: str) -> None:
    with pytest.raises(InputError, match="scope"):
        parse_scopes([text])
