"""The verb of the loop: update."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

if TYPE_CHECKING:
    from servable.updating.options import UpdateOptions
    from servable.updating.plan import Triggers
    from servable.updating.update import UpdateOutcome

WHEN, ROWS, GATE = "When", "Rows", "Gate"
Every = Annotated[
    str | None,
    typer.Option(metavar="SPAN", help="A turn is due after so long: 6h, 1d.", rich_help_panel=WHEN),
]
Cron = Annotated[
    str,
    typer.Option(
        metavar="EXPRESSION",
        help='A turn is due at these moments: "0 3 * * 1" is Mondays at three.',
        rich_help_panel=WHEN,
    ),
]
Timezone = Annotated[
    str,
    typer.Option(
        metavar="ZONE", help="In which --cron is read, such as Europe/Berlin.", rich_help_panel=WHEN
    ),
]
Labels = Annotated[
    int, typer.Option(min=0, help="A turn is due after so many new labels.", rich_help_panel=WHEN)
]
Drift = Annotated[
    bool, typer.Option("--drift", help="A turn is due when drift was found.", rich_help_panel=WHEN)
]
Quality = Annotated[
    bool,
    typer.Option("--quality", help="A turn is due when live answers got worse.", rich_help_panel=WHEN),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Go on: look again and again until stopped.", rich_help_panel=WHEN)
]
Poll = Annotated[
    float,
    typer.Option(min=0.05, help="Seconds between two looks, with --watch.", rich_help_panel=WHEN),
]
WindowRows = Annotated[
    int,
    typer.Option("--window", min=0, help="Newest rows to learn from; 0 for all.", rich_help_panel=ROWS),
]
HalfLife = Annotated[
    int,
    typer.Option(
        min=0, help="Rows after which an older one counts half; 0: all count alike.", rich_help_panel=ROWS
    ),
]
HeldOut = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of the rows the present version never saw that both are measured on.",
        rich_help_panel=ROWS,
    ),
]
Fewest = Annotated[int, typer.Option(min=1, help="Fewest rows to measure on.", rich_help_panel=ROWS)]
Original = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Where the rows of the first training lie now.",
        show_default="where they lay",
        rich_help_panel=ROWS,
    ),
]
Metric = Annotated[
    str,
    typer.Option(
        help="What is compared.", show_default="what the recipe was chosen by", rich_help_panel=GATE
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        help="By how much the new version must be better; below 0: by how much it may be worse.",
        rich_help_panel=GATE,
    ),
]
Confidence = Annotated[
    float,
    typer.Option(min=0.5, max=0.9999, help="How sure that must be.", rich_help_panel=GATE),
]
FavourWhom = Annotated[
    Literal["present", "newer", "drift"],
    typer.Option(
        help="Which version has the benefit of the doubt; drift: the newer one where drift was found.",
        rich_help_panel=GATE,
    ),
]
Slice = Annotated[
    list[str] | None,
    typer.Option(
        "--slice",
        metavar="COLUMN[=VALUE]",
        help="Rows that must not get worse by themselves; may be repeated.",
        rich_help_panel=GATE,
    ),
]
Slower = Annotated[
    float,
    typer.Option(min=1.0, help="How many times as long an answer may take.", rich_help_panel=GATE),
]
DeployHow = Annotated[
    Literal["now", "canary", "shadow", "never"],
    typer.Option(help="What happens to a version that passed.", rich_help_panel=GATE),
]
Steps = Annotated[
    str,
    typer.Option(help="With --deploy canary: shares of the requests in percent.", rich_help_panel=GATE),
]
StepTime = Annotated[
    str, typer.Option("--step-time", help="How long a step lasts at least.", rich_help_panel=GATE)
]
NoRefit = Annotated[
    bool,
    typer.Option(
        "--no-refit", help="Serve what was measured, without the newest rows.", rich_help_panel=ROWS
    ),
]
Online = Annotated[
    bool,
    typer.Option(
        "--online", help="Let it learn on from where it is, instead of fitting it anew.", rich_help_panel=ROWS
    ),
]
NoTune = Annotated[
    bool,
    typer.Option("--no-tune", help="Do not search session options.", rich_help_panel=options.SERVING),
]
History = Annotated[bool, typer.Option("--history", help="Show the last turns and make none.")]
Turn = Annotated[
    int | None,
    typer.Option("--turn", min=1, metavar="NUMBER", help="Show this turn and make none.", show_default=False),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Also write a page of HTML: about the turn, or with --history or --watch about all turns.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(epilog=exits.EPILOG)(update)


def update(
    name: options.Name, every: Every = None, cron: Cron = "", timezone: Timezone = "UTC", labels: Labels = 0,
    drift: Drift = False, quality: Quality = False, watch: Watch = False, poll: Poll = 30.0,
    window: WindowRows = 0, half_life: HalfLife = 0, held_out: HeldOut = 0.5, fewest: Fewest = 100,
    data: Original = None, metric: Metric = "", margin: Margin = 0.0, confidence: Confidence = 0.9,
    favour: FavourWhom = "present", slices: Slice = None, slower: Slower = 3.0, deploy: DeployHow = "now",
    steps: Steps = "1,5,25,100", step_time: StepTime = "10m", no_refit: NoRefit = False,
    no_tune: NoTune = False, online: Online = False, history: History = False, turn: Turn = None,
    report: Report = None, home: options.Home = None, as_json: options.AsJson = False,
) -> None:  # fmt: skip
    """Make the next version from labelled traffic, behind a gate, and let it take over.

    Without --every, --cron, --labels, --drift or --quality a turn is made at once. A turn that was
    interrupted is gone on with first.

    Example: [bold]servable update churn[/bold]
    [bold]servable update churn --watch --every 1d --labels 5000 --drift[/bold]
    [bold]servable update churn --watch --cron "0 3 * * 1" --timezone Europe/Berlin[/bold]
    [bold]servable update churn --watch --online --labels 500[/bold]
    [bold]servable update churn --history --report turns.html[/bold]
    [bold]servable update churn --turn 7 --report turn.html[/bold]
    """
    from servable.updating.gate import GateRules
    from servable.updating.options import UpdateOptions
    from servable.updating.window import Window

    screen = Screen(as_json=as_json)
    if history or turn is not None:
        _tell(name, turn, screen, report, home)
        return
    asked = UpdateOptions(
        triggers=_triggers(every, cron, timezone, labels, drift, quality, fewest),
        window=Window(rows=window, half_life=half_life, held_out=held_out, fewest=fewest),
        gate=GateRules(
            metric=metric, margin=margin, confidence=confidence, favour=favour, slices=tuple(slices or ()),
            slower=slower,
        ),
        deploy=deploy, steps=steps, every=step_time, data=str(data) if data is not None else "",
        refit=not no_refit, online=online, tune=not no_tune,
    )  # fmt: skip
    if watch:
        _watch(name, asked, screen, poll, report, home)
    else:
        _turn(name, asked, screen, report, home)


def _triggers(
    every: str | None, cron: str, timezone: str, labels: int, drift: bool, quality: bool, fewest: int
) -> "Triggers":
    """What makes a turn due.

    Raises:
        SettingInvalid: the span or the schedule is none.
    """
    from servable.updating.plan import Triggers, seconds_of
    from servable.updating.schedule import check_schedule

    span_s = seconds_of(every) if every else 0.0
    if cron:
        check_schedule(cron, timezone)
    return Triggers(
        every_s=span_s, cron=cron, timezone=timezone, labels=labels, drift=drift, quality=quality,
        fewest=fewest,
    )  # fmt: skip


def _tell(name: str, number: int | None, screen: Screen, report: Path | None, home: Path | None) -> None:
    """Show a turn, or those that were made."""
    from servable.cli import turns
    from servable.updating.update import history, made

    if number is None:
        screen.show(history(name, home=home), turns.history)
    else:
        screen.show(made(name, number, home=home), turns.made)
    if report is not None:
        _write(name, number, screen, report, home)


def _write(name: str, number: int | None, screen: Screen, report: Path, home: Path | None) -> None:
    """Write the page of a turn, or of all turns."""
    from servable.updating.reports import write_history, write_turn

    if number is None:
        write_history(name, report, home=home)
    else:
        write_turn(name, number, report, home=home)
    screen.note(f"Report   {report}")


def _turn(name: str, asked: "UpdateOptions", screen: Screen, report: Path | None, home: Path | None) -> None:
    """Make a turn if one is due, and end with the verdict's exit code where the gate said no."""
    from servable.cli import turns
    from servable.updating.update import update

    with screen.progress() as progress:
        outcome = update(name, asked, home=home, progress=progress)
    screen.show(outcome, turns.updated)
    if report is not None and outcome.turn is not None:
        _write(name, outcome.turn.id, screen, report, home)
    if outcome.turn is not None and outcome.turn.state == "refused":
        raise typer.Exit(exits.VERDICT)


def _watch(
    name: str,
    asked: "UpdateOptions",
    screen: Screen,
    poll: float,
    report: Path | None,
    home: Path | None,
) -> None:
    """Watch until a signal comes; a turn that runs is finished first, a second signal ends it at once."""
    import signal
    import threading

    from servable import logs
    from servable.cli import turns
    from servable.errors import SettingInvalid
    from servable.settings import load_settings
    from servable.updating.watch import watch

    if asked.triggers.always:
        raise SettingInvalid(
            "--watch needs to know when: add --every, --cron, --labels, --drift or --quality."
        )
    settings = load_settings({"home": home})
    logs.configure(settings.log_level, settings.log_format)
    over = threading.Event()

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)

    def tell(outcome: "UpdateOutcome") -> None:
        screen.show(outcome, turns.updated)
        if report is not None:
            _write(name, None, screen, report, home)

    watch(name, asked, home=home, poll_s=poll, ended=over, told=tell)
