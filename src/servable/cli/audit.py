"""The verbs about the audit log: show, export, verify, checkpoint, key."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

    from servable.workflows.audit import AuditKeyOutcome, AuditRecord, CheckpointOutcome, VerifyOutcome

_group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=exits.EPILOG,
    help="Show who changed what and who was refused, and prove that nobody changed the log of it.\n\n"
    "Example: [bold]servable audit show --since 1d[/bold], "
    "[bold]servable audit verify --checkpoint /mnt/elsewhere[/bold]",
)
#: Seconds between two looks with ``--follow``.
_LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the group of this file."""
    for verb in (show, export, verify, checkpoint, key):
        _group.command(epilog=exits.EPILOG)(verb)
    app.add_typer(_group, name="audit")


def show(
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only from here on: a moment, or how long ago: 2h, 7d.", show_default=False
        ),
    ] = None,
    who: Annotated[
        str | None,
        typer.Option(help="Only what these did, such as key:ci, user:anna or 10.0.0.7.", show_default=False),
    ] = None,
    what: Annotated[
        str | None,
        typer.Option(help="Only this, such as keys, deploy or denied.", show_default=False),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is recorded from now on.")
    ] = False,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what was done and what was refused: who, what, when, from where; the oldest first.

    With --json --follow there is a line of JSON for every look that found something.

    Example: [bold]servable audit show --since 1d --what denied[/bold]
    """
    from servable.workflows.audit import audit_records

    screen = Screen(as_json=as_json)
    found = audit_records(since=since, who=who, what=what, home=home)
    screen.show(found, _shown)
    last = found[-1].number if found else 0
    while follow:
        time.sleep(_LOOK_S)
        found = audit_records(since=since, who=who, what=what, after=last, home=home)
        if found:
            screen.show(found, _lines)
            last = found[-1].number


def export(
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Where to write.", show_default=False)
    ],
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Write every record with its hash as lines of JSON.

    Example: [bold]servable audit export --output audit.jsonl[/bold]
    """
    from servable.workflows.audit import audit_export

    count = audit_export(output, home=home)
    Screen(as_json=as_json).show(
        {"records": count, "output": str(output)}, lambda done: [f"{count} records are in {output}."]
    )


def verify(
    at: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE|FOLDER",
            help="Checkpoints that were shipped out. Without any, whoever can write to the home could have "
            "made the log anew. May be repeated.",
            show_default=False,
        ),
    ] = None,
    trusted: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="KEY|FILE",
            help="Public key that signed them, as servable audit key printed it. May be repeated.",
            show_default="the home's own",
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Look for records that were edited, deleted, moved, cut off or made anew; exit code 5 where there are.

    Example: [bold]servable audit verify --checkpoint /mnt/elsewhere --key audit.pub[/bold]
    """
    from servable.workflows.audit import audit_verify

    outcome = audit_verify(at or (), trusted or (), home=home)
    Screen(as_json=as_json).show(outcome, _verified)
    if not outcome.intact:
        raise typer.Exit(exits.VERDICT)


def checkpoint(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE|FOLDER",
            help="Where it is kept: a folder, or a file that it is appended to.",
            show_default=False,
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Sign the log as it is now. Keep that where nobody who may write to the home can change it.

    Example: [bold]servable audit checkpoint --out /mnt/elsewhere/audit.notes[/bold]
    """
    from servable.workflows.audit import audit_checkpoint

    Screen(as_json=as_json).show(audit_checkpoint(output=out, home=home), _signed)


def key(home: options.Home = None, as_json: options.AsJson = False) -> None:
    """Print the public key with which checkpoints can be checked; it is made when there is none.

    Example: [bold]servable audit key > audit.pub[/bold]
    """
    from servable.workflows.audit import audit_key

    Screen(as_json=as_json).show(audit_key(home=home), _key)


def _shown(records: "Sequence[AuditRecord]") -> "Iterator[RenderableType]":
    if not records:
        yield "Nothing was recorded."
        return
    yield from _lines(records)


def _lines(records: "Sequence[AuditRecord]") -> "Iterator[RenderableType]":
    from rich.text import Text

    for record in records:
        said = " ".join(f"{name}={_word(value)}" for name, value in record.details.items())
        words = f"{record.number:>6} {record.at} {record.what:<16} {record.who} from {record.where} {said}"
        # What strangers sent is among it, so that nothing in it may move the cursor.
        yield Text("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in words))


def _word(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


def _verified(outcome: "VerifyOutcome") -> "Iterator[RenderableType]":
    from rich.markup import escape

    for fault in outcome.faults:
        yield f"[bold red]{fault.kind}[/bold red] {escape(fault.sentence)}"
    if not outcome.size:
        yield "Nothing was recorded." if outcome.intact else "The log is empty."
        return
    records = f"records {outcome.first} to {outcome.size}"
    if not outcome.intact:
        yield f"The log was changed ({records}, {outcome.compared} checkpoints compared)."
        return
    yield f"Intact: {records} follow from one another and agree with {outcome.compared} checkpoints."
    if outcome.unchecked:
        yield f"{outcome.unchecked} checkpoints of unknown keys were not compared; name their --key."


def _signed(outcome: "CheckpointOutcome") -> "Iterator[RenderableType]":
    from rich.text import Text

    yield Text(outcome.note, no_wrap=True, overflow="ignore")


def _key(outcome: "AuditKeyOutcome") -> "Iterator[RenderableType]":
    from rich.text import Text

    # Alone, so that it can be kept as a file.
    yield Text(outcome.public, no_wrap=True, overflow="ignore")
