"""Tokens of OpenID Connect: what is valid, what it allows, and every forgery."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.issuing import AUDIENCE, ISSUER, Issuer
from servable.errors import SettingInvalid, Unauthenticated
from servable.security.grants import parse_grants
from servable.security.limits import Limits, Rate
from servable.security.tokens import LEEWAY_S, KeySet, Rules, Verified, head_of, parse_keys, verify

MINE, OTHER = Issuer(), Issuer()
KEYS = parse_keys(MINE.jwks)
RULES = Rules(ISSUER, AUDIENCE)
VALID = MINE.token()
FORGED = MINE.forged(OTHER, "http://127.0.0.1:1")
MEMBERS = ("kid", "kty", "crv", "n", "e", "x", "y", "alg", "use", "key_ops")
CLAIMS = ("scope", "exp", "nbf", "iat", "aud", "iss", "sub", "jti")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def checked(token: str, rules: Rules = RULES, keys: KeySet = KEYS) -> Verified | None:
    """What a server does."""
    head = head_of(token)
    if head is None:
        return None
    try:
        return verify(token, head, keys, rules)
    except Unauthenticated:
        return None


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_tokens_that_the_issuer_signed_are_valid(algorithm: str) -> None:
    found = checked(MINE.token(algorithm))
    assert found is not None
    assert found.name == "oidc:alice"
    assert list(map(str, found.scopes)) == ["predict:iris"]
    assert found.until == pytest.approx(time.time() + 600 + LEEWAY_S, abs=5)


@pytest.mark.parametrize(
    ("claims", "times"),
    [
        ({"aud": ["billing", AUDIENCE]}, {}),
        ({}, {"exp": -30}),
        ({}, {"nbf": 30}),
        ({}, {"exp": 0.5}),
        ({"sub": None, "client_id": "job"}, {}),
    ],
)
def test_what_may_vary_in_a_valid_token(claims: dict[str, Any], times: dict[str, float]) -> None:
    # From the moment of the test, which may come minutes after it was collected.
    now = int(time.time())
    assert (
        checked(MINE.token(**claims, **{name: now + seconds for name, seconds in times.items()})) is not None
    )


@pytest.mark.parametrize(
    "head", [{"typ": None}, {"typ": "at+JWT"}, {"x5t": "abc"}, {"jku": "https://x.example"}]
)
def test_headers_that_change_nothing(head: dict[str, Any]) -> None:
    assert checked(MINE.token(head=head)) is not None


@pytest.mark.parametrize("kind", FORGED)
def test_forged_tokens_are_refused(kind: str) -> None:
    assert checked(FORGED[kind]) is None
    assert checked(VALID) is not None


@given(st.data())
def test_no_changed_letter_goes_unseen(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, VALID.rindex(".") - 1))
    letter = data.draw(st.sampled_from("ABCxyz019_-.=+/ \n\0ä"))
    if VALID[at] != letter:
        assert checked(VALID[:at] + letter + VALID[at + 1 :]) is None


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_refused_and_nothing_is_raised(text: str) -> None:
    assert checked(text) is None


@given(st.sampled_from(CLAIMS), ANYTHING)
def test_any_claim_of_a_signed_token_is_taken_calmly(claim: str, value: Any) -> None:
    found = checked(MINE.token(**{claim: value}))
    assert found is None or found.name.startswith("oidc:")


@pytest.mark.parametrize(
    ("claim", "value", "scopes"),
    [
        ("scope", "predict:iris read:team-*  openid", ["predict:iris", "read:team-*"]),
        ("scope", "admin:*", ["admin:*"]),
        # Other services have these words as well.
        ("scope", "admin read predict", []),
        ("scope", "predict: delete:iris predict:../x", []),
        ("scope", ["predict:iris", 7, None, "read:iris"], ["predict:iris", "read:iris"]),
        ("scope", {"predict:iris": True}, []),
        ("scope", None, []),
        ("roles", ["deploy:iris"], ["deploy:iris"]),
    ],
)
def test_scopes_are_words_of_the_claim(claim: str, value: Any, scopes: list[str]) -> None:
    found = checked(MINE.token(**{"scope": None, claim: value}), RULES._replace(claim=claim))
    assert found is not None
    assert list(map(str, found.scopes)) == scopes


def test_a_file_says_what_groups_may_do() -> None:
    grants = parse_grants(b'{"ml admins": ["admin"], "team-*": "predict:iris"}', "map.json")
    rules = RULES._replace(claim="realm_access.roles", grants=grants)

    def scopes(*roles: str) -> list[str]:
        found = checked(MINE.token(realm_access={"roles": list(roles)}), rules)
        assert found is not None
        return list(map(str, found.scopes))

    assert scopes("ml admins") == ["admin:*"]
    assert scopes("team-a", "team-b") == ["predict:iris"]
    # With a file a value is no scope of its own, and only whole names count.
    assert scopes("admin:*", "ml", "admins", "ateam-x") == []
    # A name with dots goes before the way into an object.
    found = checked(
        MINE.token(**{"realm_access.roles": ["team-a"], "realm_access": {"roles": ["ml admins"]}}), rules
    )
    assert found is not None
    assert list(map(str, found.scopes)) == ["predict:iris"]


DEFAULT = Limits(Rate(9, 1), 900, 0)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (None, Limits(Rate(5, 1), 900, 3)),
        ({"rate": "1/min"}, Limits(Rate(1, 60), 900, 3)),
        ({"rate": "100/s", "quota": "1k/day", "concurrency": 7}, Limits(Rate(100, 1), 1000, 7)),
        # What cannot be read sets nothing, and others in it neither.
        ({"rate": "often", "concurrency": 7}, Limits(Rate(5, 1), 900, 3)),
        ({"concurrency": "7"}, Limits(Rate(5, 1), 900, 3)),
        ("100/s", Limits(Rate(5, 1), 900, 3)),
    ],
)
def test_a_claim_with_limits_goes_before_the_file_and_that_before_what_holds_for_all(
    limits: Any, found: Limits
) -> None:
    text = b'{"team-a": {"scopes": "predict:iris", "rate": "5/s", "concurrency": 3}}'
    rules = RULES._replace(claim="roles", grants=parse_grants(text, "map.json"), limits=DEFAULT)
    told = checked(MINE.token(roles=["team-a"], limits=limits), rules._replace(limits_claim="limits"))
    assert told is not None
    assert told.limits == found
    # A claim that nobody asked for sets nothing.
    plain = checked(MINE.token(roles=["team-a"], limits=limits), rules)
    assert plain is not None
    assert plain.limits == Limits(Rate(5, 1), 900, 3)


def test_names_are_fit_for_a_log() -> None:
    found = checked(MINE.token(sub="a\nb\x1b[31m" + "x" * 500))
    assert found is not None
    assert found.name.startswith("oidc:a?b?[31mx")
    assert len(found.name) < 140


def test_keys_that_are_not_for_tokens_are_passed_over() -> None:
    assert set(KEYS.keys) == {
        ("rsa", "RS256"),
        ("rsa", "PS256"),
        ("only-256", "RS256"),
        ("ec", "ES256"),
        ("ed", "EdDSA"),
    }
    assert KEYS.public == parse_keys(MINE.jwks).public != parse_keys(OTHER.jwks).public


@given(st.sampled_from([0, 4, 7]), st.sampled_from(MEMBERS), ANYTHING)
def test_any_member_of_a_key_is_taken_calmly(at: int, member: str, value: Any) -> None:
    found = parse_keys(json.dumps({"keys": [{**MINE.keys[at], member: value}, MINE.keys[2]]}).encode())
    assert ("only-256", "RS256") in found.keys


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1, null, {}]}',
        b'{"keys": [' + b"{}," * 200 + b"{}]}",
        b"[" * 100_000,
        json.dumps({"keys": [key for key in MINE.keys if key.get("kty") == "oct"]}).encode(),
        json.dumps({"keys": [{**MINE.keys[0], "n": 7}, {**MINE.keys[4], "x": ["a"]}]}).encode(),
        json.dumps({"keys": [{**MINE.keys[0], "n": "AQAB"}]}).encode(),
    ],
)
def test_sets_without_usable_keys_say_so(content: bytes) -> None:
    with pytest.raises(SettingInvalid, match="set of keys"):
        parse_keys(content)
