"""Everything that can be set, called or reported is documented."""

import re
from pathlib import Path

from servable import errors
from servable.cli import exits
from servable.monitoring.metrics import Metrics
from servable.server import problems
from servable.settings import describe_settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def all_errors(root: type[errors.ServableError] = errors.ServableError) -> list[type[errors.ServableError]]:
    """The root and everything below it that is ours."""
    found = [root]
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found += all_errors(child)
    return found


def test_every_setting_is_documented() -> None:
    page = (DOCS / "settings.md").read_text()
    for setting in describe_settings():
        assert f"`{setting.name}`" in page, setting.name
        assert f"`{setting.variable}`" in page, setting.variable


def test_every_error_code_is_documented_with_its_status() -> None:
    page = (DOCS / "http.md").read_text()
    for error in all_errors():
        assert f"`{error.code}`" in page, error.code
    for code, status in problems.STATUS.items():
        assert re.search(rf"`{code}`[^\n]*\b{status}\b", page), f"{code} is {status}"


def test_every_metric_is_documented() -> None:
    page = (DOCS / "serving.md").read_text()
    metrics = Metrics("1")
    metrics.meter("iris", 1).count("ok", 1, 0.1)
    metrics.reject("overloaded")
    names = re.findall(r"^# TYPE (servable_\w+) ", metrics.render().decode(), re.MULTILINE)
    assert len(names) > 15
    for name in names:
        assert f"`{name}" in page, name


def test_every_exit_code_is_documented() -> None:
    page = (DOCS / "cli.md").read_text()
    for code, meaning in exits.MEANINGS.items():
        assert re.search(rf"^\| {code} \| ", page, re.MULTILINE), meaning


def test_error_codes_are_unique_and_the_tree_is_drawn() -> None:
    found = all_errors()
    codes = [error.code for error in found]
    assert len(codes) == len(set(codes))
    drawn = errors.__doc__ or ""
    for error in found:
        assert error.__name__ in drawn, error.__name__
