"""A module as a program that the adapter of PyTorch reads: data, no code, with any number of rows."""

from pathlib import Path

import torch
from torch import nn

from servable.artifact.signature import Field
from servable.errors import ModelFailed
from servable.frameworks.torch_open import quiet


def export_program(module: nn.Module, field: Field, path: Path) -> None:
    """Write a module that takes one tensor as a ``.pt2`` file.

    Args:
        module: in evaluation mode.
        field: of its input, whose name and shape the program keeps.
        path: where to.

    Raises:
        ModelFailed: PyTorch cannot export it.
    """
    given = torch.zeros((2, *field.shape), dtype=torch.float32)
    rows = torch.export.Dim("rows", min=1)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(module, (given,), dynamic_shapes=({0: rows},))
            torch.export.save(program, str(path))
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        told = " ".join(str(foreign).split())[:200].rstrip(".")
        raise ModelFailed(f"PyTorch cannot export what was learnt: {told}.") from foreign
