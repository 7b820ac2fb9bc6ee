"""The verb that answers every row of a file: score."""

from pathlib import Path
from typing import Annotated

import typer

from servable.cli import exits, options
from servable.cli.output import Screen, complain

Rows = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="CSV, JSON lines (both also .gz, .zst, .bz2) or Parquet; may be larger than memory.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="What to write: .csv, .jsonl, .ndjson, .parquet or .pq.",
        show_default=False,
        rich_help_panel=options.DATA,
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMNS",
        help="Columns of the input to write beside the answers, comma-separated; all when not given.",
        rich_help_panel=options.DATA,
    ),
]
OnlyAnswers = Annotated[
    bool,
    typer.Option("--only-answers", help="Write no column of the input.", rich_help_panel=options.DATA),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an output that exists.", rich_help_panel=options.DATA),
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Throw away what an interrupted run has finished, instead of going on from there.",
        rich_help_panel=options.DATA,
    ),
]
BatchRows = Annotated[
    int,
    typer.Option(
        min=0,
        help="Rows that are answered at once; 0: to suit the model.",
        rich_help_panel=options.SERVING,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(epilog=exits.EPILOG)(score)


def score(
    reference: options.Reference,
    data: Rows,
    output: Output,
    keep: Keep = None,
    only_answers: OnlyAnswers = False,
    overwrite: Overwrite = False,
    restart: Restart = False,
    batch_rows: BatchRows = 0,
    home: options.Home = None,
    as_json: options.AsJson = False,
) -> None:
    """Answer every row of a file; needs no server, and goes on where it was after an interruption.

    Example: [bold]servable score churn customers.csv --output answers.parquet[/bold]

    Example: [bold]servable score churn@champion big.csv.gz -o answers.csv --keep id,name[/bold]
    """
    from servable.cli import tables
    from servable.workflows.score import score as work

    screen = Screen(as_json=as_json)
    kept = None if keep is None else [name.strip() for name in keep.split(",") if name.strip()]
    try:
        with screen.progress() as progress:
            outcome = work(
                reference,
                data,
                output=output,
                keep=kept,
                only_answers=only_answers,
                batch_rows=batch_rows,
                overwrite=overwrite,
                restart=restart,
                home=home,
                progress=progress,
            )
    except KeyboardInterrupt:
        complain(
            f"Interrupted; what is finished lies in {output}.parts. Run the same command again to go on "
            "from there, or with --restart to begin anew."
        )
        raise typer.Exit(exits.INTERRUPTED) from None
    screen.show(outcome, tables.scored)
