"""The recurrent network as torch computes it."""

from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from servable.frameworks.recurrent_weights import Description, Recurrent
from servable.frameworks.text_numbers import FILLING, FIRST


class RecurrentNetwork(nn.Module):  # type: ignore[misc]  # torch is seen without types
    """Token numbers to logits; see ``recurrent_weights.Description``.

    Args:
        description: the sizes.
        dropout: share of what goes into the recurrent and the last layer that is left out while learning.
    """

    def __init__(self, description: Description, dropout: float = 0.0) -> None:
        super().__init__()
        tokens = FIRST + len(description.numbering.vocabulary)
        self.embedding = nn.Embedding(tokens, description.width, padding_idx=FILLING)
        self.gru = nn.GRU(description.width, description.hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(4 * description.hidden, len(description.signature.classes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits ``[rows, classes]`` for int64 ``[rows, steps]`` and the tokens of each row ``[rows]``."""
        embedded = self.dropout(self.embedding(ids))
        sequence = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(sequence)[0], batch_first=True)
        beyond = torch.arange(states.shape[1])[None, :, None] >= lengths[:, None, None]
        mean = states.masked_fill(beyond, 0.0).sum(dim=1) / lengths[:, None]
        largest = states.masked_fill(beyond, -torch.inf).amax(dim=1)
        return cast("Tensor", self.out(self.dropout(torch.cat([mean, largest], dim=1))))


def network_of(model: Recurrent) -> RecurrentNetwork:
    """The network with its weights, ready to answer."""
    network = RecurrentNetwork(model.description)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in model.weights.items()})
    network.eval()
    return network


def probabilities(network: RecurrentNetwork, ids: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """Probabilities float32 ``[rows, classes]``; the network is put into the state in which it answers."""
    network.eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(ids), torch.from_numpy(lengths).long())
        return cast("NDArray[Any]", torch.softmax(logits, dim=1).numpy())
