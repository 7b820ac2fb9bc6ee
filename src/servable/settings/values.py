"""Values of settings: from what stands in files, variables and flags to the types of settings. Pure."""

import re
from pathlib import Path
from typing import Any

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)
_STEPS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def typed(default: Any, value: Any) -> Any:
    """The value in the type of the default, None when it cannot be."""
    if isinstance(default, bool):
        return _as_bool(value)
    if isinstance(default, int | float):
        return _as_number(type(default), value)
    if isinstance(default, tuple):
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            return None
        return tuple(part.strip() for part in parts if part.strip())
    return str(value) if isinstance(value, str | Path) else None


def as_bytes(text: str) -> int | None:
    """A size such as ``64MiB``, ``4GiB``, ``2GB`` or ``1048576`` in bytes; None when it is none."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    unit = (found[2] or "").lower()
    factor: int = (1024 if unit.endswith("i") else 1000) ** _STEPS[unit.rstrip("i")]
    return round(float(found[1]) * factor)


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    return True if word in _TRUE else False if word in _FALSE else None


def _as_number(wanted: type[int] | type[float], value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = wanted(value)
    except (ValueError, OverflowError):
        return as_bytes(value) if wanted is int and isinstance(value, str) else None
    if number != number or (isinstance(value, float) and number != value):
        return None
    return number
