"""Training with differential privacy: linear models of tables by noisy gradient descent.

Every step clips what each row says and adds noise (Abadi et al., "Deep learning with differential privacy",
2016); Opacus does both and accounts for what was spent. Everything else that the model needs (how columns are
scaled, which values they have) comes from public bounds, and nothing is compared or tuned on the rows, which
would spend the budget again. The noise comes from the machine's own randomness and never from the seed: who
knows the seed could take the noise away.

What comes out is an ordinary model of scikit-learn, which is compiled and served like any other.
"""

import importlib.metadata
import secrets
import time
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from servable.errors import DependencyMissing, SettingInvalid
from servable.progress import NoProgress, Progress
from servable.training import evaluate as measuring
from servable.training.bounds import Bounds, Range, public_frame
from servable.training.candidates import prepare
from servable.training.crossval import CandidateResult, answer, predict, selection_metric
from servable.training.data import Problem
from servable.training.outcome import (
    Asked,
    TrainingResult,
    held_out,
    profile_of,
    recipe_of,
    result_of,
    trained_of,
)
from servable.training.split import HOLDOUT

#: The candidates, by task.
TITLES = {
    "classification": ("dp_logistic", "logistic regression with differential privacy"),
    "regression": ("dp_linear", "linear regression with differential privacy"),
}
#: Largest gradient of one row, and how many rows are drawn for a step.
_CLIP = 1.0
_BATCH = 512
_EPOCHS = 30
_RATES = {"classification": 2.0, "regression": 0.5}
#: Share of the steps, the last ones, whose weights are averaged.
_AVERAGED = 0.5


class Budget(NamedTuple):
    """How much may become known of one row.

    Attributes:
        epsilon: above 0; 1 is strong, 10 is weak.
        delta: the chance that it does not hold; None for one in ten times the rows.
    """

    epsilon: float
    delta: float | None = None

    def check(self) -> None:
        """Whether it can be kept to.

        Raises:
            SettingInvalid: it cannot.
        """
        if not 0 < self.epsilon < float("inf"):
            raise SettingInvalid(f"The privacy budget epsilon must be above 0, not {self.epsilon}.")
        if self.delta is not None and not 0 < self.delta < 1:
            raise SettingInvalid(f"The privacy budget delta must be between 0 and 1, not {self.delta}.")


class _Fitted(NamedTuple):
    """Weights ``[outputs, columns]``, intercepts ``[outputs]``, and what was spent."""

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    spent: dict[str, Any]


def need_opacus() -> None:
    """Make sure that Opacus is there.

    Raises:
        DependencyMissing: it is not.
    """
    try:
        import opacus  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"Differential privacy needs {missing.name}, which is not installed; run: pip install "
            "'servable[train,dp]'"
        ) from missing


def train(
    problem: Problem,
    bounds: Bounds,
    budget: Budget,
    *,
    model: str = "auto",
    holdout: float = HOLDOUT,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a linear model within a budget, and measure it on rows that it never saw.

    The guarantee covers the rows that it learns from. The held-out rows are in the evaluation and in the
    profile, as in every package, but no weight depends on them.

    Args:
        problem: the rows, within the bounds; see ``bounds.bounded``.
        bounds: of all its columns.
        budget: what may be spent.
        model: ``auto``, or the name of the one candidate of the task.
        holdout: share of rows held out.
        seed: of the split; never of the noise.
        progress: told of every stage.

    Raises:
        SettingInvalid: another task or model, or a budget that cannot be kept to.
        DependencyMissing: the extra ``dp`` is not installed.
        DataError: the rows cannot be learned from.
    """
    budget.check()
    if problem.task not in TITLES:
        raise SettingInvalid("Only classification and regression are trained with differential privacy.")
    name, title = TITLES[problem.task]
    if model not in ("auto", name):
        raise SettingInvalid(f"{model!r} is not trained with differential privacy here; {name} is.")
    need_opacus()
    watched, started = progress or NoProgress(), time.monotonic()
    asked = Asked(holdout, 1.0, seed)
    parts = held_out(problem, asked)
    watched.begin(f"Fit {title}")
    preparation = prepare(problem.signature, dense=True).fit(public_frame(problem.signature, bounds))
    seen = preparation.transform(problem.frame(parts.train))
    truth = np.asarray(problem.truth_at(parts.train))
    made, spent = _model(problem, bounds, seen, truth, budget)
    pipeline = Pipeline([("prepare", preparation), ("model", made)])
    watched.done(f"epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}, on {len(truth)} rows")
    evaluation = _evaluated(problem, parts.holdout, pipeline, seed, watched)
    pick = CandidateResult(name, title, 0.0, 0.0, 0.0, {})
    recipe = {**recipe_of(problem, parts, pick, asked, 0), "validation": "held-out rows alone", "folds": 0}
    recipe["privacy"] = spent
    found = result_of(problem, parts, trained_of(pipeline, problem.signature), evaluation, (), recipe)
    return replace(
        found,
        # Of the rows that it learned from nothing is kept, not even counts.
        profile=profile_of(problem, parts.holdout),
        sample=found.holdout,
        notes=(*found.notes, _note(spent)),
        seconds=time.monotonic() - started,
    )


def _note(spent: dict[str, Any]) -> str:
    return (
        f"trained with differential privacy (epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}): "
        "columns were scaled by the bounds that were told, and statistics are those of held-out rows"
    )


def _model(
    problem: Problem, bounds: Bounds, seen: NDArray[Any], truth: NDArray[Any], budget: Budget
) -> tuple[Any, dict[str, Any]]:
    """A fitted model of scikit-learn, and what was spent on it."""
    if problem.task == "classification":
        fitted = _fit(seen, truth, len(problem.signature.classes), budget)
        weights, intercepts = fitted.weights, fitted.intercepts
        if len(weights) == 2:
            weights, intercepts = weights[1:] - weights[:1], intercepts[1:] - intercepts[:1]
        made: Any = LogisticRegression()
        made.classes_ = np.arange(len(problem.signature.classes))
        made.n_iter_ = np.asarray([fitted.spent["steps"]], np.int32)
        made.coef_, made.intercept_ = weights, intercepts
    else:
        known = bounds.of(problem.signature.answer.name)
        if not isinstance(known, Range):
            raise SettingInvalid(f"{bounds.place} must give the range of the numbers that are predicted.")
        middle, half = (known.least + known.most) / 2, (known.most - known.least) / 2
        fitted = _fit(seen, (truth - middle) / half, 0, budget)
        made = Ridge()
        made.coef_ = fitted.weights[0] * half
        made.intercept_ = float(fitted.intercepts[0] * half + middle)
        made.n_iter_ = None
        made.solver_ = "sgd"
    made.n_features_in_ = seen.shape[1]
    return made, fitted.spent


def _fit(seen: NDArray[Any], truth: NDArray[Any], classes: int, budget: Budget) -> _Fitted:
    """Noisy gradient descent.

    Args:
        seen: scaled rows ``[rows, columns]``.
        truth: class indexes, or values scaled to -1 .. 1.
        classes: how many; 0 for values.
        budget: what may be spent.
    """
    import torch
    from opacus import PrivacyEngine
    from torch import nn
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    count, columns = seen.shape
    delta = budget.delta if budget.delta is not None else 1 / (10 * count)
    net: Any = nn.Linear(columns, classes or 1).double()
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    wanted = torch.as_tensor(truth, dtype=torch.int64 if classes else torch.float64)
    # Which rows a step draws must be as unknown as its noise; torch's own generator begins alike everywhere.
    noise = torch.Generator().manual_seed(secrets.randbits(63))
    held_rows = TensorDataset(torch.as_tensor(seen, dtype=torch.float64), wanted)
    rows: Any = DataLoader(held_rows, batch_size=min(_BATCH, count), generator=noise)
    rate = _RATES["classification" if classes else "regression"]
    optimiser: Any = torch.optim.SGD(net.parameters(), lr=rate)
    with warnings.catch_warnings():
        # Opacus tells about hooks of torch, and about a noise that is not of a cryptographic generator.
        warnings.simplefilter("ignore")
        engine = PrivacyEngine(accountant="rdp")
        net, optimiser, rows = engine.make_private_with_epsilon(
            module=net,
            optimizer=optimiser,
            data_loader=rows,
            target_epsilon=budget.epsilon,
            target_delta=delta,
            epochs=_EPOCHS,
            max_grad_norm=_CLIP,
            noise_generator=noise,
        )
        steps = _EPOCHS * len(rows)
        weights, taken = np.zeros((classes or 1, columns + 1)), 0
        place = 0
        for _ in range(_EPOCHS):
            for given, right in rows:
                # A step for which no row was drawn adds its noise all the same.
                optimiser.zero_grad()
                out = net(given)
                loss: Any = functional.cross_entropy if classes else functional.mse_loss
                loss(out if classes else out[:, 0], right).backward()
                optimiser.step()
                place += 1
                if place > steps * (1 - _AVERAGED):
                    held = [part.detach().numpy() for part in net.parameters()]
                    weights += np.column_stack([held[0], held[1]])
                    taken += 1
        spent = float(engine.get_epsilon(delta))
    weights /= taken
    return _Fitted(
        weights[:, :-1],
        weights[:, -1],
        {
            "epsilon": round(max(spent, 0.0), 6),
            "delta": delta,
            "asked_epsilon": budget.epsilon,
            "mechanism": "DP-SGD with Poisson sampling, RDP accountant",
            "neighbours": "one row added or removed",
            "noise_multiplier": float(optimiser.noise_multiplier),
            "max_grad_norm": _CLIP,
            "sample_rate": min(_BATCH, count) / count,
            "steps": steps,
            "library": "opacus",
            "library_version": importlib.metadata.version("opacus"),
        },
    )


def _evaluated(
    problem: Problem, rows: NDArray[Any], pipeline: Pipeline, seed: int, progress: Progress
) -> measuring.Evaluation:
    """The model on the held-out rows. There are no baselines: they would have to spend a budget, too."""
    progress.begin("Evaluate on held-out rows")
    frame, truth = problem.frame(rows), np.asarray(problem.truth_at(rows))
    found = measuring.evaluate(problem.signature, truth, answer(pipeline, frame, problem.task), seed=seed)
    columns = measuring.importance(
        lambda asked: predict(pipeline, asked, problem.task),
        frame,
        truth,
        task=problem.task,
        classes=len(problem.signature.classes),
        seed=seed,
    )
    found = msgspec.structs.replace(found, metric=selection_metric(problem), importance=columns)
    progress.done()
    return found
