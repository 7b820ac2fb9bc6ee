"""The pages for people: HTML files that hold everything they show, in one look, light and dark."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from servable.artifact.files import storage_errors
from servable.security.content_policy import sealed
from servable.training.wording import (
    capital,
    difference_text,
    gap_text,
    metric_text,
    moment_text,
    number,
    percent,
    seconds_text,
)


def rendered(template: str, /, **shown: Any) -> str:
    """A page under a policy that lets it run and load nothing, which it states itself.

    Args:
        template: the name of its file among the templates.
        shown: what stands in it.
    """
    return sealed(_environment().get_template(template).render(shown))


def drawn(svg: str) -> Markup:
    """A figure as a page takes it in."""
    return Markup(svg)  # noqa: S704 - drawn by matplotlib, which escapes every label


def write(path: str | Path, page: str) -> None:
    """Write a page.

    Raises:
        StorageFull: no space left.
        StorageFailed: it cannot be written there.
    """
    with storage_errors(f"writing the report {path}"):
        Path(path).write_text(page, encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=number,
        metric=metric_text,
        percent=percent,
        seconds=seconds_text,
        gap=gap_text,
        difference=difference_text,
        capital=capital,
        moment=moment_text,
        count=lambda n: f"{n:,}",
    )
    return environment
