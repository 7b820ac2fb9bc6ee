"""Linear models by noisy gradient descent.

Every step clips what each row says and adds noise (Abadi et al., "Deep learning with differential privacy",
2016); Opacus does both and accounts for what was spent. What comes out are ordinary models of scikit-learn.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from servable.training.bounds import Range
from servable.training.tasks.private.budget import Budget

#: Largest gradient of one row, and how many rows are drawn for a step.
_CLIP = 1.0
_BATCH = 512
_EPOCHS = 30
_RATES = {"classification": 2.0, "regression": 0.5}
#: Share of the steps, the last ones, whose weights are averaged.
_AVERAGED = 0.5


class _Fitted(NamedTuple):
    """Weights ``[outputs, columns]``, intercepts ``[outputs]``, and what was spent."""

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    spent: dict[str, Any]


def logistic(
    seen: NDArray[Any], truth: NDArray[Any], classes: int, budget: Budget
) -> tuple[LogisticRegression, dict[str, Any]]:
    """A fitted logistic regression of scaled rows ``[rows, columns]``, and what was spent on it."""
    fitted = _fit(seen, truth, classes, budget)
    weights, intercepts = fitted.weights, fitted.intercepts
    if len(weights) == 2:
        weights, intercepts = weights[1:] - weights[:1], intercepts[1:] - intercepts[:1]
    made: Any = LogisticRegression()
    made.classes_ = np.arange(classes)
    made.n_iter_ = np.asarray([fitted.spent["steps"]], np.int32)
    made.coef_, made.intercept_ = weights, intercepts
    made.n_features_in_ = seen.shape[1]
    return made, fitted.spent


def ridge(
    seen: NDArray[Any], truth: NDArray[Any], known: Range, budget: Budget
) -> tuple[Ridge, dict[str, Any]]:
    """A fitted linear regression of scaled rows for values within a range, and what was spent on it."""
    middle, half = (known.least + known.most) / 2, (known.most - known.least) / 2
    fitted = _fit(seen, (truth - middle) / half, 0, budget)
    made: Any = Ridge()
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
    from torch import nn
    from torch.nn import functional

    # Opacus, behind it, is there only with the extra dp.
    from servable.training.tasks.private.descent import Descent, Lesson

    net: Any = nn.Linear(seen.shape[1], classes or 1).double()
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    wanted = torch.as_tensor(truth, dtype=torch.int64 if classes else torch.float64)
    rate = _RATES["classification" if classes else "regression"]
    lesson = Lesson(net, (torch.as_tensor(seen, dtype=torch.float64), wanted), _BATCH, _EPOCHS, rate, _CLIP)

    def loss(out: Any, right: Any) -> Any:
        return functional.cross_entropy(out, right) if classes else functional.mse_loss(out[:, 0], right)

    descent = Descent(lesson, budget)
    average = descent.run(loss, averaged=_AVERAGED)
    return _Fitted(average["weight"], average["bias"], descent.spent())
