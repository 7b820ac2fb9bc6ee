"""Bearer tokens of OpenID Connect: JSON Web Tokens that are signed by a key of a known set. Pure.

PyJWT checks signatures and claims. What is decided here is what it is given: which keys count for which
algorithm, that nothing in a token says how it is checked, and that a token can be read in one way only.
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from servable.errors import InputError, SettingInvalid, Unauthenticated
from servable.security.grants import Grant, Grants, granted, parse_limits_table
from servable.security.limits import NO_LIMITS, Limits, completed
from servable.security.scopes import Scope, parse_scope

if TYPE_CHECKING:
    from jwt import PyJWK

#: Seconds by which the clocks of an issuer and a server may differ.
LEEWAY_S = 60.0
#: Most letters of a token and of a key's id, most keys of a set, most values of a claim.
MOST_TOKEN, MOST_KID, MOST_KEYS, MOST_VALUES = 8192, 256, 100, 1000
#: Fewest and most bits of an RSA key: fewer can be broken, more are slow to check.
_RSA_BITS = range(2048, 8193)
_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
#: Headers that change how a token is read; none of them is needed.
_STRANGE = frozenset({"crit", "b64", "zip", "enc", "cty"})
#: Kinds of tokens: others, such as those that end a session, are signed by the same keys.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_TIMES = ("exp", "nbf", "iat")
#: Algorithms by the kind of a key and its curve, and the members of such a key that are public.
_ALGORITHMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_MEMBERS = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}
_LATEST = 2.0**53


class KeySet(NamedTuple):
    """Keys that are trusted.

    Attributes:
        keys: by their id and an algorithm.
        public: what they are, for comparing two sets.
    """

    keys: "Mapping[tuple[str, str], PyJWK]"
    public: frozenset[tuple[str, ...]]


NO_KEYS = KeySet({}, frozenset())


class Rules(NamedTuple):
    """What a token must say, and where it says what its caller may do.

    Attributes:
        issuer: exactly as in ``iss``.
        audience: one of those in ``aud``.
        claim: the name of a claim with scopes, roles or groups; dots lead into objects.
        grants: what its values allow; None where they are scopes themselves.
        limits: of each subject of which nothing else is said.
        limits_claim: the name of a claim with limits, which goes before the grants; empty for none.
    """

    issuer: str
    audience: str
    claim: str = "scope"
    grants: Grants | None = None
    limits: Limits = NO_LIMITS
    limits_claim: str = ""


class TokenHead(NamedTuple):
    """Which key a token says to be signed with."""

    kid: str
    algorithm: str


class Verified(NamedTuple):
    """What a valid token says.

    Attributes:
        name: of the caller.
        scopes: what it may do; may be none.
        limits: how much.
        until: from when the token is not valid any more, in seconds since 1970.
    """

    name: str
    scopes: tuple[Scope, ...]
    limits: Limits
    until: float


def parse_keys(content: bytes) -> KeySet:
    """Read a set of keys (JWKS). Keys that are not for checking signatures are passed over.

    Raises:
        SettingInvalid: there is no key in it that can be used.
    """
    try:
        read = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SettingInvalid("The set of keys is not valid JSON.") from error
    listed = read.get("keys") if isinstance(read, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise SettingInvalid(f"The set of keys has no list of at most {MOST_KEYS} keys, named keys.")
    found: dict[tuple[str, str], PyJWK] = {}
    public = set()
    for each in listed:
        for head, key in _usable(each):
            found.setdefault(head, key)
            public.add((*head, *(str(each.get(name)) for name in _MEMBERS[each["kty"]])))
    if not found:
        raise SettingInvalid(
            "The set of keys has no key that can be used; one needs a kid, and must be RSA of 2048 to 8192 "
            "bits, EC on P-256, or Ed25519."
        )
    return KeySet(found, frozenset(public))


def _usable(given: Any) -> Iterable[tuple[tuple[str, str], "PyJWK"]]:
    """A key of a set, for each algorithm that it is for."""
    if not isinstance(given, dict):
        return
    kid, kind, curve = given.get("kid"), given.get("kty"), given.get("crv", "")
    operations = given.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 0 < len(kid) <= MOST_KID or given.get("use", "sig") != "sig":
        return
    if not isinstance(kind, str) or not isinstance(curve, str) or not isinstance(operations, list):
        return
    # Lazily: nobody pays for it who has no such tokens.
    from jwt import PyJWK, PyJWTError

    for algorithm in _ALGORITHMS.get((kind, curve), ()):
        if given.get("alg", algorithm) != algorithm or "verify" not in operations:
            continue
        public = {name: given.get(name) for name in _MEMBERS[kind]}
        try:
            key = PyJWK(public, algorithm)
        except (PyJWTError, ValueError, TypeError, AttributeError):
            # Such as a point that is not on its curve, or a number that is none.
            return
        if kind != "RSA" or key.key.key_size in _RSA_BITS:
            yield (kid, algorithm), key


def head_of(token: str) -> TokenHead | None:
    """Which key must have signed a text; None when it is no token that can be accepted, whoever signed it."""
    if len(token) > MOST_TOKEN or (parts := _FORM.fullmatch(token)) is None:
        return None
    head = _object(parts[1])
    if head is None or not _STRANGE.isdisjoint(head):
        return None
    kid, algorithm, kind = head.get("kid"), head.get("alg"), head.get("typ", "JWT")
    if not isinstance(kid, str) or not 0 < len(kid) <= MOST_KID or not isinstance(algorithm, str):
        return None
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None
    return TokenHead(kid, algorithm)


def verify(token: str, head: TokenHead, keys: KeySet, rules: Rules) -> Verified:
    """Check a token.

    Args:
        token: the text.
        head: of the token, by ``head_of``.
        keys: those that are trusted.
        rules: what it must say.

    Raises:
        Unauthenticated: it is not valid.
    """
    from jwt import PyJWTError, decode

    key = keys.keys.get(head)
    claims = _object(token.split(".")[1])
    if key is None or claims is None or not all(map(_is_time, (claims.get(name, 0) for name in _TIMES))):
        raise Unauthenticated(shown=True)
    try:
        decode(
            token,
            key,
            algorithms=[head.algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud"]},
        )
    except (PyJWTError, ValueError, TypeError) as error:
        raise Unauthenticated(shown=True) from error
    grant = _allowed(claims, rules)
    limits = completed(_claimed(claims, rules), completed(grant.limits, rules.limits))
    return Verified(_name(claims), grant.scopes, limits, float(claims["exp"]) + LEEWAY_S)


def _object(part: str) -> dict[str, Any] | None:
    """A part of a token as the object that it is; None when it is none, or can be read in two ways."""
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8")
        read = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is there twice")
    return made


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _is_time(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value < _LATEST


def _name(claims: Mapping[str, Any]) -> str:
    """Who it is, fit for a log."""
    for claim in ("sub", "client_id", "azp"):
        value = claims.get(claim)
        if isinstance(value, str) and value:
            return "oidc:" + "".join(letter if letter.isprintable() else "?" for letter in value[:128])
    return "oidc:"


def _claimed(claims: Mapping[str, Any], rules: Rules) -> Limits:
    """The limits that the issuer sets; none where they cannot be read, so that the others count."""
    found = _at(claims, rules.limits_claim) if rules.limits_claim else None
    if not isinstance(found, dict):
        return NO_LIMITS
    try:
        return parse_limits_table(found)
    except InputError:
        return NO_LIMITS


def _allowed(claims: Mapping[str, Any], rules: Rules) -> Grant:
    values = _values(claims, rules.claim)
    if rules.grants is not None:
        return granted(rules.grants, values)
    found = []
    for value in values:
        # Other services have scopes such as "read" as well, which must not mean every model here.
        if ":" in value:
            try:
                found.append(parse_scope(value))
            except InputError:
                continue
    return Grant(tuple(dict.fromkeys(found)))


def _at(claims: Mapping[str, Any], claim: str) -> Any:
    """What a claim holds; dots lead into objects. None where there is none."""
    found: Any = claims.get(claim)
    if found is None:
        found = claims
        for step in claim.split("."):
            found = found.get(step) if isinstance(found, dict) else None
    return found


def _values(claims: Mapping[str, Any], claim: str) -> list[str]:
    """The values of a claim: words of a text, or texts of a list."""
    found = _at(claims, claim)
    if isinstance(found, str):
        return found.split()[:MOST_VALUES]
    if isinstance(found, list):
        return [value for value in found[:MOST_VALUES] if isinstance(value, str)]
    return []
