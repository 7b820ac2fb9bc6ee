"""Files that say what callers may do who are known elsewhere: names of certificates, roles or groups. Pure.

A file is TOML, or JSON when its name ends so; each key is a name, and its value a scope or a list of them,
or a table of these and of limits::

    "uri:spiffe://prod/mobile" = ["predict:income", "feedback:income"]
    "dns:*" = "read"
    "cn:batch" = {scopes = ["predict"], rate = "10/s", quota = "1M/day", concurrency = 4}

A name that ends with a star means all that begin like it. Who has several names may do what any of them may,
and as much as the one that allows most.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, NamedTuple

from servable.errors import InputError, SettingInvalid
from servable.security.limits import NO_LIMITS, Limits, limits_of, most
from servable.security.scopes import Scope, parse_scopes


class Grant(NamedTuple):
    """What somebody may do, and how much.

    Attributes:
        scopes: none for nothing.
        limits: of each of those whom it is granted; what they do not set is not said here.
    """

    scopes: tuple[Scope, ...] = ()
    limits: Limits = NO_LIMITS


#: What names allow.
Grants = Mapping[str, Grant]
_LIMITS = ("rate", "quota", "concurrency")
#: Most bytes of a file of grants.
MOST_BYTES = 1 << 20


def parse_grants(content: bytes, name: str) -> Grants:
    """Read a file of grants.

    Args:
        content: of the file.
        name: of the file; its ending says the form.

    Raises:
        SettingInvalid: it is no such file, and why.
    """
    if len(content) > MOST_BYTES:
        raise SettingInvalid(f"{name} is larger than {MOST_BYTES} bytes; a file of scopes is a small one.")
    try:
        text = content.decode("utf-8")
        read: Any = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        form = "JSON" if name.endswith(".json") else "TOML"
        raise SettingInvalid(f"{name} is not valid {form} ({str(error)[:120]}).") from error
    if not isinstance(read, dict):
        raise SettingInvalid(f"{name} holds no names with scopes.")
    return {key: _grant(key, value, name) for key, value in read.items()}


def parse_limits_table(table: Mapping[str, Any]) -> Limits:
    """Read limits by their names, as a file of grants and a claim hold them; others are passed over.

    Raises:
        InputError: one of them is none.
    """
    for each in ("rate", "quota"):
        if not isinstance(table.get(each, ""), str):
            raise InputError(f"{each} must be a text, such as {'100/s' if each == 'rate' else '1M/day'}.")
    at_once = table.get("concurrency", 1)
    if isinstance(at_once, bool) or not isinstance(at_once, int):
        raise InputError("concurrency must be a whole number.")
    return limits_of({each: table[each] for each in _LIMITS if each in table})


def _grant(key: str, value: Any, name: str) -> Grant:
    if not isinstance(value, dict) or "scopes" not in value:
        return Grant(_scopes(key, value, name))
    unknown = next((each for each in value if each not in ("scopes", *_LIMITS)), None)
    if unknown is not None:
        raise SettingInvalid(
            f"{key[:60]!r} in {name} has {unknown[:60]!r}; it may have scopes, rate, quota and concurrency."
        )
    try:
        limits = parse_limits_table(value)
    except InputError as error:
        raise SettingInvalid(f"{key[:60]!r} in {name}: {error.message}") from error
    return Grant(_scopes(key, value["scopes"], name), limits)


def _scopes(key: str, value: Any, name: str) -> tuple[Scope, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise SettingInvalid(
            f'{key[:60]!r} in {name} must have a scope or a list of scopes, such as ["predict:income"].'
        )
    try:
        return parse_scopes(texts)
    except InputError as error:
        raise SettingInvalid(f"{key[:60]!r} in {name}: {error.message}") from error


def granted(grants: Grants, names: Iterable[str]) -> Grant:
    """What somebody with these names may do; nothing when none of them is known."""
    wanted = tuple(names)
    found = [grant for pattern, grant in grants.items() if any(_means(pattern, name) for name in wanted)]
    scopes = tuple(dict.fromkeys(scope for grant in found for scope in grant.scopes))
    return Grant(scopes, reduce(most, (grant.limits for grant in found), NO_LIMITS))


def _means(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
