"""The page on frameworks against the list that the program goes by."""

import re
from pathlib import Path

from servable.frameworks.lookup import KNOWN

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "frameworks.md").read_text()


def test_every_framework_has_a_line_with_all_that_it_reads() -> None:
    table = PAGE.partition("\n## ")[0]
    lines = dict(re.findall(r"^\| `(\w+)` \| (.*)$", table, re.MULTILINE))
    assert set(lines) == set(KNOWN)
    for name, known in KNOWN.items():
        for what in (*known.suffixes, *known.marks):
            assert f"`{what}`" in lines[name], (name, what)


def test_every_extra_is_named() -> None:
    for known in KNOWN.values():
        assert not known.extra or f"servable[{known.extra}]" in PAGE, known.extra
