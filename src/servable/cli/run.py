"""The verbs that decide what is served: deploy, rollback, undeploy; with serve and call beside them."""

from typing import Annotated, Literal

import typer

from servable.cli import calling, exits, options, rollouts, serving
from servable.cli.output import Screen
from servable.errors import SettingInvalid

ExecutorName = Literal["auto", "inline", "thread", "process"]
Default = Annotated[bool, typer.Option("--default", help="Also make it the model that POST /predict asks.")]
Executor = Annotated[
    ExecutorName | None,
    typer.Option(help="Where it runs; auto: by measurement at load.", rich_help_panel=options.SERVING),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        help="What computes it: cpu, cuda, cuda:1, or auto for the fastest that is there.",
        rich_help_panel=options.SERVING,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        help="Model processes for each HTTP process, with --executor process.",
        rich_help_panel=options.SERVING,
    ),
]
Share = Annotated[
    bool | None,
    typer.Option(
        "--share/--no-share",
        help="Hold it once for all HTTP processes instead of once for each; the usual on a GPU.",
        rich_help_panel=options.SERVING,
        show_default=False,
    ),
]
Spares = Annotated[
    int | None,
    typer.Option(
        help="Model processes more, kept ready to stand in for one that died.",
        rich_help_panel=options.SERVING,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Batches at once, with --executor thread; 0: by measurement.",
        rich_help_panel=options.SERVING,
    ),
]
RunLimit = Annotated[
    float | None,
    typer.Option(
        help="Seconds after which a run in a model process counts as hung.",
        rich_help_panel=options.SERVING,
    ),
]
MaxBatch = Annotated[
    int | None,
    typer.Option(
        help="Most rows in one batch; 0: by measurement, 1: no batching.",
        rich_help_panel=options.SERVING,
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Keep answers up to this size, such as 64MiB; 0: keep none.",
        rich_help_panel=options.SERVING,
    ),
]
CacheAge = Annotated[
    float | None,
    typer.Option(help="Seconds for which a kept answer is given.", rich_help_panel=options.SERVING),
]
Pin = Annotated[
    bool | None,
    typer.Option(
        "--pin/--no-pin",
        help="Never unload it to make room for others.",
        rich_help_panel=options.SERVING,
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="V=WEIGHT,...",
        help="Divide the requests among versions, such as 3=95,4=5; none ends it.",
        rich_help_panel=options.TRAFFIC,
        show_default=False,
    ),
]
Sticky = Annotated[
    str | None,
    typer.Option(
        metavar="HEADER",
        help="The header that keeps a caller with one version while requests are divided.",
        rich_help_panel=options.TRAFFIC,
        show_default="X-Servable-Key",
    ),
]
Capture = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE|off",
        help="Record this share of the requests with their answers, such as 1.0 or 0.1.",
        rich_help_panel=options.SERVING,
    ),
]
CaptureSubject = Annotated[
    str | None,
    typer.Option(
        metavar="INPUT",
        help="The input that says whom a request is about, or header:NAME (gRPC: metadata): what is "
        "captured is encrypted with a key of that subject, so that servable privacy can export and erase it; "
        "none for nobody.",
        rich_help_panel=options.SERVING,
        show_default=False,
    ),
]
Network = Annotated[
    bool | None,
    typer.Option(
        "--network/--no-network",
        help="Let the processes of the model connect to others, or not whatever its author declares.",
        rich_help_panel=options.SERVING,
        show_default="as its author declares",
    ),
]
Programs = Annotated[
    bool | None,
    typer.Option(
        "--programs/--no-programs",
        help="Let the processes of the model start programs, or not whatever its author declares.",
        rich_help_panel=options.SERVING,
        show_default="as its author declares",
    ),
]
ResetPolicy = Annotated[
    bool,
    typer.Option(
        "--reset-policy",
        help="Forget what earlier deployments said about all of these.",
        rich_help_panel=options.SERVING,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file, and serve and call."""
    for verb in (deploy, rollback, undeploy):
        app.command(epilog=exits.EPILOG)(verb)
    serving.register(app)
    calling.register(app)


def deploy(
    reference: options.Reference,
    default: Default = False,
    executor: Executor = None,
    device: Device = None,
    processes: Processes = None,
    share: Share = None,
    spares: Spares = None,
    threads: Threads = None,
    run_limit: RunLimit = None,
    max_batch: MaxBatch = None,
    cache: Cache = None,
    cache_age: CacheAge = None,
    pin: Pin = None,
    split: Split = None,
    sticky: Sticky = None,
    capture: Capture = None,
    capture_subject: CaptureSubject = None,
    network: Network = None,
    programs: Programs = None,
    reset_policy: ResetPolicy = False,
    canary: rollouts.Canary = None,
    every: rollouts.Every = None,
    min_requests: rollouts.MinRequests = None,
    max_error_rate: rollouts.MaxErrorRate = None,
    patience: rollouts.Patience = None,
    shadow: rollouts.Shadow = False,
    mirror: rollouts.Mirror = None,
    bandit: rollouts.Bandit = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Serve a version; running servers of this home switch to it without losing a request.

    How it is served stays as earlier deployments of the model said, except for what is said now.

    Example: [bold]servable deploy churn:3 --executor process --processes 2[/bold],
    [bold]servable deploy churn --split 3=95,4=5 --sticky X-Customer[/bold],
    [bold]servable deploy prices --network[/bold],
    [bold]servable deploy churn:4 --canary 1,5,25,100 --every 10m[/bold],
    [bold]servable deploy churn:4 --shadow --mirror 0.5[/bold],
    [bold]servable deploy churn --bandit 3,4[/bold],
    [bold]servable deploy churn --capture 1.0 --capture-subject customer_id[/bold]
    """
    from servable.cli import tables
    from servable.workflows.deploy import deploy as work

    outcome = work(
        reference, default=default, executor=executor, device=device, processes=processes, share=share,
        spares=spares, threads=threads, run_limit_s=run_limit, max_batch=max_batch, cache=cache,
        cache_age_s=cache_age, pin=pin, split=options.split(split), sticky=sticky,
        capture=_share(capture), capture_subject=capture_subject, network=network,
        programs=programs, reset_policy=reset_policy,
        canary=canary, every=every, min_requests=min_requests, max_error_rate=max_error_rate,
        patience=patience, shadow=shadow, mirror=mirror, bandit=rollouts.versions(bandit), home=home,
    )  # fmt: skip
    Screen(as_json=as_json).show(outcome, tables.deployed)


def _share(text: str | None) -> float | None:
    """The share that the value of ``--capture`` means.

    Raises:
        SettingInvalid: it is none.
    """
    if text is None or text.strip().lower() == "off":
        return None if text is None else 0.0
    try:
        return float(text)
    except ValueError:
        raise SettingInvalid(f"--capture takes a share from 0 to 1 or off, not {text[:60]!r}.") from None


def rollback(name: options.Name, home: options.Home = None, as_json: options.AsJson = False) -> None:
    """Go back to the version that was served before.

    While requests are divided, or a canary, shadow or bandit goes on, that is ended and the deployed version
    answers all requests; a second time goes back to the version before it.

    Example: [bold]servable rollback churn[/bold]
    """
    from servable.cli import tables
    from servable.workflows.deploy import rollback as work

    Screen(as_json=as_json).show(work(name, home=home), tables.deployed)


def undeploy(name: options.Name, home: options.Home = None, as_json: options.AsJson = False) -> None:
    """Stop serving a model; its versions stay in the home.

    Example: [bold]servable undeploy churn[/bold]
    """
    from servable.cli import tables
    from servable.workflows.deploy import undeploy as work

    Screen(as_json=as_json).show(work(name, home=home), tables.deployed)
