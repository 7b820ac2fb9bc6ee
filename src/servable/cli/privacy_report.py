"""The verb of the group ``privacy`` that attacks a model and says what was found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from servable.training.attacks.records import PrivacyReport


_Members = Annotated[
    Path,
    typer.Option(
        help="Rows that the model learned from, with right answers.",
        rich_help_panel=options.DATA,
        show_default=False,
    ),
]
_Others = Annotated[
    Path,
    typer.Option(
        help="Rows of the same source that it did not learn from.",
        rich_help_panel=options.DATA,
        show_default=False,
    ),
]
_Target = Annotated[
    str | None,
    typer.Option(
        help="The column with the right answers, if not named as when the model was made.",
        rich_help_panel=options.DATA,
    ),
]
_Queries = Annotated[
    int, typer.Option(min=50, max=100_000, help="Rows that an attacker may ask for who wants a copy.")
]
_Url = Annotated[
    str | None,
    typer.Option(help="Ask this server over HTTP, in place of the form that serves.", show_default=False),
]
_MostAuc = Annotated[
    float | None,
    typer.Option(
        "--max-auc",
        min=0.5,
        max=1.0,
        help=f"A gate: end with exit code {exits.VERDICT} where an attack does better for sure.",
        show_default=False,
    ),
]
_Seed = Annotated[int, typer.Option(help="Makes the run repeatable.")]


def report(
    reference: options.Reference,
    members: _Members,
    others: _Others,
    target: _Target = None,
    queries: _Queries = 2000,
    url: _Url = None,
    page: options.Report = None,
    most_auc: _MostAuc = None,
    seed: _Seed = 0,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Attack a model as its callers could: was a row learned from, and can it be copied by asking?

    Example:
    [bold]servable privacy report churn --members train.csv --others holdout.csv --report privacy.html[/bold]
    [bold]servable privacy report churn:3 --members train.csv --others new.csv --max-auc 0.6[/bold]
    """
    from servable.workflows.privacy_report import privacy_report

    screen = Screen(as_json=as_json)
    with screen.progress() as progress:
        found = privacy_report(
            reference,
            members=members,
            others=others,
            target=target,
            queries=queries,
            url=url,
            report=page,
            seed=seed,
            home=home,
            progress=progress,
        )
    screen.show(found, _shown)
    if page is not None:
        screen.note(f"Report   {page}")
    if most_auc is not None and any(attack.auc_sure > most_auc for attack in found.attacks):
        raise typer.Exit(exits.VERDICT)


def _shown(found: "PrivacyReport") -> "Iterator[RenderableType]":
    from rich.markup import escape
    from rich.table import Table

    counts = f"{found.members:,} members, {found.others:,} others"
    yield f"[bold]{escape(found.model)}:{found.version}[/bold]  {counts}"
    yield escape(" ".join(found.verdict))
    table = Table("Attack", "AUC", "95 %", "Found at 1 %", "95 %", box=None, header_style="dim")
    for attack in found.attacks:
        table.add_row(
            f"[bold red]{attack.name}[/bold red]" if attack.sure else attack.name,
            f"{attack.auc:.3f}",
            f"{attack.auc_low:.3f} to {attack.auc_high:.3f}",
            f"{attack.tpr:.1%}",
            f"{attack.tpr_low:.1%} to {attack.tpr_high:.1%}",
        )
    yield table
    yield escape(" ".join(found.copying))
    for note in found.notes:
        yield f"[dim]{escape(note)}[/dim]"
