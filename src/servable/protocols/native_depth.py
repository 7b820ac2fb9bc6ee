"""How deeply a JSON text is nested, found out without parsing it and without recursion."""

import re

import numpy as np

#: Deepest nesting of JSON unless a codec is told otherwise.
MAX_DEPTH = 64
# Possessive, and satisfied with the end of the text too, so a text is scanned once whatever it holds.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
#: Bytes looked at together: bounds the memory of a look at a large body.
_PIECE = 1 << 18


def deeper_than(body: bytes, most: int) -> bool:
    """Whether brackets and braces outside of strings are open more than ``most`` levels deep anywhere.

    Linear in time for every text, valid JSON or not.

    Args:
        body: a JSON text, perhaps.
        most: the number of levels that is still fine; a lone list is one level.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    bare = _STRING.sub(b"", body) if b'"' in body else body
    level = 0
    for start in range(0, len(bare), _PIECE):
        steps = _STEPS[np.frombuffer(bare, np.uint8, min(_PIECE, len(bare) - start), start)]
        steps = steps[steps != 0]
        if steps.size:
            levels = np.cumsum(steps, dtype=np.int64)
            if level + int(levels.max()) > most:
                return True
            level += int(levels[-1])
    return False
