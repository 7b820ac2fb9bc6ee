"""Small models of PyTorch in every form of file, from a seed, and a class in a file of its own."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from servable.artifact.signature import Field
from servable.frameworks.base import Hints

LABELS = ("ham", "eggs", "spam")
INPUT = Field(name="x", kind="tensor", dtype="float32", shape=(4,))

CLASS = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.drop = torch.nn.Dropout(0.5)
        self.last = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.first(x))))
"""


def net(seed: int = 0) -> nn.Module:
    """A network with a layer that does something else in training."""
    torch.manual_seed(seed)
    found: dict[str, Any] = {}
    exec(CLASS, found)
    made: nn.Module = found["Net"]().eval()
    return made


class Plain(nn.Module):
    """The same in parts that TorchScript and pickles find again."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 1e6):
            x = x * 0.5
        return self.body(x)


def program(path: Path, module: nn.Module | None = None, rows: int = 0) -> Path:
    """An exported program; with ``rows`` one of a fixed batch."""
    given = torch.zeros(rows or 2, 4)
    shapes = None if rows else ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(module or net(), (given,), dynamic_shapes=shapes), path)
    return path


def script(path: Path) -> Path:
    """TorchScript with a branch in it."""
    torch.jit.script(Plain().eval()).save(str(path))
    return path


def traced(path: Path) -> Path:
    torch.jit.trace(net(), torch.zeros(2, 4)).save(str(path))
    return path


def weights(path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(net().state_dict(), path)
    else:
        torch.save(net().state_dict(), path)
    return path


def with_class(folder: Path) -> Hints:
    """Hints that name the class, whose file is written."""
    (folder / "net.py").write_text(CLASS, encoding="utf-8")
    return Hints(inputs=(INPUT,), labels=LABELS, entry=f"{folder / 'net.py'}:Net")
