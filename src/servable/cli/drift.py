"""The verbs that say whether served data is still what a model learned from: drift, alerts."""

from pathlib import Path
from typing import Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

Data = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DATA]",
        help="A CSV or Parquet file in order of time, looked at in place of captured traffic.",
        show_default=False,
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="LENGTH",
        help="How long a window is: a time such as 6h or 1d, or a number of rows.",
        show_default="to suit the rows",
        rich_help_panel=options.DATA,
    ),
]
Days = Annotated[
    float,
    typer.Option(min=0.01, help="How far back captured traffic is looked at.", rich_help_panel=options.DATA),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of DATA with the right answers, if it is not named as the model's answer.",
        show_default=False,
        rich_help_panel=options.DATA,
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of DATA that says when a row came.",
        show_default=False,
        rich_help_panel=options.DATA,
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        min=1e-9,
        max=0.5,
        help="Share of steady windows that may be called drift.",
        rich_help_panel=options.DATA,
    ),
]
Effect = Annotated[
    float,
    typer.Option(min=0.0, help="Least stability index that counts.", rich_help_panel=options.DATA),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Also write the report as HTML.", show_default=False),
]
Fail = Annotated[
    bool, typer.Option("--fail", help=f"End with exit code {exits.VERDICT} where something drifts.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (drift, alerts):
        app.command(epilog=exits.EPILOG)(verb)


def drift(
    reference: options.Reference,
    data: Data = None,
    window: Window = None,
    days: Days = 30.0,
    target: Target = None,
    time: Time = None,
    alpha: Alpha = 0.01,
    effect: Effect = 0.1,
    report: Report = None,
    fail: Fail = False,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Show which columns are no longer what the model learned from, since when, and how much.

    Example: [bold]servable drift churn[/bold]

    Example: [bold]servable drift churn:3 march.csv --window 1d --time at --report drift.html[/bold]
    """
    from servable.cli import drift_tables
    from servable.monitoring.drift_records import Limits
    from servable.workflows.drift import drift as work

    screen = Screen(as_json=as_json)
    with screen.progress() as progress:
        found = work(
            reference,
            data,
            window=window,
            days=days,
            target=target,
            time=time,
            limits=Limits(alpha=alpha, effect=effect),
            report=report,
            home=home,
            progress=progress,
        )
    screen.show(found, drift_tables.report)
    if report is not None:
        screen.note(f"Report   {report}")
    if fail and found.drifting:
        raise typer.Exit(exits.VERDICT)


def alerts(home: options.Home = None, as_json: options.AsJson = False) -> None:
    """List the rules of alerts and what they say now.

    Example: [bold]servable alerts[/bold]
    """
    from servable.cli import drift_tables
    from servable.workflows.alerting import alerts as work

    Screen(as_json=as_json).show(work(home=home), drift_tables.alerts)
