"""The verbs that decide what is served: deploy, rollback, undeploy; with serve and call beside them."""

from typing import Annotated

import typer

from servable.cli import calling, exits, options, serving
from servable.cli.output import Screen


def register(app: typer.Typer) -> None:
    """Add the verbs of this file, and serve and call."""
    for verb in (deploy, rollback, undeploy):
        app.command(epilog=exits.EPILOG)(verb)
    serving.register(app)
    calling.register(app)


def deploy(
    reference: options.Reference,
    default: Annotated[
        bool, typer.Option("--default", help="Also make it the model that POST /predict asks.")
    ] = False,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Serve a version; running servers of this home switch to it without losing a request.

    Example: [bold]servable deploy churn:3[/bold]
    """
    from servable.cli import tables
    from servable.workflows.deploy import deploy as work

    outcome = work(reference, default=default, home=home)
    Screen(as_json=as_json).show(outcome, tables.deployed)


def rollback(name: options.Name, home: options.Home = None, as_json: options.AsJson = False) -> None:
    """Go back to the version that was served before.

    Example: [bold]servable rollback churn[/bold]
    """
    from servable.cli import tables
    from servable.workflows.deploy import rollback as work

    Screen(as_json=as_json).show(work(name, home=home), tables.deployed)


def undeploy(name: options.Name, home: options.Home = None, as_json: options.AsJson = False) -> None:
    """Stop serving a model; its versions stay in the home.

    Example: [bold]servable undeploy churn[/bold]
    """
    from servable.cli import tables
    from servable.workflows.deploy import undeploy as work

    Screen(as_json=as_json).show(work(name, home=home), tables.deployed)
