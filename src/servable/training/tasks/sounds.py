"""Sounds as tensors for learning: window and bands, and which changes leave a label as it is."""

import io
from collections import Counter
from typing import Any

import numpy as np
import torch

from servable.artifact.preparation import AudioInput
from servable.artifact.signature import Field
from servable.errors import DataError
from servable.inputs.needed import library
from servable.training.tasks.network import Augment

#: Sounds looked at to decide.
_LOOKED_AT = 1_000
#: Windows are at most this long; longer sounds are told apart by their beginning.
_LONGEST_S = 10.0
_HIGHEST_RATE = 16_000
_MELS = 40


def input_of(files: tuple[bytes, ...], names: tuple[str, ...], name: str = "audio") -> Field:
    """The field that takes sounds like these: nearly all fit whole into the window.

    Raises:
        DataError: a file is no sound.
    """
    soundfile: Any = library("soundfile", "audio")
    step = max(len(files) // _LOOKED_AT, 1)
    rates: Counter[int] = Counter()
    lengths = []
    for data, place in zip(files[::step], names[::step], strict=True):
        try:
            found = soundfile.info(io.BytesIO(data))
        except (RuntimeError, OSError) as error:
            raise DataError(f"{place} is no sound that can be read.") from error
        rates[int(found.samplerate)] += 1
        lengths.append(found.frames / found.samplerate)
    rate = min(rates.most_common(1)[0][0], _HIGHEST_RATE)
    seconds = min(max(float(np.ceil(np.quantile(lengths, 0.98) * 10) / 10), 0.1), _LONGEST_S)
    hop = max(round(rate * 0.010), round(rate * seconds / 400))
    how = AudioInput(
        rate=rate,
        seconds=seconds,
        features="mel",
        n_fft=1 << (round(rate * 0.032) - 1).bit_length(),
        hop=hop,
        mels=_MELS,
        low_hz=50.0,
        normalise="peak",
        log="decibel",
        max_seconds=max(60.0, 10 * seconds),
    )
    return Field(name=name, kind="audio", dtype="float32", shape=how.shape, preparation=how)


def augmentation() -> Augment:
    """Sounds a little earlier or later, louder or softer, with a band and a stretch of time rubbed out.

    The bands and stretches are those of Park et al., "SpecAugment", 2019. Rows are
    ``[n, 1, mels, frames]`` in decibels.
    """

    def change(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count, _, mels, frames = rows.shape
        silence = rows.amin(dim=(1, 2, 3), keepdim=True)
        reach = max(frames // 8, 1)
        shift = torch.randint(-reach, reach + 1, (count,), generator=generator)
        source = torch.arange(frames)[None, :] - shift[:, None]
        outside = (source < 0) | (source >= frames)
        taken = source.clamp(0, frames - 1)[:, None, None, :].expand(count, 1, mels, frames)
        moved = torch.where(outside[:, None, None, :], silence, rows.gather(3, taken))
        heard = moved > silence
        gain = (torch.rand(count, generator=generator) * 12 - 6)[:, None, None, None]
        moved = torch.where(heard, moved + gain, moved)
        moved = moved + torch.randn(moved.shape, generator=generator) * 0.7
        level = moved.mean(dim=(1, 2, 3), keepdim=True)
        bands = _stretch(count, mels, max(mels // 6, 1), generator)[:, None, :, None]
        times = _stretch(count, frames, max(frames // 8, 1), generator)[:, None, None, :]
        return torch.where(bands | times, level, moved)

    return change


def _stretch(count: int, size: int, longest: int, generator: torch.Generator) -> torch.Tensor:
    """For each row a stretch of up to so many places, ``[count, size]``."""
    length = torch.randint(0, longest + 1, (count, 1), generator=generator)
    start = torch.randint(0, size, (count, 1), generator=generator)
    places = torch.arange(size)[None, :]
    return (places >= start) & (places < start + length)
