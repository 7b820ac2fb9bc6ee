"""The options of the verbs that make models, each said once for all verbs that have it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from servable.cli import options

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
        show_default="60 for tables, 270 for pictures and sounds",
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
