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
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]", help="A server to ask, such as http://127.0.0.1:8000.", show_default=False
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(hidden=True, help="The same as the argument URL.")] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is deployed and, with a URL, how the server there fares.

    Counts are those since the server started, all its workers together; p50 and p99 are estimated.

    Example: [bold]servable status http://127.0.0.1:8000[/bold]
    """
    from servable.cli import running
    from servable.workflows.look import status as work

    state = work(home=home, url=address or url)
    Screen(as_json=as_json).show(state, running.status)
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
