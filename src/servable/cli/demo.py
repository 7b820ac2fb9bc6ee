"""The verb ``demo``: the whole main job on real data, step by step, each step checked."""

from pathlib import Path
from typing import Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(epilog=exits.EPILOG)(demo)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the call instead of serving on.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = 8000,
    home: Annotated[
        Path | None,
        typer.Option("--home", help="Folder of the demo's models.", show_default=".servable/demo"),
    ] = None,
) -> None:
    """Choose, train, prove, serve and call a model on real data, and check every step.

    The data are 569 tumours, benign or malignant, with 30 measurements each.
    A fifth of the rows never reaches training; the server is asked for them all.

    Example: [bold]servable demo --once[/bold]
    """
    from servable.cli.demo_steps import Demo

    show = Demo(Screen(), home or options.DEMO_HOME, port)
    show.run(serve_on=not once)
