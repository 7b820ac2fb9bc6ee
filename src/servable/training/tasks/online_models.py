"""The estimators of River that ``--online`` compares, each as one pipeline over rows of a table.

River is imported only when one is made, so that their names are known without it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from servable.artifact.signature import Field, Signature, names
from servable.errors import SettingInvalid
from servable.training.candidates import DUMMY

#: The simple model that the others are compared with.
LINEAR = "online_linear"
#: What stands for a text that is missing.
_NOTHING = "(missing)"
_TREES = 10


class OnlineCandidate(NamedTuple):
    """One family of models that learn row by row.

    Attributes:
        name: as on the leaderboard.
        title: for people.
        make: ``(signature, seed) -> model``, which has learned nothing.
        most_rows: rows beyond which ``auto`` leaves it out as too slow.
    """

    name: str
    title: str
    make: Callable[[Signature, int], Any]
    most_rows: int = 5_000_000


def _dummy(signature: Signature, seed: int) -> Any:
    from river import dummy, stats

    if signature.task == "regression":
        return dummy.StatisticRegressor(stats.Mean())
    return dummy.PriorClassifier()


def _linear(signature: Signature, seed: int) -> Any:
    from river import linear_model, optim, preprocessing

    prepared = _prepared(signature, dense=True)
    if signature.task == "regression":
        # The target is scaled too, so that the steps of the descent suit numbers of any size.
        model: Any = linear_model.LinearRegression(optimizer=optim.SGD(0.01), intercept_lr=0.1)
        return prepared | preprocessing.TargetStandardScaler(model)
    if len(signature.classes) == 2:
        return prepared | linear_model.LogisticRegression(optimizer=optim.Adam(0.01))
    return prepared | linear_model.SoftmaxRegression(optimizer=optim.SGD(0.05))


def _tree(signature: Signature, seed: int) -> Any:
    from river import tree

    if signature.task == "regression":
        return _prepared(signature) | tree.HoeffdingAdaptiveTreeRegressor(grace_period=100, seed=seed)
    return _prepared(signature) | tree.HoeffdingAdaptiveTreeClassifier(grace_period=100, seed=seed)


def _forest(signature: Signature, seed: int) -> Any:
    from river import forest

    kind = forest.ARFRegressor if signature.task == "regression" else forest.ARFClassifier
    return _prepared(signature) | kind(n_models=_TREES, seed=seed)


#: In the order in which they are compared.
CANDIDATES = (
    OnlineCandidate(DUMMY, "what was most frequent, or the mean, so far", _dummy),
    OnlineCandidate(LINEAR, "linear model by gradient descent", _linear),
    OnlineCandidate("hoeffding_tree", "adaptive Hoeffding tree", _tree),
    OnlineCandidate("adaptive_forest", "adaptive random forest", _forest, 200_000),
)


def is_online(name: str) -> bool:
    """Whether a candidate is one of these and none of batch training."""
    return name != DUMMY and any(known.name == name for known in CANDIDATES)


def candidate(name: str) -> OnlineCandidate:
    """The candidate of this name.

    Raises:
        SettingInvalid: there is none; the message lists those that there are.
    """
    for known in CANDIDATES:
        if known.name == name:
            return known
    listed = ", ".join(known.name for known in CANDIDATES)
    raise SettingInvalid(f"No model that learns online is called {name!r}; choose auto or one of {listed}.")


def chosen(model: str, rows: int) -> list[OnlineCandidate]:
    """The candidates to compare: all that fit the number of rows for ``auto``, else that and the baselines.

    Raises:
        SettingInvalid: there is no such candidate.
    """
    if model == "auto":
        return [known for known in CANDIDATES if rows <= known.most_rows]
    wanted = candidate(model)
    return [*(known for known in CANDIDATES if known.name in (DUMMY, LINEAR) and known != wanted), wanted]


def _prepared(signature: Signature, *, dense: bool = False) -> Any:
    """The steps before the model: missing values filled in, dates taken apart, categories as numbers.

    Args:
        signature: names and kinds of the columns.
        dense: scaled numbers and a column for each category, for linear models; else numbers as they are and
            categories numbered, for trees.
    """
    from river import compose, preprocessing, stats

    numbers = [field for field in signature.inputs if field.kind in ("number", "boolean")]
    dates = [field for field in signature.inputs if field.kind == "date"]
    categories = [field for field in signature.inputs if field.kind == "category"]
    parts = []
    if numbers:
        parts.append(_scaled(_columns(numbers) | _filled(_gaps(numbers), stats.Mean), dense))
    if dates:
        from servable.frameworks.river_steps import DateParts, names_of_parts

        gaps = names_of_parts(_gaps(dates))
        parts.append(_scaled(_columns(dates) | DateParts() | _filled(gaps, stats.Mean), dense))
    if categories:
        step = preprocessing.OneHotEncoder() if dense else preprocessing.OrdinalEncoder()
        parts.append(_columns(categories) | _filled(_gaps(categories), lambda: _NOTHING) | step)
    return compose.TransformerUnion(*parts)


def _columns(fields: Sequence[Field]) -> Any:
    from servable.frameworks.river_steps import Columns

    return Columns(*names(fields))


def _gaps(fields: Sequence[Field]) -> tuple[str, ...]:
    return tuple(field.name for field in fields if field.missing)


def _filled(columns: Sequence[str], make: Callable[[], Any]) -> Any:
    """A step that fills in missing values of these columns."""
    from servable.frameworks.river_steps import Filled

    return Filled(*((name, make()) for name in columns))


def _scaled(steps: Any, dense: bool) -> Any:
    from river import preprocessing

    return steps | preprocessing.StandardScaler() if dense else steps
