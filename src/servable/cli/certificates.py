"""The verbs about TLS: certificates for development."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.workflows.certificates import CertificateOutcome

_group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=exits.EPILOG,
    help="Make certificates for development.\n\nExample: [bold]servable tls dev[/bold]",
)


def register(app: typer.Typer) -> None:
    """Add the group of this file."""
    _group.callback()(_root)
    _group.command("dev", epilog=exits.EPILOG)(dev)
    app.add_typer(_group, name="tls")


def _root() -> None:
    """Options of the group: none."""


def dev(
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="One more name or address besides localhost, 127.0.0.1 and ::1. May be repeated.",
            show_default=False,
        ),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also make a certificate for a client of this name. May be repeated.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the files.", show_default="tls in the home")
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a certificate for a server of development, by an authority that only you have.

    Nothing is installed: clients trust it when they are told to. Made again, the authority stays the same.

    Example: [bold]servable tls dev --host dev.local[/bold]
    """
    from servable.workflows.certificates import development_certificate

    outcome = development_certificate(host or (), clients=client or (), out=out, home=home)
    Screen(as_json=as_json).show(outcome, _made)


def _made(outcome: "CertificateOutcome") -> "Iterator[RenderableType]":
    from rich.markup import escape
    from rich.text import Text

    yield f"A certificate for [bold]{escape(', '.join(outcome.hosts))}[/bold] is valid until {outcome.until}."
    if outcome.new_authority:
        yield f"Its authority is new; clients must trust {escape(outcome.ca)}."
    asks = f" --tls-client-ca {outcome.ca}" if outcome.clients else ""
    lines = [
        f"Serve with:  servable serve --tls-cert {outcome.cert} --tls-key {outcome.key}{asks}",
        f'Call with:   servable.Client("https://localhost:8000", ca="{outcome.ca}")',
        f"        or:  export SSL_CERT_FILE={outcome.ca}",
    ]
    lines += [
        f'Client {each.name}: cert="{each.cert}", or export SERVABLE_CLIENT_CERT={each.cert}'
        for each in outcome.clients
    ]
    # Never broken, so that they can be copied whole.
    yield from (Text(line, no_wrap=True) for line in lines)
