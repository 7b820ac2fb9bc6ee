"""The verbs about people: what is held about one is exported, or erased."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen
from servable.cli.privacy_report import report

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.workflows.privacy import EraseOutcome, ExportOutcome

_group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=exits.EPILOG,
    help="Hand out or erase what is held about a person in captured traffic and feedback.\n\n"
    "Example: [bold]servable privacy erase customer-17[/bold]",
)
_Subjects = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SUBJECT]...",
        help="People, as the input holds them that deploy --capture-subject names.",
        show_default=False,
    ),
]
_Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="COLUMN=VALUE",
        help="In place of a subject: whoever has this value in this input; may be repeated.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group of this file."""
    _group.command("export", epilog=exits.EPILOG)(export)
    _group.command("erase", epilog=exits.EPILOG)(erase)
    _group.command("report", epilog=exits.EPILOG)(report)
    app.add_typer(_group, name="privacy")


def export(
    subjects: _Subjects = None,
    where: _Where = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A file, .jsonl or .parquet; without one the rows are printed as lines of JSON.",
            show_default=False,
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Everything that is held about a person: captured requests, answers and feedback.

    Example: [bold]servable privacy export customer-17 --output customer-17.jsonl[/bold]
    or [bold]servable privacy export --where email=ann@example.com[/bold]
    """
    import msgspec

    from servable.workflows.privacy import export_subject

    outcome = export_subject(
        *(subjects or ()),
        where=options.pairs(where, "--where", "email=ann@example.com"),
        output=output,
        home=home,
    )
    if output is None and not as_json:
        # Lines for programs: no table could show all columns, and nothing else may stand among them.
        for record in outcome.records:
            sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
        return
    Screen(as_json=as_json).show(outcome, _exported)


def erase(
    subjects: _Subjects = None,
    where: _Where = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Erase a person from captured traffic and feedback, for good and in backups of segments as well.

    Example: [bold]servable privacy erase customer-17[/bold]
    or [bold]servable privacy erase --where email=ann@example.com[/bold]
    """
    from servable.workflows.privacy import erase_subject

    outcome = erase_subject(
        *(subjects or ()), where=options.pairs(where, "--where", "email=ann@example.com"), home=home
    )
    Screen(as_json=as_json).show(outcome, _erased)
    if not outcome.complete:
        raise typer.Exit(exits.VERDICT)


def _exported(outcome: "ExportOutcome") -> "Iterator[RenderableType]":
    from rich.markup import escape

    if not outcome.rows and not outcome.feedback:
        yield "Nothing is held about that person."
        return
    where = ", ".join(outcome.models)
    yield (
        f"{outcome.rows:,} captured rows and {outcome.feedback:,} rows of feedback of {escape(where)} are in "
        f"{escape(outcome.output)}."
    )


def _erased(outcome: "EraseOutcome") -> "Iterator[RenderableType]":
    for receipt in outcome.receipts:
        yield f"Receipt [bold]{receipt}[/bold] of {outcome.at}"
    if outcome.keys:
        yield "The key is destroyed: nothing that was sealed under it can be read, in backups neither."
    yield (
        f"{outcome.sealed:,} sealed rows cannot be read; {outcome.rows:,} captured rows and "
        f"{outcome.feedback:,} rows of feedback were taken out of {outcome.segments:,} segments."
    )
    for sentence in outcome.left:
        yield f"[yellow]Not complete:[/yellow] {sentence} Run it again."
