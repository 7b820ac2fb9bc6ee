"""The outline of a JSON text - how deep, how many commas - found out without parsing it, in linear time.

Whoever parses a text of many tiny values first pays for them: 64 MiB become gigabytes of objects. A look
at the outline costs about a nanosecond for each byte and needs neither memory nor recursion, whatever
the text holds.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

#: Deepest nesting of JSON unless a codec is told otherwise.
MAX_DEPTH = 64
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
#: Bytes looked at together, at first and at most: what is wrong is mostly wrong from the beginning, and
#: the most bounds the memory of a look at a large body.
_FIRST, _PIECE = 1 << 12, 1 << 18
_QUOTE, _COMMA = b'",'


def deeper_than(body: bytes, most: int) -> bool:
    """Whether brackets and braces outside of strings are open more than ``most`` levels deep anywhere.

    Args:
        body: a JSON text, perhaps.
        most: the number of levels that is still fine; a lone list is one level.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    level = 0
    for piece in _outside(body):
        steps = _STEPS[piece]
        steps = steps[steps != 0]
        if steps.size:
            levels = np.cumsum(steps, dtype=np.int64)
            if level + int(levels.max()) > most:
                return True
            level += int(levels[-1])
    return False


def more_commas_than(body: bytes, most: int) -> bool:
    """Whether there are more than ``most`` commas outside of strings, which is how values are counted."""
    if len(body) <= most or body.count(b",") <= most:
        return False
    found = 0
    for piece in _outside(body):
        found += int(np.count_nonzero(piece == _COMMA))
        if found > most:
            return True
    return False


def _outside(body: bytes) -> Iterator[Any]:
    """The bytes outside of strings, piece after piece, as uint8."""
    # Escaped backslashes first: what is left before a quote then escapes it.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    inside = start = 0
    size = _FIRST
    while start < len(plain):
        piece = np.frombuffer(plain, np.uint8, min(size, len(plain) - start), start)
        start += size
        size = min(size * 4, _PIECE)
        quotes = piece == _QUOTE
        # Only the parity counts, so that a count that wraps around at 256 does no harm.
        within = (np.cumsum(quotes, dtype=np.uint8) + np.uint8(inside)) & 1
        yield piece[(within | quotes) == 0]
        inside = int(within[-1])
