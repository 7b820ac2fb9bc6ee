"""A recurrent network over texts: its own vocabulary, learning with early stopping, and its learning curves.

The only file of this part that imports torch; everything else asks ``available`` first.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from servable.artifact.signature import Signature
from servable.frameworks.recurrent_network import RecurrentNetwork, probabilities
from servable.frameworks.recurrent_weights import Description, Recurrent
from servable.frameworks.text_numbers import FIRST, UNKNOWN, numberer
from servable.frameworks.text_program import Numbering
from servable.frameworks.text_tokens import Analyzer, analyse
from servable.progress import Progress
from servable.tensors import STRINGS
from servable.training.candidates import threads
from servable.training.evaluate import Curve
from servable.training.split import hold_out

#: Words, and signs that are no blanks one by one.
_WORDS_AND_SIGNS = r"(?u)\w+|[^\w\s]"
_MOST_WORDS = 20_000
_MOST_SIGNS = 6_000
#: Tokens of a row at most, and the share of the rows that are read whole if that allows it.
_LONGEST = 256
_WHOLE = 0.95
_WIDTH = 96
_HIDDEN = 64
_BATCH = 32
_RATE = 2e-3
_DROPOUT = 0.4
#: Share of the tokens that are learned from as if they were not known, so that unknown ones mean something.
_FORGOTTEN = 0.1
MOST_EPOCHS = 20
#: Epochs without gain after which it stops.
_PATIENCE = 3
_CHECKED = 0.1


class Learned(NamedTuple):
    """A network, how it learned, and one line on that."""

    model: Recurrent
    curves: list[Curve]
    note: str


def learn(
    signature: Signature,
    strings: NDArray[Any],
    truth: NDArray[np.int64],
    *,
    spaced: bool,
    until: float,
    seed: int,
    progress: Progress,
    groups: NDArray[np.int64] | None = None,
) -> Learned:
    """Learn from packed texts; the epoch that is best on a tenth of them, kept aside, counts.

    Args:
        signature: of a classifier.
        strings: object ``[rows, columns]``, the packed texts.
        truth: class index ``[rows]``.
        spaced: whether words are split by blanks; else every sign is a token.
        until: the ``time.monotonic`` moment after which no further epoch is begun; one is made in any case.
        seed: of weights, order and dropout.
        progress: told of every epoch.
        groups: rows of one number are kept aside together.
    """
    parts = hold_out(len(truth), truth, "classification", share=_CHECKED, seed=seed, groups=groups)
    numbering = _numbering(signature, strings[parts.train], spaced)
    description = Description(signature=signature, numbering=numbering, width=_WIDTH, hidden=_HIDDEN)
    numbers = numberer(numbering, strings.shape[1])
    ids, lengths = numbers(strings)
    usual = torch.get_num_threads()
    # Small batches gain nothing from more threads, and lose much where others have the cores.
    torch.set_num_threads(threads(len(truth)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RecurrentNetwork(description, _DROPOUT)
        course = _Course(network, ids, lengths, truth, seed)
        note = course.run(parts.train, parts.holdout, until, progress)
    torch.set_num_threads(usual)
    weights = {name: tensor.numpy().copy() for name, tensor in course.best.items()}
    return Learned(Recurrent(description, weights), course.curves(), note)


def _numbering(signature: Signature, strings: NDArray[Any], spaced: bool) -> Numbering:
    """Vocabulary and length from the rows that are learned from."""
    packed = [field.name for field in signature.packed(STRINGS)]
    columns = tuple(packed.index(field.name) for field in signature.inputs if field.kind == "text")
    analyzer = Analyzer(unit="word", pattern=_WORDS_AND_SIGNS) if spaced else Analyzer(unit="char")
    tokens = analyse(analyzer)
    seen: Counter[str] = Counter()
    sizes = []
    for row in strings:
        found = [tokens(row[column]) for column in columns]
        sizes.append(sum(map(len, found)) + len(columns) - 1)
        for each in found:
            seen.update(set(each))
    known = [token for token, rows in seen.most_common(_MOST_WORDS if spaced else _MOST_SIGNS) if rows > 1]
    length = int(np.clip(np.quantile(sizes, _WHOLE), 1, _LONGEST))
    return Numbering(columns=columns, analyzer=analyzer, vocabulary=tuple(known), length=length)


class _Course:
    """One run of learning. ``best`` holds the weights of the best epoch."""

    def __init__(
        self,
        network: RecurrentNetwork,
        ids: NDArray[np.int64],
        lengths: NDArray[np.int32],
        truth: NDArray[np.int64],
        seed: int,
    ) -> None:
        self._network, self._ids, self._lengths = network, ids, lengths
        self._truth = torch.from_numpy(truth.astype(np.int64))
        self._random = np.random.default_rng(seed)
        self.best = self._weights()
        self._history: list[tuple[float, float, float]] = []

    def run(self, fit: NDArray[np.int64], check: NDArray[np.int64], until: float, progress: Progress) -> str:
        """Learn until nothing is gained or the time is over; one line on why it ended."""
        optimiser = torch.optim.AdamW(self._network.parameters(), lr=_RATE, weight_decay=0.01)
        best, since, longest = np.inf, 0, 0.0
        for epoch in range(MOST_EPOCHS):
            if epoch and time.monotonic() + longest > until:
                return f"{epoch} epochs, ended by the time budget"
            started = time.monotonic()
            learned = self._epoch(optimiser, fit)
            loss, accuracy = self._checked(check)
            longest = max(longest, time.monotonic() - started)
            self._history.append((learned, loss, accuracy))
            progress.advance(
                1, f"epoch {epoch + 1}: loss {learned:.3f}, kept aside {loss:.3f}, {accuracy:.3f}"
            )
            if loss < best:
                best, since, self.best = loss, 0, self._weights()
            else:
                since += 1
            if since == _PATIENCE:
                return f"{epoch + 1} epochs, the best was {epoch + 1 - since}"
        return f"{MOST_EPOCHS} epochs"

    def curves(self) -> list[Curve]:
        """Losses and accuracy by epoch."""
        epochs = [float(epoch) for epoch in range(1, len(self._history) + 1)]
        labels = ("loss, learned from", "loss, kept aside", "accuracy, kept aside")
        return [
            Curve(label=label, x=epochs, y=list(values))
            for label, values in zip(labels, zip(*self._history, strict=True), strict=True)
        ]

    def _epoch(self, optimiser: Any, fit: NDArray[np.int64]) -> float:
        """Every row once; the mean loss."""
        self._network.train()
        total = 0.0
        for rows in self._batches(fit):
            ids, lengths = self._given(rows)
            forgotten = torch.from_numpy(self._random.random(ids.shape) < _FORGOTTEN)
            ids = torch.where(forgotten & (ids >= FIRST), UNKNOWN, ids)
            loss = nn.functional.cross_entropy(self._network(ids, lengths), self._truth[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        return total / len(fit)

    def _checked(self, check: NDArray[np.int64]) -> tuple[float, float]:
        """Loss and accuracy on rows kept aside."""
        truth = self._truth[check].numpy()
        given = np.concatenate(
            [
                probabilities(self._network, *(tensor.numpy() for tensor in self._given(rows)))
                for rows in (check[at : at + 256] for at in range(0, len(check), 256))
            ]
        )
        sure = np.clip(given[np.arange(len(truth)), truth], 1e-9, 1.0)
        return float(-np.log(sure).mean()), float((given.argmax(axis=1) == truth).mean())

    def _batches(self, fit: NDArray[np.int64]) -> Sequence[NDArray[np.int64]]:
        """Rows of about the same length together, in an order of chance."""
        noise = self._random.random(len(fit)) * max(float(self._lengths.max()) / 10, 1.0)
        order = fit[np.argsort(self._lengths[fit] + noise, kind="stable")]
        batches = [order[at : at + _BATCH] for at in range(0, len(order), _BATCH)]
        return [batches[place] for place in self._random.permutation(len(batches))]

    def _given(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = self._lengths[rows]
        ids = self._ids[rows, : int(lengths.max())]
        return torch.from_numpy(ids), torch.from_numpy(lengths.astype(np.int64))

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._network.state_dict().items()}
