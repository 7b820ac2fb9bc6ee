"""Noisy gradient descent by Opacus: each row's gradient clipped, noise added, what was spent accounted for.

Abadi et al., "Deep learning with differential privacy", 2016. The noise and the choice of rows come from the
machine's own randomness and never from a seed: who knows the seed could take the noise away.

Only this file imports Opacus.
"""

import importlib.metadata
import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, TensorDataset

from servable.training.tasks.private.budget import Budget


class Lesson(NamedTuple):
    """What learns from what.

    Attributes:
        module: made without a look at the rows.
        tensors: what it takes, then what it should give; one row each along the first axis.
        batch: rows drawn for a step on average; each row is drawn by itself.
        epochs: turns, as many steps as would see all rows so often.
        rate: of plain gradient descent.
        clip: largest gradient of one row.
        momentum: of the descent.
    """

    module: Any
    tensors: tuple[torch.Tensor, ...]
    batch: int
    epochs: int
    rate: float
    clip: float
    momentum: float = 0.0


class Descent:
    """One learning within a budget. Belongs to one thread, and runs once."""

    def __init__(self, lesson: Lesson, budget: Budget) -> None:
        count = len(lesson.tensors[0])
        self._lesson, self._budget, self._delta = lesson, budget, budget.delta_of(count)
        self._share = min(lesson.batch, count) / count
        # Which rows a step draws must be as unknown as its noise; torch's own generator begins alike
        # everywhere.
        noise = torch.Generator().manual_seed(secrets.randbits(63))
        rows: Any = DataLoader(
            TensorDataset(*lesson.tensors), batch_size=min(lesson.batch, count), generator=noise
        )
        optimiser: Any = torch.optim.SGD(lesson.module.parameters(), lr=lesson.rate, momentum=lesson.momentum)
        with _quiet():
            self._engine = PrivacyEngine(accountant="rdp")
            self._module, self._optimiser, self._rows = self._engine.make_private_with_epsilon(
                module=lesson.module,
                optimizer=optimiser,
                data_loader=rows,
                target_epsilon=budget.epsilon,
                target_delta=self._delta,
                epochs=lesson.epochs,
                max_grad_norm=lesson.clip,
                noise_generator=noise,
            )
        self._steps = lesson.epochs * len(self._rows)

    def run(
        self,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        averaged: float,
        told: Callable[[int], None] = lambda epoch: None,
    ) -> dict[str, NDArray[Any]]:
        """Learn; the mean of each parameter over the last steps, by name.

        Args:
            loss: mean over a batch, of what the module gives and what it should give.
            averaged: the share of the steps that are the last ones. Choosing among steps by how well they
                do on rows would spend more.
            told: called after each turn, with its number from 1.
        """
        sums = {
            name: np.zeros(tuple(part.shape), np.float64)
            for name, part in self._lesson.module.named_parameters()
        }
        place = taken = 0
        with _quiet():
            for epoch in range(self._lesson.epochs):
                for *given, right in self._rows:
                    # A step for which no row was drawn adds its noise all the same.
                    self._optimiser.zero_grad()
                    loss(self._module(*given), right).backward()
                    self._optimiser.step()
                    place += 1
                    if place > self._steps * (1 - averaged):
                        for name, part in self._lesson.module.named_parameters():
                            sums[name] += part.detach().numpy()
                        taken += 1
                told(epoch + 1)
        return {name: total / taken for name, total in sums.items()}

    def spent(self) -> dict[str, Any]:
        """What has been spent, as a recipe keeps it."""
        with _quiet():
            epsilon = float(self._engine.get_epsilon(self._delta))
        return {
            "epsilon": round(max(epsilon, 0.0), 6),
            "delta": self._delta,
            "asked_epsilon": self._budget.epsilon,
            "mechanism": "DP-SGD with Poisson sampling, RDP accountant",
            "neighbours": "one row added or removed",
            "noise_multiplier": float(self._optimiser.noise_multiplier),
            "max_grad_norm": self._lesson.clip,
            "sample_rate": self._share,
            "steps": self._steps,
            "library": "opacus",
            "library_version": importlib.metadata.version("opacus"),
        }


@contextmanager
def _quiet() -> Iterator[None]:
    """Opacus tells about hooks of torch, and about a noise that is not of a cryptographic generator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
