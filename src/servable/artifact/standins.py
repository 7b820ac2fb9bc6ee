"""Inert stand-ins for what a pickle would make, and the findings that are collected on the way."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from servable.artifact.streams import EnoughSeen

#: So many names are kept.
MOST_NAMES = 10_000
#: So many pairs of a dictionary are kept, at first; descriptions of arrays have six.
MOST_PAIRS = 64
#: A longer name is cut.
LONGEST_NAME = 300
_PLAIN_DTYPE = re.compile(r"[<>=|]?[biufcSUVMm?]\d{0,9}")


class Global:
    """Stands for what importing ``name`` gives."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Made:
    """Stands for what calling ``maker`` with ``arguments`` gives; ``state`` is what BUILD gave it."""

    __slots__ = ("arguments", "maker", "state")

    def __init__(self, maker: Any, arguments: Any) -> None:
        self.maker = maker
        self.arguments = arguments
        self.state: Any = None


class Pairs:
    """Stands for a dictionary; the pairs as they came, never hashed."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[tuple[Any, Any]] = ()) -> None:
        self.items = tuple(items)

    def add(self, items: Iterable[tuple[Any, Any]]) -> None:
        """More pairs. Only descriptions of arrays are ever looked into, and those are small."""
        if len(self.items) < MOST_PAIRS:
            self.items += tuple(items)[:MOST_PAIRS]

    def get(self, wanted: str) -> Any:
        """The value last set under a text key; None if there is none."""
        for key, value in reversed(self.items):
            if isinstance(key, str) and key == wanted:
                return value
        return None


class Findings:
    """What was found so far, shared by a pickle and the pickles in it."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.complete = True
        #: Whether something was named by an identifier that only whoever loads the pickle can resolve.
        self.persistent = False
        self.joblib = False
        self.opcodes = 0
        #: Bytes of constants that are held.
        self.held = 0

    def add(self, name: str) -> Global:
        """Remember a name that would be imported."""
        name = name[:LONGEST_NAME]
        if len(self.names) >= MOST_NAMES and name not in self.names:
            raise EnoughSeen
        self.names.add(name)
        return Global(name)


#: Stands for a value of which nothing matters.
OPAQUE = object()


def described(value: Any) -> str:
    """A name for whatever this stands for."""
    calls = 0
    while isinstance(value, Made) and calls < 10:
        value, calls = value.maker, calls + 1
    return (value.name if isinstance(value, Global) else "?") + "()" * calls


def class_of(made: Made) -> str:
    """The class of an object, also where it was made by ``copyreg``."""
    maker = made.maker
    if isinstance(maker, Global) and maker.name.startswith(("copyreg.", "copy_reg.")):
        maker = made.arguments[0] if isinstance(made.arguments, tuple) and made.arguments else None
    return maker.name if isinstance(maker, Global) else ""


def itemsize_of(dtype: Any) -> int | None:
    """Bytes of one element; 0 when the elements are objects; None when it cannot be told."""
    if not isinstance(dtype, Made) or not isinstance(dtype.arguments, tuple) or not dtype.arguments:
        return None
    letters, state = dtype.arguments[0], dtype.state
    if not isinstance(letters, str) or class_of(dtype) != "numpy.dtype":
        return None
    known = isinstance(state, tuple) and len(state) > 7
    if letters.startswith("O") or (known and isinstance(state[7], int) and state[7] & 1):
        return 0
    if known and isinstance(state[5], int) and state[5] > 0:
        return state[5]
    if _PLAIN_DTYPE.fullmatch(letters) is None:
        return None
    try:
        return np.dtype(letters).itemsize or None
    except (TypeError, ValueError):
        return None
