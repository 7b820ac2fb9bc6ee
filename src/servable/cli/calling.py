"""The verb ``call``: ask a running server, over HTTP like anyone else."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable.cli import exits, options
from servable.cli.output import Screen
from servable.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.client import Client, Piece

#: Rows sent in one request; a long file goes in parts.
_PART = 1000
#: Answers printed; ``--json`` prints all.
_SHOWN = 20


def call(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:V|@ALIAS]",
            help="A model that the server has.",
            autocompletion=options.complete_model,
        ),
    ],
    rows: Annotated[
        str,
        typer.Argument(
            metavar="JSON|@FILE|FILE.csv|PICTURE|SOUND|-",
            help="A row, a list of rows, a file that holds them or is one, or - for standard input.",
        ),
    ],
    url: Annotated[
        str, typer.Option(envvar="SERVABLE_URL", help="The server's address.", rich_help_panel=options.COMMON)
    ] = "http://127.0.0.1:8000",
    timeout: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="Seconds for each request; with --stream, for each piece.",
            rich_help_panel=options.COMMON,
        ),
    ] = 30.0,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Print the answer to one row in pieces, as the model makes them."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Send rows to a running server and print its answers.

    Example: [bold]servable call iris '[5.1, 3.5, 1.4, 0.2]'[/bold]
    or [bold]servable call churn march.csv --json[/bold]
    or [bold]servable call pets picture.png[/bold]
    or [bold]servable call writer '["Once upon"]' --stream[/bold]
    """
    from servable.cli import payload
    from servable.client import Client

    screen = Screen(as_json=as_json)
    with Client(url, timeout_s=timeout) as client:
        needs_columns = rows.lower().endswith(".csv")
        inputs = _columns(client, name) if needs_columns else {}
        sent = payload.read(rows, inputs)
        if stream:
            if not sent.single:
                raise InputError("An answer in pieces is to one row; send one row, or leave out --stream.")
            with closing(client.stream(name, sent.rows)) as pieces:
                _print(pieces, screen)
            return
        if sent.single:
            screen.show(client.predict(name, sent.rows, single=True), _one)
            return
        screen.show(_in_parts(client, name, sent.rows, screen), _many)


def _print(pieces: "Iterable[Piece]", screen: Screen) -> None:
    """Each piece as it comes: texts one behind the other, other values and ``--json`` a line for each.

    Nothing of it goes through the console, which would break lines and wait for their ends.
    """
    import msgspec  # Lazily, for a quick --help.
    from rich.markup import escape

    last, open_line = None, False
    try:
        for last in pieces:
            if isinstance(last.prediction, str) and not screen.as_json:
                text = last.prediction
            else:
                whole = last if screen.as_json else last.prediction
                text = "\n" * open_line + msgspec.json.encode(whole).decode() + "\n"
            open_line = not text.endswith("\n") if text else open_line
            sys.stdout.write(text)
            sys.stdout.flush()
    finally:
        if open_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
    if last is not None:
        who = f"{last.model}:{last.version}, request id {last.request_id}"
        screen.note(f"[dim]{escape(who)}[/dim]")


def _columns(client: "Client", name: str) -> dict[str, str]:
    """The model's columns and their kinds as the server describes them; empty when it does not."""
    signature = client.model(name).details.get("signature", {})
    inputs = signature.get("inputs", []) if isinstance(signature, dict) else []
    return {
        field["name"]: str(field.get("kind", ""))
        for field in inputs
        if isinstance(field, dict) and isinstance(field.get("name"), str) and field.get("kind") != "tensor"
    }


def _in_parts(client: "Client", name: str, rows: list[Any], screen: Screen) -> Any:
    """All rows answered, a bounded number in each request."""
    from servable.client import Predictions

    if len(rows) <= _PART:
        return client.predict(name, rows, single=False)
    answers: list[Predictions] = []
    with screen.progress() as progress:
        progress.begin("Calling", len(rows))
        for start in range(0, len(rows), _PART):
            part = rows[start : start + _PART]
            answers.append(client.predict(name, part, single=False))
            progress.advance(len(part))
    probable = [one for answer in answers for one in answer.probabilities or ()]
    last = answers[-1]
    return Predictions(
        predictions=tuple(one for answer in answers for one in answer.predictions),
        probabilities=tuple(probable) or None,
        model=last.model,
        version=last.version,
        request_id=last.request_id,
    )


def _one(answer: Any) -> "Iterator[RenderableType]":
    """One answer."""
    from rich.markup import escape

    yield f"[bold green]{escape(str(answer.prediction))}[/bold green]"
    for label, share in (answer.probabilities or {}).items():
        yield f"  {escape(label):24} {'-' if share is None else f'{share:.4f}'}"
    yield f"[dim]{escape(answer.model)}:{answer.version}, request id {escape(answer.request_id)}[/dim]"


def _many(answers: Any) -> "Iterator[RenderableType]":
    """The first of several answers as a table."""
    from servable.cli import tables

    yield tables.answers(answers, _SHOWN)


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(epilog=exits.EPILOG)(call)
