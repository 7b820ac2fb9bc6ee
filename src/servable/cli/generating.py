"""The verb ``client``: the source of a typed client of one model."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

LanguageName = Literal["python", "typescript"]


def client(
    reference: options.Reference,
    language: Annotated[
        LanguageName | None,
        typer.Option(help="Of the client; without it that of the file, or python.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="File to write, instead of standard output.", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="A running server to ask, instead of the home.",
            rich_help_panel=options.COMMON,
            show_default=False,
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a typed client of a model: its own names, choices and labels as types, examples as comments.

    Example: [bold]servable client churn --language typescript --output churn.ts[/bold]
    """
    from servable.workflows.generate import generate_client as work

    chosen: LanguageName = language or _language_of(output)
    made = work(reference, chosen, output=output, url=url, home=home)
    screen = Screen(as_json=as_json)
    if as_json:
        screen.show(made, lambda _made: ())
    elif output is None:
        # Not through the console, which would break long lines.
        sys.stdout.write(made.source)
    else:
        from rich.markup import escape

        screen.note(f"{escape(made.file)} is a client of {escape(made.model)}, version {made.version}.")


def _language_of(output: Path | None) -> LanguageName:
    return "typescript" if output is not None and output.suffix in (".ts", ".mts", ".cts") else "python"


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(epilog=exits.EPILOG)(client)
