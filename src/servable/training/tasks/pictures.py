"""Pictures as tensors for learning: what size and colour, and which changes leave a label as it is."""

import io
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from servable.artifact.preparation import ImageInput
from servable.artifact.signature import Field
from servable.errors import DataError
from servable.inputs.needed import library
from servable.training.tasks.network import Augment

#: Pictures of one size up to this many pixels a side keep it; others are fitted to the next two.
_OWN_SIDE = 64
_FITTED_SIDE = 64
#: Pictures looked at to decide.
_LOOKED_AT = 400
#: A difference between colours below this many of 255 is grey.
_GREY = 4


def input_of(files: tuple[bytes, ...], names: tuple[str, ...], name: str = "image") -> Field:
    """The field that takes pictures like these.

    Raises:
        DataError: a file is no picture.
    """
    pillow: Any = library("PIL.Image", "image")
    step = max(len(files) // _LOOKED_AT, 1)
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    unreadable = (OSError, ValueError, SyntaxError, EOFError, Warning, pillow.DecompressionBombError)
    for data, place in zip(files[::step], names[::step], strict=True):
        try:
            with pillow.open(io.BytesIO(data)) as picture:
                sizes[picture.size] += 1
                grey = grey and _is_grey(picture)
        except unreadable as error:
            raise DataError(f"{place} is no picture that can be read.") from error
    size, count = sizes.most_common(1)[0]
    same = count == sum(sizes.values()) and max(size) <= _OWN_SIDE
    width, height = size if same else (_FITTED_SIDE, _FITTED_SIDE)
    how = ImageInput(
        width=width, height=height, channels=1 if grey else 3, fit="stretch" if same else "cover"
    )
    return Field(name=name, kind="image", dtype="float32", shape=how.shape, preparation=how)


def _is_grey(picture: Any) -> bool:
    if picture.mode in ("1", "L", "I", "F", "LA") or picture.mode.startswith("I;"):
        return True
    small = np.asarray(picture.convert("RGB").resize((32, 32)), dtype=np.int16)
    return bool((small.max(axis=2) - small.min(axis=2)).max() <= _GREY)


def augmentation(mirror: bool) -> Augment:
    """Pictures moved by up to a tenth, mirrored where that leaves the label, and with a patch rubbed out.

    The patch is that of DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", 2017.
    """

    def change(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count, _, height, width = rows.shape
        if mirror:
            turned = torch.rand(count, generator=generator) < 0.5
            rows = torch.where(turned[:, None, None, None], rows.flip(3), rows)
        reach_y, reach_x = max(height // 10, 1), max(width // 10, 1)
        wide = functional.pad(rows, (reach_x, reach_x, reach_y, reach_y), mode="replicate")
        top = torch.randint(0, 2 * reach_y + 1, (count,), generator=generator)
        left = torch.randint(0, 2 * reach_x + 1, (count,), generator=generator)
        lines = top[:, None] + torch.arange(height)
        columns = left[:, None] + torch.arange(width)
        each = torch.arange(count)
        moved = wide.permute(0, 2, 3, 1)[each[:, None, None], lines[:, :, None], columns[:, None, :]]
        return _rubbed(moved.permute(0, 3, 1, 2), generator)

    return change


def _rubbed(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the pictures lose a patch of a quarter of their sides; it takes the picture's mean."""
    count, _, height, width = rows.shape
    y = torch.randint(0, height, (count,), generator=generator)[:, None]
    x = torch.randint(0, width, (count,), generator=generator)[:, None]
    tall, broad = max(height // 8, 1), max(width // 8, 1)
    inside = ((torch.arange(height) - y).abs() <= tall)[:, :, None]
    inside = inside & ((torch.arange(width) - x).abs() <= broad)[:, None, :]
    chosen = (torch.rand(count, generator=generator) < 0.5)[:, None, None]
    mask = (inside & chosen)[:, None]
    return torch.where(mask, rows.mean(dim=(2, 3), keepdim=True), rows)


def mirrored(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every picture with left and right exchanged."""
    return np.ascontiguousarray(rows[..., ::-1])
