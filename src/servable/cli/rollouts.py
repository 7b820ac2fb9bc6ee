"""The verbs that follow rollouts: rollout and watch; and the options by which deploy begins one."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen
from servable.errors import SettingInvalid

if TYPE_CHECKING:
    from servable.workflows.rollout_outcomes import RolloutOutcome

#: Heading under which ``deploy --help`` groups these options.
ROLLOUT = "Rollout"
#: Seconds between two looks with ``--follow``.
_LOOK_S = 1.0

Canary = Annotated[
    str | None,
    typer.Option(
        metavar="PERCENTS",
        help="Let it take over in steps of so much of the requests, such as 1,5,25,100; when it is worse it "
        "goes back by itself.",
        rich_help_panel=ROLLOUT,
    ),
]
Every = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Time that a step lasts at least, such as 30s, 10m or 2h.",
        show_default="10m",
        rich_help_panel=ROLLOUT,
    ),
]
MinRequests = Annotated[
    int | None,
    typer.Option(help="Requests that a step needs.", show_default="200", rich_help_panel=ROLLOUT),
]
MaxErrorRate = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Also go back when more than this share of its requests fails, such as 0.02.",
        rich_help_panel=ROLLOUT,
    ),
]
Patience = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Time after which a step that could not be passed waits for a person.",
        show_default="ten steps, at least 1h",
        rich_help_panel=ROLLOUT,
    ),
]
Shadow = Annotated[
    bool,
    typer.Option("--shadow", help="Only send it copies of requests and compare.", rich_help_panel=ROLLOUT),
]
Mirror = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Share of the requests of which a shadow gets copies.",
        show_default="1",
        rich_help_panel=ROLLOUT,
    ),
]
Bandit = Annotated[
    str | None,
    typer.Option(
        metavar="VERSIONS",
        help="Let versions such as 3,4 share the requests with the deployed one, by the rewards fed back.",
        rich_help_panel=ROLLOUT,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (rollout, watch):
        app.command(epilog=exits.EPILOG)(verb)


def versions(text: str | None) -> list[int] | None:
    """The numbers of ``--bandit``.

    Raises:
        SettingInvalid: they are none.
    """
    if text is None:
        return None
    try:
        return [int(part.strip().removeprefix("v")) for part in text.split(",")]
    except ValueError:
        raise SettingInvalid(f"--bandit takes versions such as 3,4, not {text[:60]!r}.") from None


def rollout(
    name: options.Name,
    advance: Annotated[
        bool, typer.Option("--advance", help="Let the next step begin now, or deploy after the last one.")
    ] = False,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Stay in this step until --resume; a worse version still goes back."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let a held rollout go on.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Let the champion answer everything again.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show it until it ends; exit code 5 when it went back.")
    ] = False,
    report: options.Report = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Show a rollout: its steps, the evidence with intervals, what was decided and why; or decide about it.

    Without an option it only looks. With --json --follow there is a line for every change.

    --report writes a page with the evidence of each step and how it grew; with --follow at the end.

    Example: [bold]servable rollout churn --follow[/bold], [bold]servable rollout churn --abort[/bold]

    Example: [bold]servable rollout churn --report rollout.html[/bold]
    """
    from servable.cli import rollout_tables
    from servable.workflows.rollouts import change_rollout, ended_badly, show_rollout

    given = {"advance": advance, "hold": hold, "resume": resume, "abort": abort}
    actions = [action for action, said in given.items() if said]
    if len(actions) > 1:
        raise SettingInvalid(f"--{actions[0]} and --{actions[1]} exclude each other; give one.")
    screen = Screen(as_json=as_json)
    for action in actions:
        change_rollout(name, action, home=home)  # type: ignore[arg-type]
    if follow:
        _follow(screen, lambda: show_rollout(name, home=home))
    found = show_rollout(name, report=report, home=home)
    if not follow:
        screen.show(found, rollout_tables.rollout)
    if report is not None:
        screen.note(f"Report   {report}")
    if follow and ended_badly(found):
        raise typer.Exit(exits.VERDICT)


def watch(
    once: Annotated[bool, typer.Option("--once", help="Do everything once and end.")] = False,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Follow the rollouts, live quality, drift and alerts of a home until Ctrl-C.

    A server starts this by itself while there is something to follow; of several watchers of a home one acts.

    Example: [bold]servable watch[/bold], [bold]servable watch --once[/bold]
    """
    from servable import logs
    from servable.cli import rollout_tables
    from servable.settings import load_settings
    from servable.workflows.watch import watch as work

    settings = load_settings({"home": home})
    logs.configure(settings.log_level, settings.log_format)
    outcome = work(settings.home, once=once)
    if once:
        Screen(as_json=as_json).show(outcome, rollout_tables.watched)


def _follow(screen: Screen, look: "Callable[[], RolloutOutcome]") -> None:
    """Show a rollout as it changes until it ends."""
    import time

    from rich.console import Group
    from rich.live import Live

    from servable.cli import rollout_tables

    found = look()
    if screen.as_json:
        screen.show(found, rollout_tables.rollout)
        while not found.ended_at:
            time.sleep(_LOOK_S)
            before, found = found, look()
            if (found.state, found.step, found.events) != (before.state, before.step, before.events):
                screen.show(found, rollout_tables.rollout)
    else:
        with Live(Group(*rollout_tables.rollout(found)), console=screen.out) as live:
            while not found.ended_at:
                time.sleep(_LOOK_S)
                found = look()
                live.update(Group(*rollout_tables.rollout(found)))
