"""Simple models for tensors, fitted by scikit-learn and held as modules, so that one export serves all.

Each is the measure for the network: often enough it is as good, and it is always cheaper.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import nn

#: Rows that a kernel machine learns from, at most: its cost grows with their square.
KERNEL_ROWS = 8_000
#: Scores of a kernel machine are multiplied with one of these, the one whose probabilities fit best.
_SHARPNESS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0)


#: Bands in decibels are not told apart when they are so far below the loudest of their sound.
_FLOOR_DB = 60.0
#: A frame is heard when its loudest band is less than this below the loudest of all.
_HEARD_DB = 45.0
#: Coefficients of the cosine transform over the bands, and places along the heard part that are looked at.
_COEFFICIENTS, _PLACES = 16, 6


def floored(x: torch.Tensor) -> torch.Tensor:
    """Bands in decibels below the loudest of each row, nothing lower than the floor."""
    return torch.maximum(x - x.amax(dim=(1, 2), keepdim=True), torch.tensor(-_FLOOR_DB, dtype=x.dtype))


class Flat(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Rows ``[n, ...]`` laid flat."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors ``[n, k]``."""
        return x.flatten(1)


class Pooled(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Bands in decibels ``[n, mels, frames]`` as what is heard: cepstra along it, their mean and spread.

    The heard part is stretched to one length first, so that slow and fast speakers look alike. Cepstra are
    those of Davis and Mermelstein, "Comparison of parametric representations", 1980.

    Args:
        mels: number of bands.
    """

    def __init__(self, mels: int) -> None:
        super().__init__()
        count = min(_COEFFICIENTS, mels)
        angles = np.pi / mels * (np.arange(mels)[:, None] + 0.5) * np.arange(count)[None, :]
        self.register_buffer("cosines", torch.tensor(np.cos(angles) * np.sqrt(2 / mels), dtype=torch.float32))
        self.register_buffer(
            "places", torch.tensor((np.arange(_PLACES) + 0.5) / _PLACES, dtype=torch.float32)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors ``[n, k]``."""
        bands = floored(x)
        heard = (bands.amax(dim=1) > -_HEARD_DB).to(x.dtype)
        total = heard.sum(dim=1, keepdim=True)
        cepstra = bands.transpose(1, 2) @ self.cosines
        share = heard / total
        mean = (share[:, :, None] * cepstra).sum(dim=1)
        spread = (share[:, :, None] * (cepstra - mean[:, None, :]) ** 2).sum(dim=1).sqrt()
        along = (heard.cumsum(dim=1) - 0.5) / total
        near = (1 - (along[:, None, :] - self.places[None, :, None]).abs() * _PLACES).clamp(min=0)
        near = near * heard[:, None, :]
        near = near / near.sum(dim=2, keepdim=True).clamp(min=1e-6)
        return torch.cat([mean, spread, (near @ cepstra).flatten(1), total], dim=1)


class LinearModel(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Scores of a logistic regression over levelled vectors."""

    def __init__(self, features: nn.Module, mean: Any, std: Any, weights: Any, bias: Any) -> None:
        super().__init__()
        self.features = features
        for name, values in (("mean", mean), ("std", std), ("weights", weights), ("bias", bias)):
            self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax ``[n, classes]``."""
        levelled = (self.features(x) - self.mean) / self.std
        return levelled @ self.weights + self.bias


class KernelMachine(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Scores of a support vector machine with a Gaussian kernel, one against one.

    The scores are those of scikit-learn's ``decision_function`` with ``ovr``: votes, and within a tie the sum
    of confidences.
    """

    def __init__(self, features: nn.Module, mean: Any, std: Any, machine: SVC, sharpness: float) -> None:
        super().__init__()
        self.features = features
        self.gamma = float(machine._gamma)
        self.sharpness = sharpness
        count = len(machine.classes_)
        pairs = [(one, other) for one in range(count) for other in range(one + 1, count)]
        shown = np.zeros((len(machine.support_), len(pairs)))
        ends = np.cumsum(machine.n_support_)
        starts = ends - machine.n_support_
        for place, (one, other) in enumerate(pairs):
            # The coefficients of class ``one`` against ``other`` stand in row ``other - 1``, and the reverse.
            shown[starts[one] : ends[one], place] = machine.dual_coef_[other - 1, starts[one] : ends[one]]
            shown[starts[other] : ends[other], place] = machine.dual_coef_[one, starts[other] : ends[other]]
        won, lost = np.zeros((len(pairs), count)), np.zeros((len(pairs), count))
        for place, (one, other) in enumerate(pairs):
            won[place, one], lost[place, other] = 1.0, 1.0
        held = {
            "mean": mean,
            "std": std,
            "support": machine.support_vectors_,
            "coefficients": shown,
            "intercept": machine.intercept_,
            "won": won,
            "lost": lost,
        }
        for name, values in held.items():
            self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax ``[n, classes]``."""
        levelled = (self.features(x) - self.mean) / self.std
        squares = (levelled**2).sum(1, keepdim=True) + (self.support**2).sum(1)
        apart = (squares - 2 * levelled @ self.support.T).clamp(min=0)
        decisions = torch.exp(-self.gamma * apart) @ self.coefficients + self.intercept
        votes = (decisions > 0).to(decisions.dtype)
        total = votes @ self.won + (1 - votes) @ self.lost
        confidence = decisions @ self.won - decisions @ self.lost
        return self.sharpness * (total + confidence / (3 * (confidence.abs() + 1)))


def linear(rows: NDArray[np.float32], truth: NDArray[np.int64], features: nn.Module, seed: int) -> nn.Module:
    """A logistic regression."""
    given, mean, std = _levelled(rows, features)
    model = LogisticRegression(C=0.01 if isinstance(features, Flat) else 0.1, max_iter=300, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(given, truth)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:
        weights = np.concatenate([np.zeros_like(weights), weights], axis=1)
        bias = np.concatenate([[0.0], bias])
    return LinearModel(features, mean, std, weights, bias).eval()


def kernel(rows: NDArray[np.float32], truth: NDArray[np.int64], features: nn.Module, seed: int) -> nn.Module:
    """A support vector machine; its probabilities are sharpened on a fifth of the rows.

    Two classes are better served by ``linear`` or a network here: the scores below need three or more.
    """
    chosen = np.random.default_rng(seed).permutation(len(rows))[:KERNEL_ROWS]
    given, mean, std = _levelled(rows[chosen], features)
    wanted = truth[chosen]
    held = max(len(chosen) // 5, 1)
    # Half of scikit-learn's own choice: levelled vectors of many cepstra or pixels are far apart.
    settings = {"C": 10.0, "gamma": 0.5 / given.shape[1], "random_state": seed}
    trial = SVC(**settings).fit(given[held:], wanted[held:])
    scores = trial.decision_function(given[:held])
    known = np.searchsorted(trial.classes_, wanted[:held]).clip(max=len(trial.classes_) - 1)
    sharpness = min(_SHARPNESS, key=lambda sharp: _log_loss(sharp * scores, known))
    machine = SVC(**settings).fit(given, wanted)
    return KernelMachine(features, mean, std, machine, sharpness).eval()


def _log_loss(scores: NDArray[Any], truth: NDArray[np.int64]) -> float:
    shifted = scores - scores.max(axis=1, keepdims=True)
    chances = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-chances[np.arange(len(truth)), truth].mean())


def _levelled(
    rows: NDArray[np.float32], features: nn.Module
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Vectors with mean 0 and deviation 1, and what they were levelled by; what never varies stays 0."""
    with torch.inference_mode():
        vectors = features(torch.from_numpy(rows)).numpy()
    mean, std = vectors.mean(axis=0), vectors.std(axis=0)
    if isinstance(features, Flat):
        # Pixels that hardly vary would be blown up to noise.
        std = np.full_like(std, std.mean() or 1.0)
    std = np.where(std > 1e-6, std, 1.0)
    return (vectors - mean) / std, mean, std
