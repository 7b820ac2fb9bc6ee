"""The verbs about API keys: create, list, rotate, revoke."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.workflows.keys import KeyRow, NewKeyOutcome

_group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=exits.EPILOG,
    help="Make, list, rotate and revoke API keys.\n\nFrom the first key on every server of the home wants "
    "one of every caller, as [bold]Authorization: Bearer KEY[/bold] or [bold]X-API-Key: KEY[/bold].\n\n"
    "Example: [bold]servable keys create --name ci --scope predict:income --expires 90d[/bold]",
)
_STATES = {"active": "green", "expired": "yellow", "revoked": "red"}
_Key = Annotated[str, typer.Argument(metavar="NAME|ID", help="A key by its name or id.", show_default=False)]
_Expires = "A span of time such as 90d, or never."


def register(app: typer.Typer) -> None:
    """Add the group of this file."""
    for name, verb in (("create", create), ("list", list_keys), ("rotate", rotate), ("revoke", revoke)):
        _group.command(name, epilog=exits.EPILOG)(verb)
    app.add_typer(_group, name="keys")


def create(
    name: Annotated[str, typer.Option(help="Who will use it, such as ci or mobile.", show_default=False)],
    scope: Annotated[
        list[str],
        typer.Option(
            metavar="ACTION:MODEL",
            help="What it allows: predict, feedback, read, deploy or admin, for a model, for team-*, or for "
            "all without a model. May be repeated.",
            show_default=False,
        ),
    ],
    expires: Annotated[str, typer.Option(help=_Expires)] = "never",
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="N/s",
            help="Most requests in a second, or with N/min or N/h in a longer time, of which all may come at "
            "once.",
            show_default="any number",
        ),
    ] = None,
    quota: Annotated[
        str | None,
        typer.Option(
            metavar="N/day", help="Most requests in a day of UTC, such as 1M/day.", show_default="any number"
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Most requests at once.", show_default="any number")
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a key. It is shown once and stored nowhere.

    Its limits hold for all servers of the home together where they say a day, else for each server.

    Example: [bold]servable keys create --name ci --scope predict:income --scope read --expires 90d[/bold]

    Example: [bold]servable keys create --name app --scope predict --rate 100/s --quota 1M/day[/bold]
    """
    from servable.workflows.keys import create_key

    outcome = create_key(
        name, scope, expires=expires, rate=rate, quota=quota, concurrency=concurrency, home=home
    )
    Screen(as_json=as_json).show(outcome, _made)


def list_keys(home: options.Home = None, as_json: options.AsJson = False) -> None:
    """List the keys of the home with their limits and the use of their quotas today.

    The keys themselves are stored nowhere.

    Example: [bold]servable keys list[/bold]
    """
    from servable.workflows.keys import keys

    Screen(as_json=as_json).show(keys(home=home), _listed)


def rotate(
    name: _Key,
    overlap: Annotated[str, typer.Option(help="For how long the old key is valid still.")] = "24h",
    expires: Annotated[
        str | None, typer.Option(help=_Expires, show_default="as long as the old one lasts")
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a key in place of another, with its limits; the other stays valid for a while.

    Example: [bold]servable keys rotate ci --overlap 2h[/bold]
    """
    from servable.workflows.keys import rotate_key

    outcome = rotate_key(name, overlap=overlap, expires=expires, home=home)
    Screen(as_json=as_json).show(outcome, _made)


def revoke(name: _Key, home: options.Home = None, as_json: options.AsJson = False) -> None:
    """Make a key, or all keys of a name, invalid; running servers know within a second.

    Example: [bold]servable keys revoke ci[/bold]
    """
    from servable.workflows.keys import revoke_key

    Screen(as_json=as_json).show(revoke_key(name, home=home), _revoked)


def _made(outcome: "NewKeyOutcome") -> "Iterator[RenderableType]":
    from rich.markup import escape
    from rich.text import Text

    row = outcome.row
    allowed = escape(", ".join(row.scopes))
    yield f"Key [bold]{escape(row.name)}[/bold] allows {allowed} {_limits(row)}{_until(row)}"
    # Alone on its line and never broken, so that it can be copied whole.
    yield Text(outcome.key, no_wrap=True, overflow="ignore")
    yield "It is shown this once. Send it as the header [bold]Authorization: Bearer KEY[/bold]."
    if outcome.until:
        yield f"The key before it is valid until {outcome.until}."


def _limits(row: "KeyRow") -> str:
    """What a key may ask, in words that a space follows; empty for anything."""
    found = [row.rate] if row.rate else []
    found += [f"{row.quota:,}/day"] if row.quota else []
    found += [f"{row.concurrency} at once"] if row.concurrency else []
    return f"at {', '.join(found)} " if found else ""


def _until(row: "KeyRow") -> str:
    return f"until {row.expires_at}:" if row.expires_at else "and does not expire:"


def _listed(rows: "Sequence[KeyRow]") -> "Iterator[RenderableType]":
    from rich.markup import escape

    from servable.cli.cells import plain_table

    if not rows:
        yield "There is no key, so that everybody who reaches a server of this home may call it."
        yield "Make one with: servable keys create --name NAME --scope predict:MODEL"
        return
    table = plain_table("Keys", "name", "id", "allows", "limits", "today", "state", "made", "expires")
    for row in rows:
        state = f"[{_STATES[row.state]}]{row.state}[/]"
        scopes = escape(", ".join(row.scopes))
        limits = _limits(row).removeprefix("at ").strip() or "none"
        today = f"{row.used_today:,} of {row.quota:,}" if row.quota else ""
        ends = row.expires_at or "never"
        table.add_row(escape(row.name), row.id, scopes, limits, today, state, row.created_at, ends)
    yield table


def _revoked(rows: "Sequence[KeyRow]") -> "Iterator[RenderableType]":
    from rich.markup import escape

    if not rows:
        yield "It was revoked before."
    for row in rows:
        yield f"Key [bold]{escape(row.name)}[/bold] ({row.id}) is revoked; servers refuse it within a second."
