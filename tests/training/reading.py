"""Reads a page as a browser does, far enough to see that it is whole and needs nothing else."""

import re
from html.parser import HTMLParser


class Tags(HTMLParser):
    """Sees that every element is closed in turn, and which there were."""

    VOID = frozenset({"meta", "br", "path", "use", "image"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def read(page: str) -> Tags:
    """The elements of a page that is whole, loads nothing from elsewhere and runs nothing."""
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', page) == []
    assert "url(http" not in page
    assert "<script" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    return tags


def words(page: str) -> str:
    """What a person reads of it, with single blanks."""
    text = re.sub(r"<(style|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())
