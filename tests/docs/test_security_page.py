"""The page about security names tests that exist, and a risk of each kind in every row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_is_named_exists(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert {name for named, name in NAMED if named == file} <= there


def test_nothing_that_looks_like_a_test_escapes() -> None:
    assert len(NAMED) > 50
    assert PAGE.count("tests/") == PAGE.count("`tests/")
    assert len(re.findall(r"`tests/[^`]*::[^`]*`", PAGE)) == len(re.findall(r"`tests/[\w/]+\.py::\w+`", PAGE))


@pytest.mark.parametrize(("list_", "first"), [("API Security", "API"), ("Machine Learning Security", "ML")])
def test_every_row_of_both_lists_is_there(list_: str, first: str) -> None:
    section = PAGE.partition(f"## OWASP {list_} Top 10 (2023)\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith(f"| {first}")]
    numbers = [int(re.findall(r"\d+", row[0])[0]) for row in rows]
    assert numbers == list(range(1, 11))
    assert {len(row) for row in rows} == {3}
