"""Private models of pictures: a small convolutional network by noisy gradient descent.

The network has group normalisation (Wu and He, 2018), because batch normalisation mixes rows and none of them
could be clipped, and bounded activations, which keep gradients small (Papernot et al., "Tempered sigmoid
activations for deep learning with differential privacy", 2021). What it needs to know of the pictures (their
size, their colours, their classes) is told; there is no comparison of families, no stopping early and no
choice by validation, all of which would ask the rows again. The number of turns is fixed.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from servable.artifact.preparation import ImageInput
from servable.artifact.profile import profile
from servable.artifact.signature import Field
from servable.errors import DataError, SettingInvalid
from servable.progress import Progress
from servable.training.bounds import read_held
from servable.training.crossval import CandidateResult
from servable.training.outcome import TrainingResult, libraries
from servable.training.tasks.learning import ADAPTER, exported
from servable.training.tasks.private.budget import Budget
from servable.training.tasks.private.descent import Descent, Lesson
from servable.training.tasks.tensors import SAMPLE_BYTES, Fitted, TensorProblem, evaluation_of

NETWORK = "dp_network"
_TITLE = "convolutional network with differential privacy"
#: Chosen on public pictures, see docs/security.md.
_BATCH = 512
_EPOCHS = 20
_RATE = 8.0
_CLIP = 0.1
_MOMENTUM = 0.9
_AVERAGED = 0.2
_GROUPS = 4
#: Values are from 0 to 1; they are levelled by these, and by nothing that was measured.
_MIDDLE, _SPREAD = 0.5, 0.25
_FORM = 'image = {"width" = 28, "height" = 28, "channels" = 1}'


class Known(NamedTuple):
    """What everybody may know: the form of the pictures, and the classes in the order of the file."""

    field: Field
    classes: tuple[str, ...]


def read_known(path: Path, target: str) -> Known:
    """What a file of TOML or JSON says of pictures and their classes.

    Raises:
        FileMissing: there is no such file.
        SettingInvalid: it cannot be read, or does not say what is needed.
    """
    held = read_held(path)
    image, classes = held.get("image"), held.get(target)
    sizes = ("width", "height", "channels")
    if not isinstance(image, dict) or image.keys() != set(sizes):
        raise SettingInvalid(f"{path} must say the form of the pictures, such as {_FORM}.")
    width, height, channels = (image[name] for name in sizes)
    if not all(type(side) is int and 8 <= side <= 512 for side in (width, height)) or channels not in (1, 3):
        raise SettingInvalid(f"{path} must give sides from 8 to 512 pixels and 1 or 3 channels of pictures.")
    if not isinstance(classes, list) or len(classes) < 2:
        raise SettingInvalid(f"{path} must list the classes of {target!r}, at least two.")
    how = ImageInput(width=width, height=height, channels=channels, fit="stretch")
    field = Field(name="image", kind="image", dtype="float32", shape=how.shape, preparation=how)
    return Known(field, tuple(str(label) for label in classes))


def check_classes(problem: TensorProblem, known: Known, place: Path) -> None:
    """Whether the classes of the pictures are those that were told.

    Raises:
        DataError: one more or one less.
    """
    found = problem.signature.classes
    other = sorted(set(map(str, found)) ^ set(known.classes))
    if other:
        raise DataError(f"The class {other[0]!r} is in {place.name} or among the pictures, but not in both.")


class PrivateNetwork(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Rows ``[n, channels, height, width]`` from 0 to 1 to scores ``[n, classes]``."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 5, 2, 2),
            nn.GroupNorm(_GROUPS, 16),
            nn.Tanh(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.GroupNorm(_GROUPS, 32),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(4),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 32), nn.Tanh(), nn.Linear(32, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        return self.head(self.features((x - _MIDDLE) / _SPREAD))


def train(
    problem: TensorProblem,
    budget: Budget,
    recipe: dict[str, Any],
    *,
    seed: int,
    folder: Path,
    progress: Progress,
) -> TrainingResult:
    """Train a network within a budget, measure it on pictures that it never saw, and export it.

    Args:
        problem: the pictures, in the form that was told.
        budget: what may be spent.
        recipe: what is known of how the rows came to be.
        seed: of the first weights, which know nothing of the rows; never of the noise.
        folder: for files meanwhile; must stay until the package is written.
        progress: told of every turn.

    Raises:
        SettingInvalid: a budget that cannot be kept to.
        ModelFailed: PyTorch cannot export what was learnt.
    """
    budget.check()
    began = time.monotonic()
    module, spent = _learned(problem, budget, seed, progress)
    fitted = Fitted(CandidateResult(NETWORK, _TITLE, 0.0, 0.0, 0.0, {}), module, len(problem.train))
    progress.begin("Measure on unseen rows")
    found = evaluation_of(problem, fitted, (), seed)
    progress.done(f"accuracy {found.metrics['accuracy']:.4f} on {len(problem.holdout)} files")
    sample = problem.holdout[: max(1, SAMPLE_BYTES // max(problem.rows[0].nbytes, 1))]
    held = {problem.field.name: problem.rows[sample]}
    return TrainingResult(
        trained=exported(problem, fitted, folder),
        evaluation=found,
        holdout=held,
        holdout_truth=problem.truth[sample],
        holdout_rows=sample.astype(np.int64),
        # Of the rows that it learned from nothing is kept, not even counts.
        sample=held,
        leaderboard=(),
        profile=profile(problem.signature, {}, problem.truth[problem.holdout]),
        recipe={**recipe, **_recipe(problem, seed), "privacy": spent},
        columns=(),
        dropped=(),
        notes=(*problem.notes, _note(spent)),
        seconds=time.monotonic() - began,
        adapter=ADAPTER,
    )


def _learned(
    problem: TensorProblem, budget: Budget, seed: int, progress: Progress
) -> tuple[nn.Module, dict[str, Any]]:
    """A network in evaluation mode, and what was spent on it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = PrivateNetwork(problem.field.shape[0], len(problem.signature.classes))
    rows = torch.from_numpy(problem.rows[problem.train])
    truth = torch.from_numpy(problem.truth[problem.train])
    lesson = Lesson(module, (rows, truth), _BATCH, _EPOCHS, _RATE, _CLIP, _MOMENTUM)
    descent = Descent(lesson, budget)
    progress.begin("Teach the network", total=_EPOCHS)
    found = descent.run(
        functional.cross_entropy, averaged=_AVERAGED, told=lambda turn: progress.advance(1, f"turn {turn}")
    )
    spent = descent.spent()
    progress.done(f"epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}, on {len(rows)} rows")
    made = PrivateNetwork(problem.field.shape[0], len(problem.signature.classes))
    made.load_state_dict({name: torch.from_numpy(part).float() for name, part in found.items()})
    return made.eval(), spent


def _recipe(problem: TensorProblem, seed: int) -> dict[str, Any]:
    return {
        "estimator": NETWORK,
        "title": _TITLE,
        "params": {},
        "metric": "accuracy",
        "task": "classification",
        "target": problem.signature.answer.name,
        "seed": seed,
        "rows_train": len(problem.train),
        "rows_holdout": len(problem.holdout),
        "validation": "held-out rows alone",
        "libraries": libraries(),
    }


def _note(spent: dict[str, Any]) -> str:
    return (
        f"trained with differential privacy (epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}): "
        "the form of the pictures and their classes were told, and statistics are those of held-out files"
    )
