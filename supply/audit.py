"""What pip-audit knows against the locked packages, less what was looked at and does not matter here."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from supply.locks import LOCK, ROOT, TORCH

IGNORED = ROOT / "requirements" / "ignored.toml"


class Finding(NamedTuple):
    """Something that is known against a package.

    Attributes:
        package: with its version.
        names: under which it is known: PYSEC, CVE, GHSA.
        mended: versions without it.
    """

    package: str
    names: tuple[str, ...]
    mended: tuple[str, ...]


class Ignored(NamedTuple):
    """A finding that does not matter here.

    Attributes:
        name: one under which it is known.
        reason: why.
        until: the last day on which that holds; then somebody looks again.
    """

    name: str
    reason: str
    until: date


class Unreachable(Exception):
    """Nobody could be asked; the message is what pip-audit said last."""


def ignored(table: Mapping[str, Any]) -> list[Ignored]:
    """The entries of ``ignored.toml``.

    Raises:
        ValueError: an entry without a name, a reason or a day.
    """
    found = []
    for entry in table.get("finding", []):
        name, reason, until = (entry.get(key) for key in ("id", "reason", "until"))
        if not (isinstance(name, str) and name and isinstance(reason, str) and reason.strip()):
            raise ValueError(f"{IGNORED.name}: every finding has an id and a reason, unlike {entry}.")
        if type(until) is not date:
            raise ValueError(
                f"{IGNORED.name}: {name} has a day until which it is ignored, such as 2027-06-30."
            )
        found.append(Ignored(name, reason, until))
    return found


def open_findings(findings: Iterable[Finding], known: Iterable[Ignored], today: date) -> list[Finding]:
    """The findings that are not ignored today."""
    quiet = {entry.name for entry in known if today <= entry.until}
    return [finding for finding in findings if quiet.isdisjoint(finding.names)]


def sentence(finding: Finding) -> str:
    """What is said of a finding: which package, under which names, and what to do."""
    if finding.mended:
        what = f"take {' or '.join(finding.mended)}, where it is mended, by make lock"
    else:
        what = "no version is mended yet"
    return f"{finding.package} is vulnerable, known as {', '.join(finding.names)}: {what}."


def findings_of(told: Mapping[str, Any]) -> list[Finding]:
    """What pip-audit told as JSON."""
    return [
        Finding(
            f"{package['name']} {package['version']}",
            (found["id"], *found.get("aliases", ())),
            tuple(found.get("fix_versions", ())),
        )
        for package in told["dependencies"]
        for found in package.get("vulns", ())
    ]


def checked_of(told: Mapping[str, Any]) -> int:
    """How many packages pip-audit learned something about."""
    return sum("vulns" in package for package in told["dependencies"])


def skipped_of(told: Mapping[str, Any]) -> list[str]:
    """The packages about which pip-audit learned nothing; a mirror may know no vulnerabilities at all."""
    return [str(package["name"]) for package in told["dependencies"] if "skip_reason" in package]


def asked(requirements: Path) -> dict[str, Any]:
    """What pip-audit tells of a file of requirements, from the vulnerability service of PyPI.

    Raises:
        Unreachable: it did not answer, so nothing was checked.
    """
    words = ["--format", "json", "--progress-spinner", "off", "--disable-pip", "--no-deps"]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *words, "--requirement", str(requirements)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines()
        raise Unreachable(lines[-1] if lines else f"pip-audit ended with {done.returncode}") from None
    return told


def audit(today: date) -> int:
    """Ask about every lock and tell what there is.

    Returns:
        0 for nothing, 1 for findings that are not ignored, 2 where not everything could be checked.
    """
    with IGNORED.open("rb") as file:
        known = ignored(tomllib.load(file))
    try:
        answers = [asked(file) for file in (LOCK, TORCH)]
    except Unreachable as error:
        print(f"Nothing was checked, because the vulnerability service of PyPI did not answer: {error}")
        return 2
    found = [finding for told in answers for finding in findings_of(told)]
    unknown = [name for told in answers for name in skipped_of(told)]
    if not sum(map(checked_of, answers)):
        print("Nothing was checked, because the vulnerability service knows none of the locked packages.")
        return 2
    left = open_findings(found, known, today)
    for finding in left:
        print(sentence(finding))
    for entry in known:
        if today > entry.until:
            print(f"{entry.name} was ignored until {entry.until}: look again whether {entry.reason}")
    print(f"{len(left)} findings, {len(found) - len(left)} ignored, see requirements/{IGNORED.name}.")
    if unknown:
        print(
            f"{len(unknown)} packages were not checked, because the service does not know them: "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}"
        )
    return 1 if left else 2 if unknown else 0
