"""Fitting a challenger by the recipe, and letting it and the champion answer the same rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.artifact.manifest import TRAINED
from servable.artifact.package import Package
from servable.artifact.personal import with_personal
from servable.artifact.recipe import Recipe
from servable.artifact.signature import Signature, with_captures
from servable.errors import SettingInvalid
from servable.frameworks import lookup
from servable.frameworks.base import Learner, Predictor, Trained
from servable.runtime.model import variant_of
from servable.tensors import Arrays, row_count, stack, take
from servable.updating.staging import Challenger
from servable.workflows.private_training import PRIVACY, is_private

if TYPE_CHECKING:
    import pandas as pd

    from servable.training.data import Problem

#: Rows answered in one run.
_CHUNK_ROWS = 10_000
#: Most different values of a column whose slices are its values; numbers with more are cut into quarters.
_MOST_VALUES = 12


class Fit(NamedTuple):
    """How the recipe fits: the candidate, its parameters, the seed, and what stays private."""

    estimator: str
    params: Mapping[str, Any]
    seed: int
    private: Mapping[str, str]
    personal: Mapping[str, str]


def fit_of(package: Package, recipe: Recipe) -> Fit:
    """What the training of a version came to; a turn fits this and does not search anew.

    Raises:
        SettingInvalid: the package does not say it.
    """
    found = package.manifest.recipe
    if is_private(package.manifest):
        raise SettingInvalid(
            f"The version {package.digest[:12]} was trained with differential privacy (epsilon "
            f"{found[PRIVACY]['epsilon']:.3g}), and an update would learn from rows without it; train the "
            "next version with servable train --privacy-epsilon, which adds its budget to what was spent."
        )
    if "estimator" not in found:
        raise SettingInvalid(
            f"The package {package.digest[:12]} does not say which estimator was trained, so it cannot be "
            "fitted anew; let it learn on with --online if it can."
        )
    private = dict(found.get("private", {}))
    personal = dict(found.get("personal", {}))
    return Fit(str(found["estimator"]), dict(found.get("params", {})), recipe.seed, private, personal)


def problem_of(frame: "pd.DataFrame", signature: Signature, recipe: Recipe) -> "Problem":
    """The rows of a turn as something to learn from.

    The columns and their kinds are those of the present version: what callers send stays what it is, and
    another set of columns is for a person to decide. Known values, ranges and classes may grow.

    Raises:
        DataError: the rows cannot be learned from.
    """
    from servable.training import data

    target = signature.answer.name
    kinds = {field.name: field.kind for field in signature.inputs}
    inputs = frame[[*kinds, target]]
    return data.infer(
        inputs, target, task=signature.task, kinds=kinds, time_order=True, unknown=recipe.unknown
    )


def problem_as_learned(frame: "pd.DataFrame", signature: Signature) -> "Problem":
    """The rows of a turn as a model that learns on sees them: nothing about the columns is found anew.

    Args:
        frame: inputs and target.
        signature: of the model, new classes among it.

    Raises:
        DataError: a row does not fit it.
    """
    from servable.frameworks.frame import pack
    from servable.training.data import Problem, truth_of

    return Problem(
        signature=signature,
        arrays=pack(frame, signature),
        truth=truth_of(frame, signature),
        rows=np.arange(len(frame), dtype=np.int64),
        target=signature.answer.name,
        columns=(),
        dropped=(),
        notes=(),
        time_order=True,
    )


def fitted(problem: "Problem", fit: Fit, weights: NDArray[np.float64] | None) -> Challenger:
    """A model of all rows of a problem.

    Raises:
        SettingInvalid: the candidate takes no weights.
        DataError: it cannot learn from these rows.
    """
    from servable.training import tasks

    adapter, trained = tasks.fit(problem, fit.estimator, fit.params, weights=weights, seed=fit.seed)
    signature = with_personal(with_captures(trained.signature, fit.private), fit.personal)
    return Challenger(adapter, trained._replace(signature=signature))


def restored(package: Package) -> Challenger:
    """The model of a version as it was trained, to learn on.

    Raises:
        ArtifactUntrusted: it would execute code, and nobody said that this is wanted.
    """
    variant = package.manifest.variant(TRAINED)
    trained = lookup.adapter(variant.format).restore(
        package.folder, variant, package.signature, trust=package.manifest.trusted
    )
    return Challenger(variant.format, trained._replace(libraries=package.manifest.libraries))


def learned_on(
    challenger: Challenger, frame: "pd.DataFrame", labels: Sequence[Any] | None = None
) -> Challenger:
    """A model after it learned from further rows, in their order; what it prepares them by stays as it is.

    Args:
        challenger: is not changed.
        frame: inputs and target, the newest row last.
        labels: all that it will have to know; those of the rows when None.

    Raises:
        SettingInvalid: the model cannot learn on.
        DataError: a label is none of its classes, and it can learn no new ones.
    """
    from servable.frameworks.frame import pack
    from servable.training.data import truth_of

    adapter = lookup.adapter(challenger.adapter)
    if not isinstance(adapter, Learner):
        raise SettingInvalid(
            f"A model of {challenger.adapter} cannot learn on from where it is; leave --online out here, or "
            "train one that can: servable train --online."
        )
    trained = challenger.trained
    if trained.signature.task == "classification":
        given = frame[trained.signature.answer.name] if labels is None else labels
        trained = adapter.with_labels(trained, list(dict.fromkeys(given)))
    truth = np.asarray(truth_of(frame, trained.signature))
    learned = adapter.learn_on(trained, pack(frame, trained.signature), truth)
    return Challenger(challenger.adapter, learned._replace(libraries=trained.libraries))


def answers_of_package(package: Package, frame: "pd.DataFrame") -> dict[str, Any]:
    """What a version answers to rows, in the form that serves.

    Raises:
        DataError: the rows do not fit it.
        ModelFailed: it raised.
    """
    from servable.frameworks.frame import pack

    chosen = variant_of(package.manifest)
    adapter = lookup.adapter(chosen.format)
    predictor = adapter.load(package.folder, chosen, package.signature, trust=package.manifest.trusted)
    return _answers(predictor, pack(frame, package.signature))


def answers_of(challenger: Challenger, frame: "pd.DataFrame") -> dict[str, Any]:
    """What a fitted model answers to rows."""
    from servable.frameworks.frame import pack

    trained: Trained = challenger.trained
    return _answers(lookup.adapter(challenger.adapter).wrap(trained), pack(frame, trained.signature))


def _answers(predictor: Predictor, arrays: Arrays) -> dict[str, Any]:
    try:
        places = range(0, row_count(arrays), _CHUNK_ROWS)
        return stack([predictor.predict(take(arrays, slice(start, start + _CHUNK_ROWS))) for start in places])
    finally:
        predictor.close()


def slices_of(frame: "pd.DataFrame", named: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """The rows of each slice ``[rows]``, by ``column=value`` or, for numbers, ``column in quarter N``.

    Args:
        frame: the rows.
        named: columns, or ``column=value``.

    Raises:
        SettingInvalid: there is no such column.
    """
    import pandas as pd

    found: dict[str, NDArray[np.bool_]] = {}
    for text in named:
        name, equals, value = text.partition("=")
        if name not in frame.columns:
            raise SettingInvalid(f"There is no column {name!r} to slice by.")
        column = frame[name]
        if equals:
            found[text] = (column.astype(str) == value).to_numpy()
        elif column.nunique() <= _MOST_VALUES or not pd.api.types.is_numeric_dtype(column.dtype):
            common = column.value_counts().index[:_MOST_VALUES]
            found |= {f"{name}={each}": (column == each).to_numpy() for each in common}
        else:
            quarters = pd.qcut(column, 4, labels=False, duplicates="drop").to_numpy()
            found |= {f"{name} in quarter {part + 1}": quarters == part for part in range(4)}
    return found
