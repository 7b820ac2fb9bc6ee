"""The verbs about what models come in: inspect a file, sign a version."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.workflows.inspecting import InspectOutcome
    from servable.workflows.signing import SignOutcome


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (inspect, sign):
        app.command(epilog=exits.EPILOG)(verb)


def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER|NAME[:V]",
            help="A file, a folder, or a version of the home.",
            show_default=False,
        ),
    ],
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what a file is and what loading it would execute. Nothing of it is executed.

    Ends with 0 where loading executes nothing, with 6 where it would, or where that cannot be told.

    Example:
    [bold]servable inspect model.pkl[/bold]
    [bold]servable inspect downloads/ --json[/bold]
    [bold]servable inspect churn:3[/bold]
    """
    from servable.workflows.inspecting import inspect as work

    outcome = work(what, home=home)
    Screen(as_json=as_json).show(outcome, _inspected)
    if not outcome.clean:
        raise typer.Exit(exits.ARTIFACT)


def sign(
    reference: options.Reference,
    key: Annotated[
        Path,
        typer.Option(metavar="FILE", help="A private key in PEM (P-256, P-384, P-521).", show_default=False),
    ],
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make that file first, and the public key beside it.")
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option(
            "--rollback", help="Also allow this version to be served again although a newer one was served."
        ),
    ] = False,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Sign a version, so that servers with signatures = require serve it. Its package stays as it is.

    Example:
    [bold]servable sign churn:3 --key private.pem[/bold]
    [bold]servable sign churn --key release.pem --new-key[/bold]
    [bold]servable sign churn:2 --key private.pem --rollback[/bold], then [bold]servable rollback churn[/bold]
    """
    from servable.workflows.signing import sign as work

    outcome = work(reference, key=key, new_key=new_key, rollback=rollback, home=home)
    Screen(as_json=as_json).show(outcome, _signed)


def _signed(outcome: "SignOutcome") -> "Iterator[RenderableType]":
    from rich.markup import escape

    reference = f"{outcome.model}:{outcome.version}"
    yield f"[bold]{escape(reference)}[/bold] is signed with the key {outcome.key[:16]}."
    if outcome.rollback:
        yield "It may be served again, until a newer version is taken up the next time."
    if outcome.public_key:
        yield f"Its public key is {escape(outcome.public_key)}; name it in the servers' setting trusted_keys."


def _inspected(outcome: "InspectOutcome") -> "Iterator[RenderableType]":
    from rich.markup import escape

    from servable.cli.cells import plain_table

    table = plain_table("What it is", "file", "is", "bytes", "loading it")
    for part in outcome.parts:
        verdict = "[green]executes nothing[/]"
        if not part.clean:
            verdict = f"[red]{escape(part.summary)}[/]"
        elif part.note:
            verdict = f"[green]executes nothing[/]; {escape(part.note)}"
        table.add_row(escape(part.path), escape(part.kind), f"{part.size:,}", verdict)
    yield table
    for part in outcome.parts:
        if part.names:
            yield f"[bold]{escape(part.path)}[/bold] would import or call:"
            for name in part.names[:SHOWN]:
                yield f"  {escape(name)}"
            if len(part.names) > SHOWN:
                yield f"  and {len(part.names) - SHOWN} more; --json lists all"
    yield "Loading it executes nothing." if outcome.clean else "Nothing of it was executed here."


#: So many names of each file are shown.
SHOWN = 20
