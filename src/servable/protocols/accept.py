"""Which of several forms of an answer a caller prefers, by the rules of HTTP for the header Accept. Pure."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"""[ \t]*;[ \t]*(?:({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)"))?""")
_RANGE = re.compile(rf"[ \t]*({_WORD})/({_WORD})")
#: A member of a list may hold commas within quotes.
_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_QUALITY = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


class MediaRange(NamedTuple):
    """One member of the header.

    Attributes:
        kind: before the slash, in small letters; ``*`` for any.
        subkind: behind it; ``*`` for any.
        quality: from 0, never, to 1.
    """

    kind: str
    subkind: str
    quality: float

    @property
    def exactness(self) -> int:
        """0 for ``*/*``, 1 for ``text/*``, 2 for ``text/csv``."""
        return (self.kind != "*") + (self.subkind != "*")

    def takes(self, media_type: str) -> bool:
        """Whether a media type, in small letters and without parameters, is in the range."""
        kind, _, subkind = media_type.partition("/")
        return self.kind in ("*", kind) and self.subkind in ("*", subkind)


def media_ranges(header: str) -> list[MediaRange]:
    """What the header says, in its order; members that are none are passed over.

    Parameters other than ``q`` say nothing about any form of an answer that there is here.
    """
    found = []
    for member in _MEMBER.findall(header):
        media = _media_range(member)
        if media is not None:
            found.append(media)
    return found


def _media_range(member: str) -> MediaRange | None:
    begun = _RANGE.match(member)
    if begun is None:
        return None
    kind, subkind = begun[1].lower(), begun[2].lower()
    if kind == "*" and subkind != "*":
        return None
    place, quality = begun.end(), 1.0
    while found := _PARAMETER.match(member, place):
        place = found.end()
        if found[1] is not None and found[1].lower() == "q":
            value = found[2] or ""
            if not _QUALITY.fullmatch(value):
                return None
            quality = float(value)
    return MediaRange(kind, subkind, quality) if not member[place:].strip(" \t") else None


def preferred(header: str, offered: Sequence[str]) -> str | None:
    """The media type that a caller likes best; None when it takes none.

    Each is worth the quality of the range that names it most exactly. Among equals the one that is named
    more exactly wins, then the one that the caller names first, then the one that is offered first.

    Args:
        header: empty, or without any member that can be read, when everything is welcome.
        offered: media types in small letters, the best first; at least one.
    """
    ranges = media_ranges(header)
    if not ranges:
        return offered[0]
    best: tuple[float, int, int, int] | None = None
    chosen = None
    for place, media_type in enumerate(offered):
        taking = [(media.exactness, -index) for index, media in enumerate(ranges) if media.takes(media_type)]
        if not taking:
            continue
        exactness, index = max(taking)
        quality = ranges[-index].quality
        worth = (quality, exactness, index, -place)
        if quality > 0 and (best is None or worth > best):
            best, chosen = worth, media_type
    return chosen
