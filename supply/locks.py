"""The lock files as records: every package with its digests, and who asked for it."""

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
#: Holds everything that any environment gets, but for what is in ``TORCH``.
LOCK = ROOT / "requirements" / "all.lock"
#: PyTorch comes in several builds of which each machine has its own, so it is named without a digest.
TORCH = ROOT / "requirements" / "torch.txt"
#: Of packages in other builds for the same import: which one is locked, by the one that an extra names.
SAME = {"tensorflow": "tensorflow-cpu", "xgboost": "xgboost-cpu"}

_FIRST = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+))?"
)
_DIGEST = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_ROOT_NAME = "servable"


class Locked(NamedTuple):
    """A package of a lock.

    Attributes:
        name: normalised, such as ``scikit-learn``.
        version: the one that is installed.
        marker: on which machines, as in PEP 508; empty for all.
        digests: SHA-256 of the files of this version, in hex; empty where the lock names none.
        needed_by: names of packages; one that begins with ``servable`` is this project or a group of it.
    """

    name: str
    version: str
    marker: str
    digests: tuple[str, ...]
    needed_by: tuple[str, ...]


def normal(name: str) -> str:
    """A name of a package as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(text: str) -> list[Locked]:
    """The packages of a lock, sorted as they stand there.

    Raises:
        ValueError: a line that is none of a lock.
    """
    found = []
    for block in re.split(r"\n(?=[^\s#])", f"\n{text}")[1:]:
        first = _FIRST.match(block)
        if first is None:
            raise ValueError(f"no pinned package: {block.splitlines()[0]!r}")
        via = block.partition("# via")[2].replace("#", " ")
        needed_by = tuple(line.strip() for line in via.splitlines() if line.strip())
        found.append(Locked(
            normal(first["name"]), first["version"], (first["marker"] or "").strip(),
            tuple(_DIGEST.findall(block)), needed_by,
        ))  # fmt: skip
    return found


def project() -> dict[str, Any]:
    """The table of this project in ``pyproject.toml``."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table


def names(requirements: list[str]) -> set[str]:
    """The names in a list of requirements, as they are locked."""
    found = {normal(re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0]) for each in requirements}
    return {SAME.get(name, name) for name in found} - {_ROOT_NAME}


def needs(packages: list[Locked]) -> dict[str, set[str]]:
    """What each package needs, by its name."""
    table: dict[str, set[str]] = {each.name: set() for each in packages}
    for each in packages:
        for parent in map(normal, each.needed_by):
            if parent in table:
                table[parent].add(each.name)
    return table


def reached(begin: set[str], table: dict[str, set[str]]) -> set[str]:
    """Everything that some packages need, with them."""
    found: set[str] = set()
    waiting = begin & set(table)
    while waiting:
        found |= waiting
        waiting = {need for each in waiting for need in table[each]} - found
    return found
