"""Small modules around models of pictures and sounds: what stands before one, beside one, or for one."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from servable.training.tasks import baselines


class Heard(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """A network for ``[n, 1, mels, frames]`` over bands in decibels ``[n, mels, frames]``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        return self.inner(baselines.floored(x).unsqueeze(1))


class Blend(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """The mean of two models' log probabilities."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        return (torch.log_softmax(self.one(x), 1) + torch.log_softmax(self.other(x), 1)) / 2


class Constant(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """The same scores for every row."""

    def __init__(self, scores: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("scores", torch.from_numpy(scores))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        return self.scores + 0 * x.flatten(1)[:, :1]
