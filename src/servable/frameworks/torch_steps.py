"""What a module of PyTorch does last to its outputs, seen while it runs; alike for every form of file."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from servable.frameworks.scoring import LastStep
from servable.frameworks.torch_heads import flat

_STEPS: dict[str, LastStep] = {
    "softmax": "softmax",
    "_softmax": "softmax",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
}
#: Operators that leave scores what they are, whatever shape, type or memory they get.
_PASSING = frozenset(
    {
        "_reshape_alias",
        "_to_copy",
        "_unsafe_view",
        "alias",
        "clone",
        "contiguous",
        "detach",
        "flatten",
        "reshape",
        "squeeze",
        "to",
        "unsqueeze",
        "view",
    }
)


class Steps(TorchDispatchMode):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Sees every operator that runs within it (``with Steps() as steps``). For one thread."""

    def __init__(self) -> None:
        super().__init__()
        # The tensors are kept, so that no other gets the number of one that is gone.
        self._made: dict[int, tuple[torch.Tensor, LastStep]] = {}

    def last(self, tensor: torch.Tensor) -> LastStep:
        """What made a tensor that came out of the run."""
        return self._made[id(tensor)][1] if id(tensor) in self._made else ""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator and note what it made."""
        name = func.overloadpacket.__name__
        before: LastStep = ""
        if name in _PASSING and args and isinstance(args[0], torch.Tensor):
            before = self.last(args[0])
        outputs = func(*args, **(kwargs or {}))
        step = _STEPS.get(name, before)
        for tensor in flat(outputs):
            if step:
                self._made[id(tensor)] = (tensor, step)
            else:
                self._made.pop(id(tensor), None)
        return outputs
