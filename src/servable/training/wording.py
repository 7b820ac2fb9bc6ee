"""How the report says numbers: in the digits and units that a person reads."""

import math
import re

#: Metrics by their names for people.
TITLES: dict[str, str] = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "precision_macro": "Precision, macro",
    "recall_macro": "Recall, macro",
    "f1_macro": "F1, macro",
    "precision_weighted": "Precision, weighted",
    "recall_weighted": "Recall, weighted",
    "f1_weighted": "F1, weighted",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "Mean absolute error",
    "median_ae": "Median absolute error",
    "mape": "Mean absolute error, %",
    "silhouette": "Silhouette",
    "davies_bouldin": "Davies-Bouldin",
    "calinski_harabasz": "Calinski-Harabasz",
}
#: Metrics that are shares and are shown in per cent.
SHARES = frozenset(
    {"accuracy", "balanced_accuracy", "precision", "recall", "mape"}
    | {f"{name}_{mean}" for name in ("precision", "recall") for mean in ("macro", "weighted")}
)
#: Metrics in the unit of the target, or without a bound.
_IN_UNITS = frozenset({"rmse", "mae", "median_ae", "calinski_harabasz"})

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?")


def capital(text: str) -> str:
    """The text with a capital first letter and the others as they are."""
    return text[:1].upper() + text[1:]


def moment_text(text: str) -> str:
    """A moment in UTC as a person reads it; what is none stays as it is."""
    found = _MOMENT.match(text)
    return (
        text
        if found is None
        else f"{found[1]} {found[2]}" + (found[3] if found[3] not in (None, ":00") else "")
    )


def number(value: float | int | None) -> str:
    """A number with as many digits as a person reads."""
    if value is None:
        return "–"
    if isinstance(value, bool | int):
        return f"{value:,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if size >= 0.001 or size == 0 else f"{value:.2e}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{value * 100:.{digits}f} %"


def metric_text(value: float | None, name: str) -> str:
    """A metric's value: per cent for shares, three decimals for what lies between 0 and 1."""
    if value is None:
        return "–"
    if name in SHARES:
        return percent(value)
    if name in _IN_UNITS:
        return number(value)
    # Adding zero makes of a minus zero a plain one.
    return f"{round(value, 3) + 0.0:.3f}"


def gap_text(value: float, name: str) -> str:
    """A difference of two values of a metric: points for shares."""
    if name in SHARES:
        return f"{value * 100:.1f} points"
    return number(value) if name in _IN_UNITS else f"{value:.3f}"


def difference_text(value: float) -> str:
    """The largest difference between two forms of a model: a plain number unless it is tiny."""
    if math.isinf(value):
        return "infinite"
    return f"{value:.2g}" if value == 0 or value >= 0.001 else f"{value:.1e}"


def tie(gap: float, name: str) -> bool:
    """Whether a difference of two values of a metric is nothing in the digits that are shown."""
    return round(abs(gap) * (100 if name in SHARES else 1), 1 if name in SHARES else 3) == 0


def seconds_text(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None:
        return "–"
    for limit, unit, factor in ((1e-3, "µs", 1e6), (1.0, "ms", 1e3)):
        if value < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} s"
