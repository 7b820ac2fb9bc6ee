"""What becomes of the raw outputs of a network: the module that runs as trained and that is exported."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from servable.tensors import PREDICTION, PROBABILITIES

#: How raw outputs become answers. ``logits`` and ``probabilities`` have one score for each class; ``logit``
#: and ``probability`` one for the second of two.
Head = Literal["raw", "value", "logits", "probabilities", "logit", "probability"]


class Headed(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """A model whose outputs are the answers, in order of ``answer_names``: what runs, and what is exported.

    Args:
        module: gives a tensor, or tensors in a tuple, list or dict.
        head: what becomes of them.
    """

    def __init__(self, module: Callable[..., Any], head: Head) -> None:
        super().__init__()
        self.module = module
        self.head = head
        # Not ``eval()``: the modules of exported programs refuse it, and all others are in that mode already.
        self.training = False

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The answers to rows."""
        outputs = flat(self.module(*tensors))
        if self.head == "raw":
            return tuple(plain(each) for each in outputs)
        first = plain(outputs[0])
        if self.head == "value":
            return (first,)
        scores = first.float()
        if self.head in ("logits", "probabilities"):
            return (scores.softmax(-1) if self.head == "logits" else scores,)
        second = scores.reshape(scores.shape[0])
        second = second.sigmoid() if self.head == "logit" else second
        return (torch.stack([1.0 - second, second], dim=1),)


def flat(outputs: Any) -> list[torch.Tensor]:
    """The tensors of an output, whatever holds them."""
    leaves, _ = torch.utils._pytree.tree_flatten(outputs)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a type that numpy has."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def answer_names(options: Mapping[str, Any]) -> list[str]:
    """What the outputs of ``Headed`` are called."""
    head = options["head"]
    if head == "raw":
        return [str(name) for name in options["outputs"]]
    return [PREDICTION if head == "value" else PROBABILITIES]


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor as an array of numpy."""
    return np.asarray(plain(tensor.detach()).cpu().numpy())
