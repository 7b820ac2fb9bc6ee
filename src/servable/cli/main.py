"""The application: all verbs, ``--version``, and the boundary that turns errors into sentences."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from servable import __version__
from servable.cli import (
    artifacts,
    audit,
    bill,
    build,
    certificates,
    demo,
    drift,
    exits,
    generating,
    keys,
    look,
    privacy,
    rollouts,
    run,
    scoring,
    traffic,
    updating,
)
from servable.cli.output import complain


class Bounded(TyperGroup):
    """The group of verbs; whatever a verb raises ends as one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb.

        Raises:
            typer.Exit: with the code of ``exits``; SERVABLE_DEBUG=1 lets the error itself through.
        """
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
            # Usage errors and a closed pipe are Typer's to end.
            raise
        except KeyboardInterrupt as interrupt:
            raise _ended(interrupt) from interrupt
        except Exception as error:
            # The boundary of the program: everything must become a sentence here, whatever it is.
            if exits.debugging():
                raise
            raise _ended(error) from error


def _ended(error: BaseException) -> typer.Exit:
    """Say the sentence and give the exit that stands for this error."""
    ending = exits.ending(error)
    if ending.sentence:
        complain(ending.sentence)
    return typer.Exit(ending.code)


app = typer.Typer(
    name="servable",
    cls=Bounded,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=exits.EPILOG,
    help="From data or a model file to a fast, typed, proven production API.\n\n"
    "Start with [bold]servable demo[/bold], or serve your own model: "
    "[bold]servable serve model.onnx[/bold]",
)


def _version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(f"servable {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


for group in (
    demo,
    build,
    updating,
    run,
    rollouts,
    scoring,
    look,
    traffic,
    drift,
    generating,
    keys,
    certificates,
    audit,
    privacy,
    bill,
    artifacts,
):
    group.register(app)


def main() -> None:
    """The entry point of the command ``servable``."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)


if __name__ == "__main__":
    main()
