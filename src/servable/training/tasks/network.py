"""A small convolutional network and how it learns: on processors, within a budget, from a seed.

The network is of the residual kind (He et al., "Deep Residual Learning for Image Recognition", 2015) with
batch normalisation; it learns with AdamW and a rate that rises and falls once (Smith and Topin,
"Super-Convergence", 2017), on labels smoothed a little, and the weights that were best on validation rows
are kept.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from servable.progress import Progress
from servable.training.tasks.pace import Pace, quickest

#: Rows of one step, and of one answer while validating.
_BATCH = 64
_ANSWER = 256
_RATE = 4e-3
_DECAY = 0.02
_SMOOTHING = 0.05
#: Epochs without a better validation after which learning ends.
_PATIENCE = 12
#: Channels of the first part, of a network that sees rows whole and of one that sees them halved. Of 24, 32
#: and 48 the middle one was best on validation rows after as many turns as fit into three minutes on two slow
#: cores (26, 23 and 13), with 5,400 pictures of clothes.
_WIDTH, _WIDTH_HALVED = 24, 32
#: A turn that takes so many times as long as the one before has the pace found anew.
_SLOWER = 1.5

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


class Lesson(NamedTuple):
    """What a network learns from.

    Attributes:
        rows: float32 ``[rows, channels, height, width]``.
        truth: class indexes ``[rows]``.
        classes: how many there are.
        augment: changes a batch in ways that do not change its labels.
        halved: whether rows are halved in height and width at once, which leaves enough of a picture to see
            and costs a third.
        mirrored: whether a mirror image has the label of its row, so that the mean of both is the answer.
    """

    rows: NDArray[np.float32]
    truth: NDArray[np.int64]
    classes: int
    augment: Augment
    halved: bool = False
    mirrored: bool = False


class Epoch(NamedTuple):
    """One turn through the rows: mean loss while learning, loss and accuracy on the validation rows."""

    loss: float
    validation_loss: float
    accuracy: float


class Learnt(NamedTuple):
    """A network with its best weights, in evaluation mode, and its course."""

    module: nn.Module
    epochs: tuple[Epoch, ...]


class _Block(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Two convolutions around which the input is carried."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(made)
        self.second = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(made)
        self.carry: nn.Module = nn.Identity()
        if stride != 1 or given != made:
            self.carry = nn.Sequential(nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's value."""
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(inner)) + self.carry(x))


class ConvolutionalNetwork(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Rows ``[n, channels, height, width]`` to scores ``[n, classes]``; values are levelled by fixed numbers.

    Args:
        channels: of the rows.
        classes: how many scores.
        mean: taken off every value.
        std: divided by then.
        width: channels of the first part; doubled in each further one.
        parts: each but the first halves height and width.
        halved: whether the first convolution is followed by halving height and width.
        dropout: share of the last features that is left out while learning.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        mean: float,
        std: float,
        width: int = _WIDTH,
        parts: int = 3,
        halved: bool = False,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std) or 1.0))
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2) if halved else nn.Identity(),
        )
        sizes = [width * 2**part for part in range(parts)]
        self.blocks = nn.Sequential(
            *(
                _Block(before, size, 1 if part == 0 else 2)
                for part, (before, size) in enumerate(zip([width, *sizes], sizes, strict=False))
            )
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(sizes[-1], classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        features = self.blocks(self.stem((x - self.mean) / self.std))
        return self.head(features.mean(dim=(2, 3)))


class Mirrored(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """The mean of a network's log probabilities for rows and for their mirror images."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        plain, turned = self.inner(x), self.inner(x.flip(3))
        return (torch.log_softmax(plain, 1) + torch.log_softmax(turned, 1)) / 2


def learn(
    lesson: Lesson,
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
    *,
    epochs: int,
    until: float,
    seed: int,
    progress: Progress,
) -> Learnt:
    """Teach a network; the global random state and the threads of PyTorch are left as they were.

    Args:
        lesson: rows to learn from.
        validation: rows and classes that tell when it is best.
        epochs: turns through the rows when the time allows.
        until: by ``time.monotonic``, after which no further turn is begun; three are made in any case.
        seed: of weights, order and augmentation.
        progress: told of every turn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ConvolutionalNetwork(
            lesson.rows.shape[1],
            lesson.classes,
            mean=float(lesson.rows.mean()),
            std=float(lesson.rows.std()),
            width=_WIDTH_HALVED if lesson.halved else _WIDTH,
            parts=4 if min(lesson.rows.shape[2:]) >= 48 else 3,
            halved=lesson.halved,
        ).to(memory_format=torch.channels_last)
        return _course(_Learner(module, lesson, seed), validation, epochs, until, progress)


def turns_in(left: float, seconds: Sequence[float], epochs: int) -> int:
    """Turns to make in all, as many as there is time for; at least three, and those that were made. Pure.

    Args:
        left: seconds that are left; none or fewer when time is over.
        seconds: of each turn so far; at least one. The first also tries how to compute, so it tells of those
            that follow only while there is no other.
        epochs: turns at most, if there is time.
    """
    more = max(0, int(left / statistics.median(seconds[1:] or seconds)))
    return max(min(epochs, len(seconds) + more), 3, len(seconds))


def _course(
    learner: "_Learner",
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
    epochs: int,
    until: float,
    progress: Progress,
) -> Learnt:
    module = learner.module
    ended, turns, seconds = time.monotonic(), epochs, list[float]()
    best, kept, course = (-1.0, 0.0), copy.deepcopy(module.state_dict()), list[Epoch]()
    progress.begin("Teach the network", total=epochs)
    while len(course) < turns:
        loss = learner.turn(len(course) / turns, 1 / turns)
        with learner.pace.applied(), torch.autocast("cpu", enabled=False):
            validation_loss, accuracy = _validated(module, *validation)
        course.append(Epoch(loss, validation_loss, accuracy))
        progress.advance(epochs / turns, f"accuracy {accuracy:.4f}")
        if (accuracy, -validation_loss) > best:
            best, kept, since = (accuracy, -validation_loss), copy.deepcopy(module.state_dict()), 0
        else:
            since = len(course) - 1 - max(range(len(course)), key=lambda at: _rank(course[at]))
        # The rate falls to nothing at the last turn, so the number of turns follows the time that is left.
        before, ended = ended, time.monotonic()
        seconds.append(ended - before)
        turns = turns_in(until - ended, seconds, epochs)
        if since >= _PATIENCE:
            break
    module.load_state_dict(kept)
    module.eval()
    progress.done(f"validation accuracy {best[0]:.4f} after {len(course)} turns")
    return Learnt(Mirrored(module).eval() if learner.lesson.mirrored else module, tuple(course))


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.accuracy, -epoch.validation_loss


class _Learner:
    """A network on its way: its optimiser, its rows, and the pace of its steps."""

    def __init__(self, module: nn.Module, lesson: Lesson, seed: int) -> None:
        self.module = module
        self.lesson = lesson
        self.pace = Pace(1, narrow=False)
        self._rows, self._truth = torch.from_numpy(lesson.rows), torch.from_numpy(lesson.truth)
        self._optimiser = _optimiser(module)
        self._generator = torch.Generator().manual_seed(seed)
        self._shortest = 0.0

    def turn(self, begun: float, length: float) -> float:
        """Once through all rows in a new order, at a place in the whole course; the mean loss."""
        began = time.monotonic()
        if self._shortest == 0.0:
            self._find_pace()
        self.module.train()
        order = torch.randperm(len(self._rows), generator=self._generator)
        total = 0.0
        with self.pace.applied():
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                if len(chosen) < 2:
                    # Batch normalisation has nothing to level a single row by.
                    continue
                for group in self._optimiser.param_groups:
                    group["lr"] = _RATE * _rate_at(begun + length * start / len(order))
                given = self.lesson.augment(self._rows[chosen], self._generator)
                total += _step(self.module, self._optimiser, given, self._truth[chosen]) * len(chosen)
        seconds = time.monotonic() - began
        # Zero asks for another look, because somebody has come who wants the processors too.
        self._shortest = 0.0 if seconds > _SLOWER * self._shortest > 0.0 else seconds
        return total / len(self._rows)

    def _find_pace(self) -> None:
        tried = copy.deepcopy(self.module).train()
        optimiser = _optimiser(tried)
        given, truth = self._rows[:_BATCH], self._truth[:_BATCH]
        self.pace = quickest(lambda: _step(tried, optimiser, given, truth))


def _optimiser(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=_DECAY)


def _step(
    module: nn.Module, optimiser: torch.optim.Optimizer, given: torch.Tensor, truth: torch.Tensor
) -> float:
    """Learn from one batch; its loss."""
    optimiser.zero_grad(set_to_none=True)
    scores = module(given.contiguous(memory_format=torch.channels_last))
    loss = functional.cross_entropy(scores.float(), truth, label_smoothing=_SMOOTHING)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 2.0)
    optimiser.step()
    return float(loss.detach())


def _rate_at(share: float) -> float:
    """The learning rate as a part of the highest: up over the first fifth, then down as a cosine."""
    if share < 0.2:
        return 0.1 + 0.9 * share / 0.2
    return float(0.5 * (1 + np.cos(np.pi * (share - 0.2) / 0.8)))


@torch.inference_mode()  # type: ignore[untyped-decorator]  # likewise
def _validated(module: nn.Module, rows: NDArray[np.float32], truth: NDArray[np.int64]) -> tuple[float, float]:
    scores = answers(module, rows)
    wanted = torch.from_numpy(truth)
    loss = functional.cross_entropy(torch.from_numpy(scores), wanted)
    return float(loss), float((scores.argmax(axis=1) == truth).mean())


@torch.inference_mode()  # type: ignore[untyped-decorator]  # likewise
def answers(module: nn.Module, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores ``[rows, classes]`` of a module in evaluation mode, a chunk at a time."""
    module.eval()
    parts = [module(torch.from_numpy(rows[at : at + _ANSWER])).numpy() for at in range(0, len(rows), _ANSWER)]
    scores: Any = np.concatenate(parts)
    return np.asarray(scores, dtype=np.float32)
