"""Options that several verbs share, and how their values are read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from servable.errors import SettingInvalid

#: Headings under which ``--help`` groups the options.
DATA = "Data"
SEARCH = "Search"
SERVING = "Serving"
PRIVACY = "Privacy"
TRAFFIC = "Traffic"
COMMON = "Common"


#: Where the demo keeps its models when nobody says.
DEMO_HOME = Path(".servable") / "demo"


def complete_model(incomplete: str) -> list[str]:
    """Model names of the home that start so, for the shell; an unreadable home completes nothing."""
    from servable.errors import ServableError  # Lazily, as all below: completion must answer at once.
    from servable.workflows.look import models

    try:
        return [row.model for row in models() if row.model.startswith(incomplete)]
    except (ServableError, OSError):
        return []


def complete_reference(incomplete: str) -> list[str]:
    """Models that start so; after ``churn:`` its versions, the newest first, after ``churn@`` its aliases."""
    from servable.errors import ServableError
    from servable.workflows.look import models

    for mark in (":", "@"):
        name, found, _ = incomplete.partition(mark)
        if not found:
            continue
        try:
            row = next((row for row in models() if row.model == name), None)
        except (ServableError, OSError):
            return []
        ends = () if row is None else range(row.latest, 0, -1) if mark == ":" else sorted(row.aliases)
        return [said for end in ends if (said := f"{name}{mark}{end}").startswith(incomplete)]
    return complete_model(incomplete)


Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder of the registry and the packages, instead of SERVABLE_HOME.",
        rich_help_panel=COMMON,
        show_default=".servable",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the outcome as one line of JSON.", rich_help_panel=COMMON)
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Also write it as a page of HTML.", show_default=False),
]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:V|@ALIAS]",
        help="A model, one of its versions, or an alias.",
        autocompletion=complete_reference,
        show_default=False,
    ),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A model.", autocompletion=complete_model, show_default=False)
]
NewName = Annotated[
    str, typer.Option("--name", help="Name under which the model is kept.", show_default=False)
]
Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A CSV or Parquet file, one row per line; or a folder with a folder of files for each class.",
        show_default=False,
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Largest difference of a probability or value at which a compiled model counts as equal.",
        rich_help_panel=SERVING,
    ),
]
MaxLoss = Annotated[
    str | None,
    typer.Option(
        "--max-loss",
        metavar="METRIC=NUMBER",
        help="Also try int8 and float16, and serve one if it is faster and no more than this much worse on "
        "held-out rows: accuracy=0.005, rmse=1%.",
        rich_help_panel=SERVING,
        show_default="equal forms only",
    ),
]
Deploy = Annotated[bool, typer.Option("--deploy", help="Deploy the new version.", rich_help_panel=SERVING)]
SignKey = Annotated[
    Path | None,
    typer.Option(
        "--sign-key",
        metavar="FILE",
        help="Sign the new version with this private key; see servable sign.",
        rich_help_panel=SERVING,
        show_default=False,
    ),
]
Private = Annotated[
    list[str] | None,
    typer.Option(
        "--private",
        metavar="COLUMN=drop|hash|encrypt|keep",
        help="What becomes of a column where traffic is captured; texts, pictures and sounds: hash.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Personal = Annotated[
    list[str] | None,
    typer.Option(
        "--personal",
        metavar="COLUMN[=drop|hash|encrypt],...",
        help="Columns that say who somebody is: none of their values is kept in the package or captured, "
        "unless hashed or encrypted.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow code in the model file to run. A pickle can do anything that you can.",
        rich_help_panel=SERVING,
    ),
]


def pairs(given: Iterable[str] | None, option: str, example: str) -> dict[str, str]:
    """Values of the form ``key=value`` as a dict, keys in the order given.

    Raises:
        SettingInvalid: one of them has another form.
    """
    found: dict[str, str] = {}
    for text in given or ():
        key, separator, value = text.rpartition("=")
        if not separator or not key.strip() or not value.strip():
            raise SettingInvalid(f"{option} takes pairs such as {example}, not {text!r}.")
        found[key.strip()] = value.strip()
    return found


def personal(given: Iterable[str] | None) -> dict[str, str]:
    """The columns of ``--personal name,email=hash``, with what becomes of each.

    Raises:
        SettingInvalid: one of them has no name, or says nothing after the sign.
    """
    found: dict[str, str] = {}
    for part in (part.strip() for text in given or () for part in text.split(",")):
        name, separator, choice = part.rpartition("=") if "=" in part else (part, "", "drop")
        if not name.strip() or (separator and not choice.strip()):
            raise SettingInvalid(f"--personal takes columns such as name,email=hash, not {part[:60]!r}.")
        found[name.strip()] = choice.strip()
    return found


def minimums(given: Iterable[str] | None) -> dict[str, float]:
    """The gates of ``--min metric=value``.

    Raises:
        SettingInvalid: not a pair, or not a number.
    """
    found: dict[str, float] = {}
    for metric, value in pairs(given, "--min", "accuracy=0.85").items():
        try:
            found[metric] = float(value)
        except ValueError:
            raise SettingInvalid(f"--min {metric}={value}: {value!r} is not a number.") from None
    return found


#: Kinds that a person may give to a column.
KINDS = ("number", "category", "boolean", "date", "text", "drop")


def split(given: str | None) -> dict[int, float] | None:
    """The shares of ``--split 3=95,4=5``; empty for ``none``, None when nothing is said.

    Raises:
        SettingInvalid: it is neither.
    """
    if given is None or given.strip().lower() == "none":
        return None if given is None else {}
    found: dict[int, float] = {}
    for part in given.split(","):
        version, _, weight = part.strip().partition("=")
        try:
            number, share = int(version), float(weight.removesuffix("%"))
        except ValueError:
            raise SettingInvalid(
                f"--split takes versions and their weights such as 3=95,4=5, or none, not {given[:60]!r}."
            ) from None
        if number in found:
            raise SettingInvalid(f"--split names version {number} twice; name it once.")
        found[number] = share
    return found


def kinds(given: Iterable[str] | None) -> dict[str, str]:
    """The column kinds of ``--kind column=kind``.

    Raises:
        SettingInvalid: not a pair, or no such kind.
    """
    found = pairs(given, "--kind", "postcode=category")
    for column, kind in found.items():
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise SettingInvalid(f"--kind {column}={kind}: there is no kind {kind!r}; kinds are {known}.")
    return found
