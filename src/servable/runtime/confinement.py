"""What a model process may do besides computing, and what is said of it. Pure.

A server says with ``Confinement`` what its model processes are to be kept from; a process says with
``Protection`` what of it is in force; ``Statement`` puts that into words.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec


class Mode(IntEnum):
    """How far model processes are confined.

    Attributes:
        OFF: not beyond limits.
        BEST: as far as the machine allows.
        REQUIRE: wholly, or nothing is loaded.
    """

    OFF = 0
    BEST = 1
    REQUIRE = 2


class Confinement(msgspec.Struct, frozen=True, array_like=True):
    """What a model process is to be kept from.

    Attributes:
        mode: how far.
        network: whether it may have connections, because its deployment or its author declares it.
        hidden: absolute folders that it may not read, wherever they lie: the home of the server.
        files: absolute files and folders that it may read besides.
        environment: names of variables that it gets besides.
        programs: whether it may start programs and processes, because its deployment or its author says so.
    """

    mode: Mode = Mode.BEST
    network: bool = False
    hidden: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    programs: bool = False


#: As a process is confined where nobody said anything.
USUAL = Confinement()


class Hold(IntEnum):
    """How a protection holds.

    Attributes:
        MISSING: this machine does not have it.
        LIFTED: somebody declared that the model needs what it keeps away.
        IN_FORCE: the kernel keeps it.
    """

    MISSING = 0
    LIFTED = 1
    IN_FORCE = 2


class Protection(msgspec.Struct, frozen=True, array_like=True):
    """One thing that a model process is kept from.

    Attributes:
        name: of what: ``network``, ``files`` ...
        hold: whether it is in force.
        note: why not, a part of a sentence; else empty.
    """

    name: str
    hold: Hold = Hold.IN_FORCE
    note: str = ""


class Statement(NamedTuple):
    """What is said of the confinement of a model.

    Attributes:
        summary: one line.
        protections: each of them; empty where there are none.
    """

    summary: str
    protections: tuple[Protection, ...] = ()

    @property
    def lacking(self) -> str:
        """What should be in force and is not, and why; empty when nothing lacks."""
        return lacking(self.protections)

    def told(self) -> dict[str, str]:
        """The protections by name, in words."""
        return {each.name: _said(each) for each in self.protections}


#: Of a model of which nothing is known.
UNKNOWN = Statement("nothing is known of its confinement")
#: How the most important protections are called when they are in force, in the order in which they are said.
_WORDS = {
    "network": "no network",
    "files": "files read-only",
    "programs": "no programs",
    "calls": "seccomp",
}


def lacking(protections: Sequence[Protection]) -> str:
    """What should be in force and is not, and why; empty when nothing lacks."""
    return "; ".join(f"{each.name}: {each.note}" for each in protections if each.hold is Hold.MISSING)


def stated(protections: Sequence[Protection]) -> Statement:
    """What is said of a model in processes that told these protections; none: the confinement is off."""
    if not protections:
        return Statement("not confined: the setting confinement is off")
    kept = tuple(protections)
    force = {each.name for each in kept if each.hold is Hold.IN_FORCE}
    count = f"{len(force)} of {len(kept)}"
    lifted = [f"{each.name} allowed, as {each.note}" for each in kept if each.hold is Hold.LIFTED]
    said = [words for name, words in _WORDS.items() if name in force]
    lacks = lacking(kept)
    if not lacks:
        return Statement(f"confined: {', '.join([*lifted, *said, count])}", kept)
    return Statement(f"confined in part: {', '.join([*lifted, *said, count])}; not {lacks}", kept)


def stated_here(placement: str, *, executes: bool) -> Statement:
    """What is said of a model that runs in the server itself.

    Args:
        placement: ``inline`` or ``thread``.
        executes: whether its format holds code.
    """
    where = "in the event loop of the server" if placement == "inline" else "in threads of the server"
    what = "with the code of whoever made it" if executes else "and its format holds no code"
    return Statement(f"not confined: it runs {where}, {what}")


def _said(protection: Protection) -> str:
    if protection.hold is Hold.IN_FORCE:
        return "in force"
    if protection.hold is Hold.LIFTED:
        return f"allowed, as {protection.note}"
    return f"not available: {protection.note}"
