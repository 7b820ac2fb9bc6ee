"""The verb ``sbom``: the bill of materials of one version."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen


def sbom(
    reference: options.Reference,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="File to write, instead of standard output.", show_default=False),
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Write what a version is made of: files, digests, libraries, metrics, as CycloneDX 1.6.

    Example: [bold]servable sbom churn:3 --output churn.cdx.json[/bold]
    """
    from servable.workflows.bill import bill_of_materials

    made = bill_of_materials(reference, output=output, home=home)
    screen = Screen(as_json=as_json)
    if as_json:
        screen.show(made, lambda _made: ())
    elif output is None:
        # Not through the console, which would break long lines.
        sys.stdout.write(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    else:
        from rich.markup import escape

        screen.note(f"{escape(str(output))} is the bill of materials of {escape(reference)}.")


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(epilog=exits.EPILOG)(sbom)
