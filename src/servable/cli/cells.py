"""What all tables are made of: an empty table, and numbers as a person reads them. Pure."""

from collections.abc import Iterable

from rich import box
from rich.table import Table


def duration(seconds: float | None) -> str:
    """Seconds in the unit that a person reads best; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    if seconds < 1.0:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.1f} s"


def number(value: float | None) -> str:
    """A metric with four digits after the point; large values with fewer."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


def plain_table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table; the columns in ``right`` are aligned to the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    numeric = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left")
    return table
