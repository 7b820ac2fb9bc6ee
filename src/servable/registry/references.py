"""How a person names a version: ``churn``, ``churn:3``, ``churn@champion``. Pure."""

import re

import msgspec

from servable.errors import InputError

#: A model's name. It appears in addresses and file names, so it holds nothing that could leave its place.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
#: An alias begins with a letter, so that it is never taken for a number.
ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,127}")
#: The alias that always means the newest version; it cannot be set.
LATEST = "latest"
#: Versions beyond this do not fit the database.
LARGEST_VERSION = 2**31 - 1


class Reference(msgspec.Struct, frozen=True):
    """A parsed reference; with neither version nor alias it means the newest version."""

    model: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.model}:{self.version}"
        return self.model if self.alias is None else f"{self.model}@{self.alias}"


def checked_name(name: str) -> str:
    """The name, if it is one.

    Raises:
        InputError: it is no model name; the message says what one looks like.
    """
    if NAME.fullmatch(name) is None:
        raise InputError(
            f"{_shown(name)} is no model name: use up to 128 of a-z, 0-9, dot, underscore and hyphen, "
            "beginning with a letter or a digit."
        )
    return name


def checked_alias(alias: str) -> str:
    """The alias, if it is one that can be set.

    Raises:
        InputError: it is none, or it is ``latest``, which always means the newest version.
    """
    if alias == LATEST:
        raise InputError(
            "The alias latest always means the newest version and cannot be set; choose another."
        )
    if ALIAS.fullmatch(alias) is None:
        raise InputError(
            f"{_shown(alias)} is no alias: use up to 128 of a-z, 0-9, dot, underscore and hyphen, "
            "beginning with a letter."
        )
    return alias


def parse_reference(text: str) -> Reference:
    """Read ``name``, ``name:3`` or ``name@alias``.

    Raises:
        InputError: the text is none of these.
    """
    if "@" in text:
        name, _, alias = text.partition("@")
        checked_name(name)
        return Reference(name) if alias == LATEST else Reference(name, alias=checked_alias(alias))
    name, colon, number = text.partition(":")
    checked_name(name)
    if not colon:
        return Reference(name)
    if re.fullmatch(r"[1-9][0-9]{0,9}", number) is None or int(number) > LARGEST_VERSION:
        raise InputError(f"{_shown(number)} in {_shown(text)} is no version: use a whole number from 1.")
    return Reference(name, version=int(number))


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")
