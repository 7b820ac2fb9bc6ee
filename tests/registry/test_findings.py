"""Findings: replaced whole, seen by servers, of a home that need not exist."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from servable.errors import StorageFailed
from servable.registry.findings_reader import FindingsReader
from servable.registry.home import Home
from servable.registry.records import Finding
from servable.testing import FakeClock


def test_findings_of_a_kind_are_replaced_together(opened: Home, clock: FakeClock) -> None:
    before = opened.change_token()
    opened.findings.put("churn", "quality", {1: {"labels": 3}, 2: {"labels": 0}})
    opened.findings.put("churn", "drift", {1: {"columns": []}})
    opened.findings.put("fraud", "quality", {1: {"labels": 7}})
    clock.advance(60)
    opened.findings.put("churn", "quality", {2: {"labels": 5}})
    assert opened.findings.of("quality", "churn") == (
        Finding("churn", 2, "quality", "2026-01-31T12:01:00Z", {"labels": 5}),
    )
    assert [(each.model, each.version) for each in opened.findings.of("quality")] == [
        ("churn", 2),
        ("fraud", 1),
    ]
    assert opened.findings.of("drift")[0].value == {"columns": []}
    opened.findings.put("churn", "quality", {})
    assert opened.findings.of("quality", "churn") == ()
    assert opened.change_token() > before


def test_a_server_reads_what_was_found(opened: Home, home: Path) -> None:
    reader = FindingsReader(home)
    assert reader.of("quality") == ()
    opened.findings.put("churn", "quality", {1: {"labels": 3}})
    assert reader.of("quality") == opened.findings.of("quality")
    other = FindingsReader(home, f"sqlite:///{home / 'registry.db'}")
    assert other.of("quality") == opened.findings.of("quality")
    other.close()
    reader.close()


def test_a_home_that_does_not_exist_has_none(tmp_path: Path) -> None:
    assert FindingsReader(tmp_path / "nowhere").of("quality") == ()


def test_a_damaged_registry_is_said(opened: Home, home: Path) -> None:
    opened.findings.put("churn", "quality", {1: {}})
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        connection.execute("UPDATE findings SET value = '{'")
        connection.commit()
    with pytest.raises(StorageFailed, match="damaged finding about quality"):
        FindingsReader(home).of("quality")
