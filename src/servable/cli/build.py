"""The verbs that make models: select, train, evaluate, add, optimize."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from servable.cli import exits, options
from servable.cli.output import Screen

TaskName = Literal["classification", "regression", "clustering"]

Target = Annotated[
    str | None,
    typer.Option(help="The column to predict; not needed for clustering.", rich_help_panel=options.DATA),
]
Task = Annotated[
    TaskName | None,
    typer.Option(help="What to do; found from the target when not given.", rich_help_panel=options.DATA),
]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="COLUMN=KIND",
        help=f"Overrule a column's kind ({', '.join(options.KINDS)}); may be repeated.",
        rich_help_panel=options.DATA,
    ),
]
TimeOrder = Annotated[
    bool,
    typer.Option(
        "--time-order",
        help="Rows are in order of time: learn from earlier ones, test on later ones.",
        rich_help_panel=options.DATA,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--time-budget",
        min=0.0,
        help="Seconds for the search.",
        show_default="60 for tables, 240 for pictures and sounds",
        rich_help_panel=options.SEARCH,
    ),
]
Seed = Annotated[int, typer.Option(help="Makes the run repeatable.", rich_help_panel=options.SEARCH)]
Candidate = Annotated[
    str, typer.Option(help="The candidate to train, or auto.", rich_help_panel=options.SEARCH)
]
Online = Annotated[
    bool,
    typer.Option(
        "--online",
        help="Compare models that learn row by row, and go on learning with update --online.",
        rich_help_panel=options.SEARCH,
    ),
]
Holdout = Annotated[
    float,
    typer.Option(
        min=0.01, max=0.9, help="Share of rows kept for the evaluation.", rich_help_panel=options.DATA
    ),
]
Unknown = Annotated[
    Literal["accept", "refuse"],
    typer.Option(help="What to do with categories never seen.", rich_help_panel=options.SERVING),
]
Refit = Annotated[
    bool | None,
    typer.Option(
        "--refit/--no-refit",
        help="Once it is measured, fit it again with the held-out rows too.",
        show_default="with --time-order",
        rich_help_panel=options.SEARCH,
    ),
]
PrivacyEpsilon = Annotated[
    float | None,
    typer.Option(
        help="Train with differential privacy within this budget; 1 is strong, 10 is weak. A linear "
        "model of a table or of texts, or with --model dp_forest a forest.",
        rich_help_panel=options.PRIVACY,
        show_default=False,
    ),
]
PrivacyDelta = Annotated[
    float | None,
    typer.Option(
        help="The chance that it does not hold; dp_forest has none and takes none.",
        rich_help_panel=options.PRIVACY,
        show_default="1 in 10 times the rows",
    ),
]
Bounds = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What everybody may know of the columns: ranges, values, how texts are read; TOML or JSON.",
        rich_help_panel=options.PRIVACY,
        show_default=False,
    ),
]
ModelPath = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", help="A model file or folder; docs/frameworks.md lists them.", show_default=False
    ),
]
Sample = Annotated[
    Path | None,
    typer.Option(
        help="Rows that the model accepts (CSV, Parquet, a folder of files, a CSV of their paths): gives "
        "names, kinds, ranges and proof.",
        rich_help_panel=options.DATA,
    ),
]
SampleTarget = Annotated[
    str | None,
    typer.Option(help="The sample's column that holds the answer.", rich_help_panel=options.DATA),
]
Describe = Annotated[
    Path | None,
    typer.Option(
        help="What the file does not say (task, labels, scores, inputs, entry, files), as TOML or JSON.",
        rich_help_panel=options.DATA,
    ),
]
Labels = Annotated[
    str,
    typer.Option(
        help="A classifier's classes in the order of its scores: a,b,c or a file with one a line.",
        rich_help_panel=options.DATA,
    ),
]
Entry = Annotated[
    str,
    typer.Option(
        metavar="FILE.py:NAME",
        help="The class or function that belongs to the file.",
        rich_help_panel=options.DATA,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (select, train, evaluate, add, optimize):
        app.command(epilog=exits.EPILOG)(verb)


def select(
    data: options.Data,
    target: Target = None,
    task: Task = None,
    kind: Kind = None,
    models: Annotated[
        str,
        typer.Option(help="Candidates, comma-separated, or auto.", rich_help_panel=options.SEARCH),
    ] = "auto",
    online: Annotated[
        bool,
        typer.Option(
            "--online",
            help="Compare models that learn row by row too, in the order of the file.",
            rich_help_panel=options.SEARCH,
        ),
    ] = False,
    folds: Annotated[
        int, typer.Option(min=2, help="Parts of the cross-validation.", rich_help_panel=options.SEARCH)
    ] = 5,
    time_order: TimeOrder = False,
    time_budget: Budget = None,
    max_loss: options.MaxLoss = None,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Compare candidates by cross-validation, with the time that a row takes as served.

    Example: [bold]servable select customers.csv --target churned --max-loss accuracy=0.005[/bold]
    [bold]servable select customers.csv --target churned --online[/bold]
    """
    from servable.cli import tables
    from servable.workflows.select import select as work

    screen = Screen(as_json=as_json)
    wanted = "auto" if models == "auto" else [name.strip() for name in models.split(",") if name.strip()]
    with screen.progress() as progress:
        board = work(
            data,
            target=target,
            task=task,
            kinds=options.kinds(kind),
            models=wanted,
            online=online,
            folds=folds,
            time_order=time_order,
            time_budget_s=time_budget,
            max_loss=max_loss,
            seed=seed,
            progress=progress,
        )
    screen.show(board, tables.leaderboard)


def train(
    data: options.Data,
    name: options.NewName,
    target: Target = None,
    task: Task = None,
    kind: Kind = None,
    model: Candidate = "auto",
    online: Online = False,
    time_budget: Budget = None,
    time_order: TimeOrder = False,
    holdout: Holdout = 0.2,
    unknown: Unknown = "accept",
    tolerance: options.Tolerance = 1e-4,
    max_loss: options.MaxLoss = None,
    refit: Refit = None,
    seed: Seed = 0,
    private: options.Private = None,
    personal: options.Personal = None,
    privacy_epsilon: PrivacyEpsilon = None,
    privacy_delta: PrivacyDelta = None,
    bounds: Bounds = None,
    deploy: options.Deploy = False,
    sign_key: options.SignKey = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Choose, tune, train, evaluate, compile and prove a model, and keep it as a new version.

    Example:
    [bold]servable train customers.csv --target churned --name churn --deploy[/bold]
    [bold]servable train customers.csv --target churned --name churn --personal name,email=hash[/bold]
    [bold]servable train patients.csv --target ill --name ill --privacy-epsilon 1 --bounds bounds.toml[/bold]
    """
    from servable.cli import tables
    from servable.workflows.train import train as work

    screen = Screen(as_json=as_json)
    with screen.progress() as progress:
        outcome = work(
            data,
            target=target,
            name=name,
            model=model,
            online=online,
            task=task,
            kinds=options.kinds(kind),
            time_budget_s=time_budget,
            time_order=time_order,
            holdout=holdout,
            unknown=unknown,
            tolerance=tolerance,
            max_loss=max_loss,
            refit=refit,
            seed=seed,
            private=options.pairs(private, "--private", "email=drop"),
            personal=options.personal(personal),
            privacy_epsilon=privacy_epsilon,
            privacy_delta=privacy_delta,
            bounds=bounds,
            deploy=deploy,
            sign_key=sign_key,
            home=home,
            progress=progress,
        )
    screen.show(outcome, tables.trained)


def evaluate(
    reference: options.Reference,
    data: options.Data,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="METRIC=VALUE",
            help="A gate: exit with 5 when the metric is worse; may be repeated.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The column with the right answers, if not named as when the model was made."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write the HTML report.", show_default=False)
    ] = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a version on labelled rows, and hold it against gates.

    Example: [bold]servable evaluate churn@champion march.csv --min accuracy=0.85[/bold]
    or [bold]servable evaluate pets pictures/ --report pets.html[/bold] with a folder for each class
    """
    from servable.cli import tables
    from servable.workflows.evaluate import evaluate as work

    screen = Screen(as_json=as_json)
    minimums = options.minimums(minimum)
    with screen.progress() as progress:
        outcome = work(
            reference, data, target=target, minimums=minimums, report=report, home=home, progress=progress
        )
    screen.show(outcome, tables.evaluated)
    if not outcome.passed:
        raise typer.Exit(exits.VERDICT)


def add(
    path: ModelPath,
    name: options.NewName,
    sample: Sample = None,
    target: SampleTarget = None,
    describe: Describe = None,
    labels: Labels = "",
    entry: Entry = "",
    trust: options.Trust = False,
    tolerance: options.Tolerance = 1e-4,
    max_loss: options.MaxLoss = None,
    private: options.Private = None,
    personal: options.Personal = None,
    deploy: options.Deploy = False,
    sign_key: options.SignKey = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Take in a model trained elsewhere, compile it and prove it equal.

    Example:
    [bold]servable add model.skops --name churn --sample customers.csv --deploy[/bold]
    [bold]servable add net.onnx --describe net.toml --labels cat,dog --sample pictures/ --name pets[/bold]
    [bold]servable add mlp.skops --sample held_out.csv --target y --max-loss f1=0.01 --name churn[/bold]
    [bold]servable add weights.pt --entry net.py:Net --labels cat,dog --describe net.toml --name pets[/bold]
    """
    from servable.cli import tables
    from servable.workflows.add import add as work
    from servable.workflows.hints import hints_of

    screen = Screen(as_json=as_json)
    with screen.progress() as progress:
        outcome = work(
            path,
            name=name,
            sample=sample,
            target=target,
            hints=hints_of(describe, labels=labels, entry=entry),
            trust=trust,
            tolerance=tolerance,
            max_loss=max_loss,
            private=options.pairs(private, "--private", "email=drop"),
            personal=options.personal(personal),
            deploy=deploy,
            sign_key=sign_key,
            home=home,
            progress=progress,
        )
    screen.show(outcome, tables.added)


def optimize(
    reference: options.Reference,
    sample: Annotated[
        Path | None,
        typer.Option(
            help="Rows for the proof (CSV, Parquet, a folder of files, a CSV of their paths); those kept in "
            "the package when not given."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The sample's column with the true answers, if not named as the model's answer."),
    ] = None,
    tolerance: options.Tolerance = 1e-4,
    max_loss: options.MaxLoss = None,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Compile a version anew, prove each form equal to the trained one, and serve the fastest.

    Example:
    [bold]servable optimize churn:3[/bold]
    [bold]servable optimize churn:3 --max-loss accuracy=0.005[/bold]
    """
    from servable.cli import tables
    from servable.workflows.optimize import optimize as work

    screen = Screen(as_json=as_json)
    with screen.progress() as progress:
        outcome = work(
            reference,
            sample=sample,
            target=target,
            tolerance=tolerance,
            max_loss=max_loss,
            home=home,
            progress=progress,
        )
    screen.show(outcome, tables.optimized)
