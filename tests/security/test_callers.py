"""What a caller may do, and what it gets to know of what it may not see."""

import pytest

from servable.errors import Forbidden, ModelNotFound, ModelNotReady, Unauthenticated, VersionNotFound
from servable.security.callers import EVERYBODY, NOBODY, Caller
from servable.security.scopes import parse_scopes

CALLER = Caller("ci", parse_scopes(["predict:income", "read:team-*"]))


def test_what_a_caller_may() -> None:
    CALLER.require("predict", "income")
    CALLER.require("read", "team-a")
    with pytest.raises(Forbidden, match="feedback:income"):
        CALLER.require("feedback", "income")
    with pytest.raises(Forbidden, match="read:\\*"):
        CALLER.require("read")
    with pytest.raises(ModelNotFound, match="'other' that this key may see"):
        CALLER.require("predict", "other")


def test_errors_about_models_that_one_does_not_see_say_nothing() -> None:
    missing = ModelNotFound("No model 'x' is served here; served are: secret.")
    hidden = CALLER.worded(missing, "x").message
    assert "secret" not in hidden
    assert CALLER.worded(ModelNotReady("x:1 is loading."), "x").message == hidden
    # Even a name that a scope covers is not told which others there are.
    assert "secret" not in CALLER.worded(missing, "team-x").message
    version = VersionNotFound("income:9 is not served here.")
    assert CALLER.worded(version, "income") is version
    assert "secret" not in CALLER.worded(missing, "").message
    whole = Caller("all", parse_scopes(["read"]))
    assert whole.worded(missing, "x") is missing


def test_everybody_may_do_everything_and_nobody_nothing() -> None:
    EVERYBODY.require("admin")
    EVERYBODY.require("deploy", "x")
    assert EVERYBODY.may("read")
    assert not NOBODY.may("see", "x")
    for need, model in (("see", "x"), ("read", "*")):
        with pytest.raises(Unauthenticated):
            NOBODY.require(need, model)  # type: ignore[arg-type]
    error = ModelNotFound("secret")
    assert EVERYBODY.worded(error, "x") is error
    assert isinstance(NOBODY.worded(error, "x"), Unauthenticated)
