"""Files that say what callers may do who are known elsewhere: names of certificates, roles or groups. Pure.

A file is TOML, or JSON when its name ends so; each key is a name, and its value a scope or a list of them::

    "uri:spiffe://prod/mobile" = ["predict:income", "feedback:income"]
    "dns:*" = "read"

A name that ends with a star means all that begin like it. Who has several names may do what any of them may.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from servable.errors import InputError, SettingInvalid
from servable.security.scopes import Scope, parse_scopes

#: What names allow.
Grants = Mapping[str, tuple[Scope, ...]]
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
    return {key: _scopes(key, value, name) for key, value in read.items()}


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


def granted(grants: Grants, names: Iterable[str]) -> tuple[Scope, ...]:
    """What somebody with these names may do; nothing when none of them is known."""
    wanted = tuple(names)
    found = (scopes for pattern, scopes in grants.items() if any(_means(pattern, name) for name in wanted))
    return tuple(dict.fromkeys(scope for scopes in found for scope in scopes))


def _means(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
