"""Texts to token numbers, as a network reads them; the same while learning and while serving."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import ArtifactUnreadable
from servable.frameworks.text_program import Numbering
from servable.frameworks.text_tokens import analyse

#: Numbers that are no token of the vocabulary: filling, not known, and the start of the next column.
FILLING, UNKNOWN, NEXT = 0, 1, 2
FIRST = 3
#: Characters of a text that are read for each token wanted; what follows cannot matter but costs time.
_CHARACTERS_PER_TOKEN = 64
#: Tokens of a row that a description may ask for at most.
_LONGEST = 4096

Numbered = tuple[NDArray[np.int64], NDArray[np.int32]]


def numberer(numbering: Numbering, columns: int) -> Callable[[NDArray[Any]], Numbered]:
    """The function from packed texts ``[rows, columns]`` to token numbers.

    It gives int64 ``[rows, steps]``, filled up with 0 to the longest row, and int32 ``[rows]``, the tokens
    of each row, at least one.

    Raises:
        ArtifactUnreadable: the description does not fit the columns, or is none.
    """
    length = numbering.length
    if not all(0 <= column < columns for column in numbering.columns) or not numbering.columns:
        raise ArtifactUnreadable("A text model reads a column that its signature does not have.")
    if not 1 <= length <= _LONGEST:
        raise ArtifactUnreadable(f"A text model reads {length} tokens of a row, not 1 to {_LONGEST}.")
    tokens = analyse(numbering.analyzer)
    number = {token: place for place, token in enumerate(numbering.vocabulary, FIRST)}
    find = number.get
    characters = length * _CHARACTERS_PER_TOKEN

    def row_of(texts: NDArray[Any]) -> list[int]:
        found: list[int] = []
        for place, column in enumerate(numbering.columns):
            if place:
                found.append(NEXT)
            found += [find(token, UNKNOWN) for token in tokens(texts[column][:characters])[:length]]
        return found[:length] or [UNKNOWN]

    def numbers(texts: NDArray[Any]) -> Numbered:
        rows = [row_of(row) for row in texts]
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        ids = np.full((len(rows), int(lengths.max(initial=1))), FILLING, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
        return ids, lengths

    return numbers
