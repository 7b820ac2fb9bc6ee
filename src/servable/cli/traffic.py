"""The verbs about what was served: traffic, feedback, quality."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.workflows.monitored import FeedbackOutcome, QualityOutcome, TrafficOutcome


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (traffic, feedback, quality):
        app.command(epilog=exits.EPILOG)(verb)


def traffic(
    name: options.Name,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only from here on: 2026-01-31T12:00:00, or how long ago, such as 2h or 7d.",
            show_default="all that is kept",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write all rows, with their outcomes, to this Parquet file.", show_default=False),
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Show or export what was captured of a model, with the outcomes that came back.

    A deployment captures with [bold]servable deploy NAME --capture 1.0[/bold].

    Example: [bold]servable traffic churn --since 7d --output churn.parquet[/bold]
    """
    from servable.workflows.traffic import traffic as work

    Screen(as_json=as_json).show(work(name, since=since, output=output, home=home), _traffic)


def feedback(
    name: options.Name,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV, Parquet or JSON with request_id and outcome or reward; row and observed_at if needed.",
            show_default=False,
        ),
    ],
    url: Annotated[
        str | None,
        typer.Option(
            envvar="SERVABLE_URL",
            help="A server that takes it.",
            rich_help_panel=options.COMMON,
            show_default="straight into the home",
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what turned out about requests that were answered; saying it again changes nothing.

    Example: [bold]servable feedback churn outcomes.csv --url http://127.0.0.1:8000[/bold]
    """
    from servable.workflows.feedback import feedback as work

    Screen(as_json=as_json).show(work(name, file, url=url, home=home), _feedback)


def quality(name: options.Name, home: options.Home = None, as_json: options.AsJson = False) -> None:
    """Show how good each version's answers were, by the outcomes that came back so far.

    Example: [bold]servable quality churn[/bold]
    """
    from servable.workflows.quality import quality as work

    Screen(as_json=as_json).show(work(name, home=home), _quality)


def _traffic(outcome: "TrafficOutcome") -> "Iterator[RenderableType]":
    """What was captured, by version, and the newest rows."""
    from rich.markup import escape

    from servable.cli.cells import plain_table

    name = escape(outcome.model)
    if not outcome.versions:
        yield _nothing(name, outcome.written_every_s)
        yield from _unknown(outcome.unknown)
        return
    numeric = ("rows", "errors", "with feedback")
    table = plain_table(f"Traffic of {name}", "version", *numeric, "since", "until", right=numeric)
    for row in outcome.versions:
        counts = (f"{row.rows:,}", f"{row.errors:,}", f"{row.labelled:,}")
        table.add_row(str(row.version), *counts, row.since, row.until)
    yield table
    heads = ("request", "row", "at", "version", "code", "prediction", "outcome", "reward")
    newest = plain_table("Newest", *heads)
    for each in outcome.newest:
        keys = ("request_id", "row", "at", "version", "code", "out.prediction", "outcome", "reward")
        newest.add_row(*("" if each.get(key) is None else escape(str(each[key])[:60]) for key in keys))
    yield newest
    yield from _unknown(outcome.unknown, outcome.written_every_s)
    if outcome.output:
        yield f"Written to {escape(outcome.output)}"


def _feedback(outcome: "FeedbackOutcome") -> "Iterator[RenderableType]":
    """How much is kept, and where."""
    from rich.markup import escape

    rows = "row" if outcome.accepted == 1 else "rows"
    about, where = escape(outcome.model), escape(outcome.where)
    yield f"{outcome.accepted:,} {rows} of feedback on {about}, kept by {where}"


def _quality(outcome: "QualityOutcome") -> "Iterator[RenderableType]":
    """The figures of each version, over all and over the newest labels."""
    from rich.markup import escape

    from servable.cli.quality_tables import live_quality

    name = escape(outcome.model)
    if not outcome.versions:
        yield _nothing(name, outcome.written_every_s)
        yield from _unknown(outcome.unknown)
        return
    for row in outcome.versions:
        title = f"{name}:{row.version}, {row.quality.answers:,} answers captured"
        if not row.quality.whole.metrics:
            yield f"[bold]{title}[/bold]; no feedback yet, see servable feedback --help"
            continue
        yield live_quality(row.quality, title)
    yield from _unknown(outcome.unknown, outcome.written_every_s)
    for segment in outcome.damaged:
        yield f"The segment {escape(segment)} is damaged and was passed over; restore or remove it."


def _nothing(name: str, every_s: float) -> str:
    """Why there is nothing to show."""
    if every_s:
        return f"Nothing of {name} is written yet; captured rows are written every {every_s:g} s."
    return f"Nothing is captured of {name}; see servable deploy {name} --capture 1.0"


def _unknown(count: int, every_s: float = 0.0) -> "Iterator[RenderableType]":
    """How much feedback found nothing, and what may still come."""
    if count:
        rows = "row of feedback belongs" if count == 1 else "rows of feedback belong"
        later = f"; captured rows are written every {every_s:g} s" if every_s else ""
        yield f"{count:,} {rows} to no captured request{later}."
