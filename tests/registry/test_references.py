import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import InputError
from servable.registry.references import (
    ALIAS,
    NAME,
    Reference,
    checked_alias,
    checked_name,
    parse_reference,
)

NAMES = st.from_regex(NAME, fullmatch=True)
ALIASES = st.from_regex(ALIAS, fullmatch=True).filter(lambda alias: alias != "latest")


@given(model=NAMES, version=st.none() | st.integers(1, 2**31 - 1), alias=st.none() | ALIASES)
def test_what_is_written_is_read(model: str, version: int | None, alias: str | None) -> None:
    reference = Reference(model, version, alias if version is None else None)
    assert parse_reference(str(reference)) == reference


@given(text=st.text(max_size=40))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InputError:
        return
    assert NAME.fullmatch(reference.model)
    assert reference.version is None or reference.version >= 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../x",
        "A",
        "a/b",
        "a\\b",
        "%2e%2e",
        "a\0",
        "a b",
        "-a",
        ".a",
        "a" * 129,
        "a․b",
        "a\n",
        " a",
        "a ",
    ],
)
def test_names_that_could_leave_their_place(name: str) -> None:
    with pytest.raises(InputError, match="model name"):
        checked_name(name)


@pytest.mark.parametrize(
    "text", ["a:", "a:0", "a:-1", "a:01", "a:1.0", "a:x", "a:99999999999", "a:²", "a: 1", "a:4294967296"]
)
def test_versions_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="whole number"):
        parse_reference(text)


def test_latest_is_the_newest_and_cannot_be_set() -> None:
    assert parse_reference("a@latest") == Reference("a")
    with pytest.raises(InputError, match="latest"):
        checked_alias("latest")
    with pytest.raises(InputError, match=re.escape("'3' is no alias")):
        parse_reference("a@3")
