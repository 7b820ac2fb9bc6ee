"""What is asked of every version of Landlock: as much as its kernel knows, and never more."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.runtime.landlock import Access, gap, keeps_signals, ruleset

#: By version, from the kernel's documentation: accesses to files, bytes of the set of rules, TCP, scopes.
EVERY = {
    1: (13, 8, 0, 0),
    2: (14, 8, 0, 0),
    3: (15, 8, 0, 0),
    4: (15, 16, 3, 0),
    5: (16, 16, 3, 0),
    6: (16, 24, 3, 3),
    7: (16, 24, 3, 3),
    99: (16, 24, 3, 3),
}


@pytest.mark.parametrize(("known", "expected"), EVERY.items())
def test_every_version_is_asked_for_all_that_it_knows(known: int, expected: tuple[int, ...]) -> None:
    kinds, size, connections, scope = expected
    wanted = ruleset(known, network=False)
    assert (wanted.files, wanted.size) == ((1 << kinds) - 1, size)
    assert (wanted.connections, wanted.scope) == (connections, scope)
    # What a kernel does not know must not be sent, or it refuses the whole.
    assert wanted.packed() == struct.pack("<QQQ", (1 << kinds) - 1, connections, scope)[:size]
    # TCP stays allowed where it is declared, and nothing else does.
    assert ruleset(known, network=True) == wanted._replace(connections=0)


@pytest.mark.parametrize("known", [1, 2, 3])
def test_old_versions_keep_what_they_can_and_say_what_they_cannot(known: int) -> None:
    files = ruleset(known, network=False).files
    for access in (Access.EXECUTE, Access.READ_FILE, Access.WRITE_FILE, Access.REMOVE_FILE, Access.MAKE_REG):
        assert access in files
    # Moving files between folders is refused by the first version whatever its rules say.
    assert (Access.REFER in files) == (known >= 2)
    assert (Access.TRUNCATE in files) == (known >= 3)
    assert gap(known) == (
        "" if known == 3 else "the Landlock of this kernel is too old to keep files from being emptied"
    )
    assert not keeps_signals(known)


def test_without_landlock_it_is_said() -> None:
    assert gap(0) == "Landlock is not in this kernel"


@given(st.integers(1, 50), st.booleans())
def test_a_newer_version_never_keeps_less(known: int, network: bool) -> None:
    older, newer = ruleset(known, network=network), ruleset(known + 1, network=network)
    assert older.files & newer.files == older.files
    assert older.connections <= newer.connections
    assert older.scope <= newer.scope
    assert len(gap(known)) >= len(gap(known + 1))
    assert keeps_signals(known) <= keeps_signals(known + 1)
