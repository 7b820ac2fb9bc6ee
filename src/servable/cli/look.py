"""The verbs that only look: models, status, describe."""

from typing import Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (models, status, describe):
        app.command(epilog=exits.EPILOG)(verb)


def models(home: options.Home = None, as_json: options.AsJson = False) -> None:
    """List the models of the home.

    Example: [bold]servable models[/bold]
    """
    from servable.cli import tables
    from servable.workflows.look import models as work

    Screen(as_json=as_json).show(work(home=home), tables.model_list)


def status(
    url: Annotated[
        str | None, typer.Option(help="Ask this server too, such as http://127.0.0.1:8000.")
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is deployed and, with --url, what a server really serves.

    Example: [bold]servable status --url http://127.0.0.1:8000[/bold]
    """
    from servable.cli import tables
    from servable.workflows.look import status as work

    state = work(home=home, url=url)
    Screen(as_json=as_json).show(state, tables.status)
    if state.reachable is False:
        raise typer.Exit(exits.UNAVAILABLE)


def describe(
    reference: options.Reference,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Show everything about one version: signature, metrics, variants, where it came from.

    Example: [bold]servable describe churn:3[/bold]
    """
    from servable.cli import tables
    from servable.workflows.look import describe as work

    Screen(as_json=as_json).show(work(reference, home=home), tables.description)
