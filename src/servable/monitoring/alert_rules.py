"""Rules of alerts as a person writes them in ``servable.toml``. Pure.

::

    [[alerts]]
    name = "accuracy-low"
    model = "churn"
    measure = "quality.recent.metrics.accuracy.value"
    operator = "<"
    threshold = 0.8
    for = "30min"
    again = "1d"
"""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from servable.errors import SettingInvalid
from servable.monitoring.alerts import ALL_MODELS, DAY, DEFAULT_RULES, OPERATORS, Rule
from servable.monitoring.windows import length_of

#: The table of ``servable.toml``.
TABLE = "alerts"
_KNOWN = ("name", "model", "measure", "operator", "threshold", "for", "again")


def rules_are_written(path: Path) -> bool:
    """Whether a file of settings speaks of alerts; not when it is not there or cannot be read."""
    try:
        return TABLE in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False


def rules_of(content: Mapping[str, Any], source: str) -> tuple[Rule, ...]:
    """The rules that a file of settings holds; the built-in ones where it says nothing of alerts.

    Args:
        content: of the file.
        source: its name, for messages.

    Raises:
        SettingInvalid: a rule cannot be used; the message names it and what is wrong.
    """
    if TABLE not in content:
        return DEFAULT_RULES
    tables = content[TABLE]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingInvalid(f"{source}: alerts must be tables, each begun with [[{TABLE}]].")
    rules = tuple(
        _rule(table, f"{TABLE} number {place} in {source}") for place, table in enumerate(tables, 1)
    )
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise SettingInvalid(f"{source} holds two alerts named {name!r}; give each a name of its own.")
    return rules


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    for key in table:
        if key not in _KNOWN:
            raise SettingInvalid(f"{where}: there is no {key!r}; known are {', '.join(_KNOWN)}.")
    operator = _text(table, "operator", where, ">")
    if operator not in OPERATORS:
        raise SettingInvalid(f"{where}: operator must be one of {', '.join(OPERATORS)}, not {operator!r}.")
    return Rule(
        name=_text(table, "name", where),
        model=_text(table, "model", where, ALL_MODELS),
        measure=_text(table, "measure", where),
        operator=operator,
        threshold=_number(table, where),
        for_s=_seconds(table, "for", where, 0.0),
        again_s=_seconds(table, "again", where, DAY),
    )


def _text(table: Mapping[str, Any], key: str, where: str, default: str = "") -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise SettingInvalid(f"{where}: {key} must be a text, not {value!r}.")
    return value


def _number(table: Mapping[str, Any], where: str) -> float:
    value = table.get("threshold", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingInvalid(f"{where}: threshold must be a number, not {value!r}.")
    return float(value)


def _seconds(table: Mapping[str, Any], key: str, where: str, default: float) -> float:
    value = table.get(key)
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    if isinstance(value, str):
        found = length_of(value, setting=f"{where}: {key}")
        if found.seconds:
            return found.seconds
    raise SettingInvalid(f"{where}: {key} takes seconds or a time such as 30min or 1d, not {value!r}.")
