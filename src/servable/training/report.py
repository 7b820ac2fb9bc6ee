"""The report: one HTML file that holds everything it shows, for people.

The numbers come from an ``Evaluation``, so they are those of ``evaluation.json``.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from markupsafe import Markup

from servable.artifact.personal import personal_choices, profile_without_people
from servable.artifact.profile import Profile
from servable.artifact.signature import Signature
from servable.training import figures
from servable.training.candidates import DUMMY
from servable.training.columns import ColumnInfo
from servable.training.crossval import CandidateResult
from servable.training.evaluate import HEADLINE, Evaluation
from servable.training.hiding import without
from servable.training.measures import HIGHER_IS_BETTER
from servable.training.outcome import TrainingResult
from servable.training.pages import drawn, rendered
from servable.training.wording import (
    SHARES,
    TITLES,
    capital,
    gap_text,
    metric_text,
    tie,
)

CARDS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "roc_auc", "f1_macro", "log_loss"),
    "regression": ("r2", "rmse", "mae", "median_ae"),
    "clustering": ("silhouette", "davies_bouldin", "calinski_harabasz"),
}
#: Rows of long lists that are shown.
MOST_ROWS = 30
_LINEAR_NAMES = {"logistic": "logistic regression", "ridge": "ridge regression"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a report can show; everything but title, evaluation and signature may be absent.

    Attributes:
        title: the model's name, with its version if it has one.
        evaluation: the numbers.
        signature: what the model takes and gives.
        created_at: ISO 8601.
        data: name of the data file.
        profile: of the training columns.
        leaderboard: candidates, best first.
        recipe: how it was trained.
        columns: the columns used, with reasons.
        dropped: the columns left out, with reasons.
        notes: sentences about rows and task.
        unseen: whether the model is known never to have seen the rows of the evaluation.
    """

    title: str
    evaluation: Evaluation
    signature: Signature
    created_at: str = ""
    data: str = ""
    profile: Profile | None = None
    leaderboard: tuple[CandidateResult, ...] = ()
    recipe: dict[str, Any] = {}
    columns: tuple[ColumnInfo, ...] = ()
    dropped: tuple[ColumnInfo, ...] = ()
    notes: tuple[str, ...] = ()
    unseen: bool = True


class Card(NamedTuple):
    """A headline number: its title, text, interval text, and the direction that is better."""

    title: str
    value: str
    interval: str
    better: str


class Versus(NamedTuple):
    """One bar of the comparison: who, the text of the value, per cent of the bar, and whether it is ours."""

    name: str
    value: str
    share: float
    ours: bool


class Picture(NamedTuple):
    """A figure with its heading and one sentence on how to read it."""

    title: str
    svg: Markup
    hint: str


def report_of(result: TrainingResult, *, title: str, created_at: str = "", data: str = "") -> Report:
    """The report of a training."""
    return Report(
        title=title,
        evaluation=result.evaluation,
        signature=result.signature,
        created_at=created_at,
        data=data,
        profile=result.profile,
        leaderboard=result.leaderboard,
        recipe=result.recipe,
        columns=result.columns,
        dropped=result.dropped,
        notes=result.notes,
    )


def _without_people(report: Report) -> Report:
    """The report without values of personal columns."""
    hidden = frozenset(personal_choices(report.signature))
    if not hidden:
        return report
    profile = report.profile
    return msgspec.structs.replace(
        report,
        evaluation=without(report.evaluation, hidden),
        profile=None if profile is None else profile_without_people(report.signature, profile),
    )


def render(
    report: Report, *, previous: Evaluation | None = None, variants: Sequence[Any] | None = None
) -> str:
    """The report as one self-contained HTML page.

    Args:
        report: what to show.
        previous: the evaluation of the version before, on its own held-out rows.
        variants: rows of the optimisation table, each with ``name``, ``chosen``, ``equal`` (None for the
            trained form), ``worst_difference``, ``timings`` (seconds by number of
            rows, as text), ``note``, ``loss`` (None but for lossy forms) and ``kept``.
    """
    report = _without_people(report)
    evaluation = report.evaluation
    return rendered(
        "report.html.j2",
        report=report,
        evaluation=evaluation,
        signature=report.signature,
        cards=cards(evaluation),
        verdict=verdict(report, previous),
        versus=versus(evaluation, report, previous),
        headline=TITLES[evaluation.metric],
        pictures=pictures(report),
        titles=TITLES,
        higher=HIGHER_IS_BETTER,
        changes=changes(evaluation, previous),
        variants=list(variants or ()),
        batches=_batches(variants or ()),
        confusion=confusion(evaluation),
        most=MOST_ROWS,
        baselines={_short(report, name): metrics for name, metrics in _baselines(report).items()},
        relied=HEADLINE[evaluation.task] if evaluation.importance else "",
        example=json.dumps({"input": report.signature.example}, indent=2, ensure_ascii=False, default=str),
        estimator=capital(report.recipe.get("title", "")),
        capital=capital,
    )


def cards(evaluation: Evaluation) -> list[Card]:
    """The headline numbers, the selection metric first."""
    names = list(dict.fromkeys([evaluation.metric, *CARDS.get(evaluation.task, ())]))
    found = []
    for name in names:
        if name not in evaluation.metrics:
            continue
        span = evaluation.intervals.get(name)
        interval = f"{metric_text(span[0], name)} to {metric_text(span[1], name)}" if span else ""
        better = "higher is better" if HIGHER_IS_BETTER[name] else "lower is better"
        found.append(Card(TITLES[name], metric_text(evaluation.metrics[name], name), interval, better))
    return found[:5]


def _baselines(report: Report) -> dict[str, dict[str, float]]:
    """The simple models to compare with: all but the one that this model is itself."""
    own = report.recipe.get("estimator")
    return {name: metrics for name, metrics in report.evaluation.baselines.items() if name != own}


def _short(report: Report, name: str) -> str:
    if name == DUMMY:
        return "mean" if report.evaluation.task == "regression" else "most frequent class"
    return _LINEAR_NAMES.get(name, name)


def _who(report: Report, name: str) -> str:
    return f"always answering the {_short(report, name)}" if name == DUMMY else _short(report, name)


def verdict(report: Report, previous: Evaluation | None) -> str:
    """What the numbers say, in two or three sentences."""
    evaluation = report.evaluation
    name = evaluation.metric
    value = evaluation.metrics.get(name)
    if value is None:
        return f"On {evaluation.rows:,} rows the clusters could not be told apart."
    span = evaluation.intervals.get(name)
    sure = f" (95 % interval {metric_text(span[0], name)} to {metric_text(span[1], name)})" if span else ""
    where = f" of {report.data}" if report.data else ""
    rows = f"{evaluation.rows:,} rows{' that it never saw' if report.unseen else where}"
    said = f"{TITLES[name]} {metric_text(value, name)}{sure} on {rows}."
    if name == "accuracy":
        said = f"Right on {metric_text(value, name)}{sure} of {rows}."
    rivals = {
        _who(report, other): metrics[name] for other, metrics in _baselines(report).items() if name in metrics
    }
    if previous is not None and name in previous.metrics:
        rivals["the previous version"] = previous.metrics[name]
    return " ".join([said, *_against(rivals, value, span, name)])


def _against(
    rivals: Mapping[str, float], value: float, span: tuple[float, float] | None, name: str
) -> list[str]:
    """How a value of a metric stands to those of others, and which differences may be chance."""
    if not rivals:
        return []
    said = [_gap(value - other, name, who) for who, other in rivals.items()]
    sentences = [f"That is {_joined(said)}."]
    near = [
        who
        for who, other in rivals.items()
        if span is not None and span[0] <= other <= span[1] and not tie(value - other, name)
    ]
    if near:
        lies, these = ("lies", "this difference") if len(near) == 1 else ("lie", "these differences")
        sentences.append(f"{capital(_joined(near))} {lies} within the interval, so {these} may be chance.")
    return sentences


def _joined(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _gap(gap: float, name: str, who: str) -> str:
    if tie(gap, name):
        return f"as good as {who}"
    word = "better" if (gap > 0) == HIGHER_IS_BETTER[name] else "worse"
    return f"{gap_text(abs(gap), name)} {word} than {who}"


def versus(evaluation: Evaluation, report: Report, previous: Evaluation | None) -> list[Versus]:
    """The headline metric of this model, the baselines and the previous version as bars."""
    name = evaluation.metric
    found: list[tuple[str, float, bool]] = []
    if name in evaluation.metrics:
        title = report.recipe.get("title") or "this model"
        found.append((f"{title} (this version)", evaluation.metrics[name], True))
    if previous is not None and name in previous.metrics:
        found.append(("previous version", previous.metrics[name], False))
    for other, metrics in sorted(_baselines(report).items(), key=lambda item: item[0] == DUMMY):
        if name in metrics:
            found.append((_who(report, other), metrics[name], False))
    top = max((abs(value) for _, value, _ in found), default=0.0) or 1.0
    top = max(top, 1.0) if name in SHARES or top <= 1 else top
    return [
        Versus(who, metric_text(value, name), round(max(value, 0.0) / top * 100, 1), ours)
        for who, value, ours in found
    ]


def changes(evaluation: Evaluation, previous: Evaluation | None) -> list[tuple[str, str, str, str, bool]]:
    """Metric by metric: title, before, now, difference ("same" for none), and whether it got better."""
    if previous is None:
        return []
    found = []
    for name, value in evaluation.metrics.items():
        before = previous.metrics.get(name)
        if before is None or name not in TITLES or name.endswith(("_weighted", "n_macro", "l_macro")):
            continue
        better = value >= before if HIGHER_IS_BETTER[name] else value <= before
        found.append(
            (
                TITLES[name],
                metric_text(before, name),
                metric_text(value, name),
                f"{value - before:+.4g}" if value != before else "same",
                better,
            )
        )
    return found


def confusion(evaluation: Evaluation) -> list[tuple[str, list[tuple[int, float, bool]]]]:
    """Rows of the confusion matrix: label, then count, share of the row, and whether it is the right one."""
    if len(evaluation.classes) > MOST_ROWS:
        return []
    found = []
    for place, (label, counts) in enumerate(zip(evaluation.classes, evaluation.confusion, strict=False)):
        total = max(sum(counts), 1)
        found.append((label, [(count, count / total, other == place) for other, count in enumerate(counts)]))
    return found


def _batches(variants: Sequence[Any]) -> list[str]:
    """The batch sizes that any variant was timed at, in order."""
    seen = {batch for variant in variants for batch in _timings(variant)}
    return sorted(seen, key=int)


def _timings(variant: Any) -> Mapping[str, float]:
    timings: Mapping[str, float] = variant.timings
    return timings


def pictures(report: Report) -> list[Picture]:
    """The figures that suit the task, in the order in which they are read."""
    evaluation = report.evaluation
    name = report.signature.answer.name
    if evaluation.task == "classification":
        return _classifier(evaluation)
    if evaluation.task == "regression" and evaluation.scatter is not None:
        return [
            _picture(
                "Predicted and true",
                figures.predicted(evaluation.scatter, title="Predicted against true values", name=name),
                "Each dot is a held-out row; on the dashed line the answer is exact.",
            ),
            _picture(
                "Residuals",
                figures.residuals(evaluation.scatter, title="Residuals against prediction", name=name),
                "A cloud without a shape around zero is what one hopes for.",
            ),
            _picture(
                "How far off",
                figures.scores(
                    evaluation.histograms,
                    title="Residuals histogram",
                    label="truth minus prediction",
                    short=True,
                ),
                "The outermost half per cent on each side is not drawn.",
            ),
        ]
    if evaluation.scatter is not None:
        svg = figures.clusters(evaluation.scatter, title="Clusters in two dimensions")
        return [_picture("Clusters", svg, "Held-out rows in the plane in which they differ most.")]
    return []


def _picture(title: str, svg: str, hint: str) -> Picture:
    return Picture(title, drawn(svg), hint)


def _classifier(evaluation: Evaluation) -> list[Picture]:
    found = []
    two = len(evaluation.classes) == 2
    of = f" for {evaluation.classes[1]}" if two else " of each class against the rest"
    if evaluation.roc:
        svg = figures.curves(evaluation.roc, kind="roc", title="ROC curve")
        found.append(_picture("ROC curve", svg, f"Hits over false alarms{of}; the number is the area."))
    if evaluation.pr:
        floor = evaluation.per_class[1].support / evaluation.rows if two else None
        svg = figures.curves(evaluation.pr, kind="pr", title="Precision and recall", floor=floor)
        found.append(_picture("Precision and recall", svg, f"How pure the catch stays{of}."))
    if evaluation.calibration:
        svg = figures.curves(evaluation.calibration, kind="calibration", title="Calibration")
        found.append(_picture("Calibration", svg, "On the dashed line 70 % means 70 %."))
    if evaluation.histograms:
        label = f"probability of {evaluation.classes[1]}" if two else "probability of the answer"
        svg = figures.scores(evaluation.histograms, title="Scores", label=label)
        hint = (
            "By true class; the less they overlap, the better." if two else "Of right and of wrong answers."
        )
        found.append(_picture("Scores", svg, hint))
    if evaluation.learning:
        svg = figures.learning(evaluation.learning, title="Learning curves")
        hint = "It stops when nothing is gained on rows kept aside; the best epoch counts."
        found.append(_picture("Learning curves", svg, hint))
    return found
