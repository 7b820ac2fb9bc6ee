"""Outcomes as Rich tables. Pure: a record in, something to print out."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape
from rich.panel import Panel

from servable.cli.cells import duration, number, plain_table
from servable.cli.quality_tables import live_quality
from servable.cli.wording import alarms, percent, planned, shares, wishes

if TYPE_CHECKING:
    from servable.workflows.outcomes import (
        AddOutcome,
        ColumnNote,
        DeployOutcome,
        Description,
        EvaluateOutcome,
        Leaderboard,
        ModelRow,
        OptimizeOutcome,
        ScoreOutcome,
        TrainOutcome,
        VariantRow,
    )

#: From here on a difference counts as unbounded.
_UNBOUNDED = 1e300
#: The longest list of columns that is printed whole.
_COLUMNS_SHOWN = 40
#: A table of answers by class is printed up to so many classes, whose names are cut here.
_MOST_CLASSES, _CLASS_WIDTH = 12, 12


def leaderboard(board: "Leaderboard") -> Iterator[RenderableType]:
    """Candidates, best first, with the score and the time of one row as served."""
    better = "higher is better" if board.higher_is_better else "lower is better"
    target = f", target {escape(board.target)}" if board.target else ""
    lossy = any(entry.loss is not None for entry in board.entries)
    online = any(entry.online for entry in board.entries)
    numeric = ("score", "±", *(("as served",) if lossy else ()), "fit", "trained", "served")
    table = plain_table(
        f"{board.task}{target}, {board.rows_total:,} rows, {board.metric} ({better})",
        "candidate",
        *(("learns",) if online else ()),
        *numeric,
        "variant",
        "note",
        right=numeric,
    )
    for place, entry in enumerate(board.entries):
        trained, served = entry.trained_us_per_row, entry.served_us_per_row
        table.add_row(
            escape(entry.name),
            *(("online" if entry.online else "anew",) if online else ()),
            number(entry.score),
            number(entry.score_std),
            *((number(entry.served_score),) if lossy else ()),
            duration(entry.fit_seconds),
            duration(None if trained is None else trained / 1e6),
            duration(None if served is None else served / 1e6),
            escape(entry.served_variant),
            escape(entry.note),
            style="bold green" if place == 0 else None,
        )
    yield table
    yield columns(board.columns)


def columns(notes: "tuple[ColumnNote, ...]") -> RenderableType:
    """What was made of each column."""
    table = plain_table("Columns", "column", "kind", "note")
    for note in notes[:_COLUMNS_SHOWN]:
        table.add_row(escape(note.name), note.kind, escape(note.note))
    if len(notes) > _COLUMNS_SHOWN:
        table.add_row(f"... and {len(notes) - _COLUMNS_SHOWN} more", "", "")
    return table


def metrics(
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    baseline: Mapping[str, float] | None = None,
    title: str = "Metrics on rows that training never saw",
) -> RenderableType:
    """Metrics with their 95 % intervals and the baseline's, where there are any."""
    heads = ["metric", "value"]
    if intervals:
        heads.append("95 % interval")
    if baseline:
        heads.append("linear baseline")
    table = plain_table(title, *heads, right=heads[1:])
    for name, value in values.items():
        cells = [escape(name), number(value)]
        if intervals:
            low_high = intervals.get(name)
            cells.append("" if low_high is None else f"{number(low_high[0])} to {number(low_high[1])}")
        if baseline:
            cells.append(number(baseline.get(name)))
        table.add_row(*cells)
    return table


def variants(rows: "tuple[VariantRow, ...]", title: str = "Variants") -> RenderableType:
    """Every executable form: the proof, the timings, and which one serves.

    A lossy form shows its loss in the metric beside the verdict.
    """
    sizes = sorted({size for row in rows for size in row.timings}, key=int)
    # One limit holds for all lossy forms, so all have the same metric.
    losses = sorted({f"loss of {row.loss.metric}" for row in rows if row.loss is not None})
    heads = ["equal", "rows compared", "labels differ", "worst difference", *losses]
    heads += [f"{size} row{'' if size == '1' else 's'}" for size in sizes] + ["speed-up"]
    table = plain_table(title, "", "variant", *heads, right=heads)
    table.columns[1].no_wrap = True
    # Why a form does not serve is a sentence, too long for a column.
    notes = [f"{row.name}: {row.note}" for row in rows if row.note and (row.loss or not row.equal)]
    table.caption, table.caption_justify = escape("\n".join(notes)) or None, "left"
    for row in rows:
        trained = row.equal is None
        proof = ("-", "-", "-") if trained else _proof(row)
        table.add_row(
            "→" if row.chosen else "",
            escape(row.name),
            "-" if trained else _verdict(row),
            *proof,
            *(_loss(row) for _ in losses),
            *(duration(row.timings.get(size)) for size in sizes),
            "" if row.speedup is None or trained else f"{row.speedup:,.0f}x",
            style="bold" if row.chosen else None,
        )
    return table


def _verdict(row: "VariantRow") -> str:
    """Whether a form may serve, and as what."""
    if row.loss is not None and row.kept:
        return "[yellow]lossy[/yellow]"
    return "[green]yes[/green]" if row.equal and row.kept else "[red]no[/red]"


def _loss(row: "VariantRow") -> str:
    """By how much a lossy form is worse."""
    return "-" if row.loss is None or row.loss.loss is None else f"{row.loss.loss:.2g}"


def _proof(row: "VariantRow") -> tuple[str, str, str]:
    """The figures of a comparison."""
    # A package records a difference without bound as the largest number that there is.
    worst = f"{row.worst_difference:.1e}" if row.worst_difference < _UNBOUNDED else "∞"
    return f"{row.rows_compared:,}", f"{row.label_differences:,}", worst


def trained(outcome: "TrainOutcome") -> Iterator[RenderableType]:
    """What ``train`` made."""
    yield metrics(outcome.metrics, outcome.intervals, outcome.baseline_metrics)
    yield variants(outcome.variants)
    if outcome.dropped:
        yield f"Left out: {escape(', '.join(f'{note.name} ({note.note})' for note in outcome.dropped))}"
    rows = "of them before it had seen these" if outcome.refitted else "others"
    yield (
        f"[bold green]{escape(outcome.model)}:{outcome.version}[/bold green] is {escape(outcome.estimator)}, "
        f"trained on {outcome.rows_train:,} rows and evaluated on {outcome.rows_holdout:,} {rows} "
        f"in {outcome.seconds:.1f} s; it serves as {escape(outcome.serving)}"
        + (" and is deployed." if outcome.deployed else ".")
    )
    yield from (f"[yellow]{escape(sentence)}[/yellow]" for sentence in outcome.suspects)
    yield f"Report   {escape(outcome.report)}"
    if not outcome.deployed:
        yield f"Next     servable deploy {outcome.model}:{outcome.version} && servable serve"


def evaluated(outcome: "EvaluateOutcome") -> Iterator[RenderableType]:
    """What ``evaluate`` measured, and its verdict."""
    yield metrics(outcome.metrics, outcome.intervals, title="Metrics")
    if 0 < len(outcome.classes) <= _MOST_CLASSES:
        names = [escape(name[:_CLASS_WIDTH]) for name in outcome.classes]
        table = plain_table("Truth down, answers across", "", *names, right=names)
        for name, counts in zip(names, outcome.confusion, strict=True):
            table.add_row(name, *(f"{count:,}" for count in counts))
        yield table
    yield f"{escape(outcome.model)}:{outcome.version} on {outcome.rows:,} rows"
    if outcome.report:
        yield f"Report   {escape(outcome.report)}"
    for sentence in outcome.failed:
        yield f"[bold red]Below the gate:[/bold red] {escape(sentence)}"


def added(outcome: "AddOutcome") -> Iterator[RenderableType]:
    """What ``add`` took in."""
    yield variants(outcome.variants)
    shown = ", ".join(outcome.inputs[:8]) + (" ..." if len(outcome.inputs) > 8 else "")
    yield (
        f"[bold green]{escape(outcome.model)}:{outcome.version}[/bold green] is a {outcome.task} model of "
        f"{outcome.framework} with inputs {escape(shown)}; it serves as {escape(outcome.serving)}"
        + (" and is deployed." if outcome.deployed else ".")
    )
    if outcome.note:
        yield escape(outcome.note)
    yield from (f"[yellow]{escape(sentence)}[/yellow]" for sentence in outcome.suspects)
    if not outcome.deployed:
        yield f"Next     servable deploy {outcome.model}:{outcome.version} && servable serve"


def optimized(outcome: "OptimizeOutcome") -> Iterator[RenderableType]:
    """What ``optimize`` proved and timed."""
    yield variants(
        outcome.variants, f"{escape(outcome.model)}:{outcome.version}, equal within {outcome.tolerance:g}"
    )
    yield f"Serves as [bold green]{escape(outcome.serving)}[/bold green]; timed on {escape(outcome.machine)}"


def deployed(outcome: "DeployOutcome") -> Iterator[RenderableType]:
    """What should be served now."""
    name = escape(outcome.model)
    if outcome.ended:
        yield escape(f"{outcome.ended[0].upper()}{outcome.ended[1:]} was ended.")
    if outcome.version is None:
        yield f"{name} is no longer deployed."
        return
    if outcome.rollout is not None:
        from servable.cli.rollout_tables import begun

        yield from begun(outcome.rollout)
        return
    before = f" in place of version {outcome.previous}" if outcome.previous is not None else ""
    default = ", the default model" if outcome.default else ""
    does = "is deployed" if before or outcome.shares or not outcome.ended else "answers all requests"
    yield f"[bold green]{name}:{outcome.version}[/bold green] {does}{before}{default}."
    if outcome.shares:
        yield f"Traffic  {shares(outcome.shares)}"
    if outcome.policy:
        yield f"Policy   {escape(wishes(outcome.policy))}"
    yield "Running servers of this home take it up by themselves; without one: servable serve"


def model_list(rows: "tuple[ModelRow, ...]") -> Iterator[RenderableType]:
    """The models of a home."""
    if not rows:
        yield "No models yet; make one with servable train or servable add."
        return
    numeric = ("versions", "latest", "deployed")
    policies = any(row.policy for row in rows)
    heads = (*numeric, "task", "framework", "metrics", "created", *(["policy"] if policies else []))
    table = plain_table("Models", "model", *heads, right=numeric)
    for row in rows:
        some = ", ".join(f"{name} {number(value)}" for name, value in list(row.metrics.items())[:2])
        serving = "-" if row.deployed is None else str(row.deployed)
        table.add_row(
            escape(row.model),
            str(row.versions),
            str(row.latest),
            serving + (" (default)" if row.default else ""),
            row.task,
            row.framework,
            some,
            row.created_at,
            *([escape(wishes(row.policy)) if row.policy else ""] if policies else []),
        )
    yield table


def description(about: "Description") -> Iterator[RenderableType]:
    """Everything known about one version."""
    lines = [
        f"{about.task}, made by {about.framework}, {about.created_at}",
        f"versions {', '.join(map(str, about.versions))}"
        + (f"; aliases {', '.join(about.aliases)}" if about.aliases else "")
        + ("; deployed" if about.deployed else "")
        + (f"; answers {percent(about.share)} of the requests" if 0 < about.share < 1 else ""),
        *([f"policy: {wishes(about.policy)}"] if about.policy else []),
        *alarms(about.drift, about.firing),
        *planned(about.schedule),
        *(f"{key}: {value}" for key, value in {**about.source, **about.recipe}.items()),
        f"package  {about.package}",
        *([f"report   {about.report}"] if about.report else []),
    ]
    yield Panel(escape("\n".join(lines)), title=f"{escape(about.model)}:{about.version}", title_align="left")
    table = plain_table("Inputs", "name", "kind", "dtype", "missing", "values or range", "example")
    for field in about.signature.inputs:
        table.add_row(
            escape(field.name),
            field.kind,
            field.dtype + (str(list(field.shape)) if field.is_tensor else ""),
            "allowed" if field.missing else "",
            escape(_range(field)),
            escape(_short(field.example)),
        )
    yield table
    yield f"Answer   {escape(about.signature.answer.name)}" + (
        f", one of {escape(_short(list(about.signature.classes)))}" if about.signature.classes else ""
    )
    if about.metrics:
        yield metrics(about.metrics)
    if about.quality is not None and about.quality.whole.metrics:
        yield live_quality(about.quality, "Live quality, by the outcomes that came back")
    yield variants(about.variants)
    yield placements(about.variants)
    for row in about.variants:
        if row.unchecked:
            yield f"What {escape(row.name)} answers is not checked at load: {escape(row.unchecked)}."


def placements(rows: "tuple[VariantRow, ...]") -> RenderableType:
    """Where each form that could serve would run on this machine, and with which options."""
    table = plain_table("On this machine", "", "variant", "executor", "why", "session options")
    for row in rows:
        if row.runs_why:
            table.add_row(
                "→" if row.chosen else "",
                escape(row.name),
                row.runs or "by measurement",
                escape(row.runs_why),
                escape(row.session_said),
                style="bold" if row.chosen else None,
            )
    return table


def _range(field: Any) -> str:
    """The known values or the range seen in training."""
    if field.values:
        return _short(list(field.values)) + (" only" if field.unknown == "refuse" else "")
    if field.minimum is None or field.maximum is None:
        return ""
    return f"{field.minimum:g} to {field.maximum:g}"


def _short(value: Any, limit: int = 60) -> str:
    """A value as text, cut where it gets long."""
    text = "" if value is None else str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def answers(given: Any, shown: int) -> RenderableType:
    """The first ``shown`` of a client's ``Predictions``, with the probability of each answer."""
    probable = given.probabilities is not None
    heads = ["row", "prediction", *(["probability"] if probable else [])]
    count = f"{len(given):,} answers" if len(given) <= shown else f"First {shown} of {len(given):,} answers"
    table = plain_table(
        f"{count} of {escape(given.model)}:{given.version}", *heads, right=("row", "probability")
    )
    for index in range(min(shown, len(given))):
        answer = given[index]
        cells = [str(index + 1), escape(_short(answer.prediction))]
        if probable:
            cells.append(number((answer.probabilities or {}).get(_label(answer.prediction))))
        table.add_row(*cells)
    return table


def _label(value: Any) -> str:
    """A label as it is a key of JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def scored(outcome: "ScoreOutcome") -> Iterator[RenderableType]:
    """How many rows were answered, how fast, and where the answers are."""
    earlier = f", {outcome.resumed:,} of them by an earlier run" if outcome.resumed else ""
    yield (
        f"{outcome.rows:,} rows answered by [bold]{escape(outcome.model)}:{outcome.version}[/bold]{earlier}, "
        f"{outcome.rows_per_second:,.0f} a second: {escape(outcome.output)}"
    )
    if outcome.absent:
        shown = ", ".join(outcome.absent[:_COLUMNS_SHOWN])
        yield f"[yellow]The file has no column {escape(shown)}; counted as missing values.[/yellow]"
