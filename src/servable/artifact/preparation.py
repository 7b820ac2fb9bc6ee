"""How a picture or a sound becomes the tensor that a model takes: declared, never code.

A ``Field`` of the signature carries one of these records. The runtime, the training tasks and the
client's checks read the same record and call the same functions of ``servable.inputs``, so that a model
is served with exactly what it was trained with. In files a record is told by its key ``type``: ``image`` or
``audio``. Texts have none: they stay texts until the predictor, see ``inputs.text``.

The field's dtype and shape are those of the tensor that comes out, which is what the tensor protocols
send. The record's ``shape`` says what the shape has to be.
"""

import math
from typing import Literal

import msgspec

#: Most pixels of a picture, counted before it is decoded, unless the record says otherwise.
MAX_PIXELS = 50_000_000
#: Most bytes of one file as it is sent, unless the record says otherwise.
MAX_BYTES = 32 * 1024 * 1024
#: Longest sound in seconds, counted before it is decoded, unless the record says otherwise.
MAX_SECONDS = 120.0
#: Most values of one prepared row: no declaration may ask for more than 512 MiB of float32.
_MAX_VALUES = 128 * 1024 * 1024

Fit = Literal["stretch", "cover", "contain"]
Resample = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]


class ImageInput(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="image"
):
    """A picture file becomes an array ``[channels, height, width]`` or ``[height, width, channels]``.

    In this order: the first frame, turned upright as its EXIF says, in 8 bits a channel, laid upon
    ``background`` where it is transparent, made grey or RGB, fitted to the size, inverted, multiplied by
    ``scale``, then ``(x - mean) / std``, then laid out.

    Attributes:
        width: of the tensor, in pixels.
        height: of the tensor, in pixels.
        channels: 1 for grey (luma of ITU-R 601), 3 for RGB.
        fit: ``stretch`` ignores the proportions; ``cover`` keeps them and cuts what is over;
            ``contain`` keeps them and fills up with ``background``.
        resample: the filter; shrinking with any but ``nearest`` looks at every pixel.
        crop: how much of the fitted picture is kept, from its middle: 0.875 is the usual "resize to 256,
            cut 224". With ``cover`` and ``stretch`` only.
        layout: ``chw`` as PyTorch has it, ``hwc`` as TensorFlow does.
        scale: multiplied with values of 0 to 255.
        mean: taken off after ``scale``, one for each channel or one for all; nothing when empty.
        std: divided by after that, one for each channel or one for all; nothing when empty.
        invert: whether black becomes white first, as for dark writing on light paper when the model learnt
            light on dark.
        background: the grey behind transparent pixels and beside a contained picture, 0 to 255.
        max_pixels: a larger picture is refused by its header, before it is decoded.
        max_bytes: a larger file is refused.
    """

    width: int
    height: int
    channels: Literal[1, 3] = 3
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    crop: float = 1.0
    layout: Literal["chw", "hwc"] = "chw"
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    invert: bool = False
    background: int = 255
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out.

        Raises:
            ValueError: one sentence; ``msgspec`` turns it into a ``ValidationError`` with its place.
        """
        _positive(self, "width", "height", "max_pixels", "max_bytes")
        _finite(self, "scale", "crop")
        if not 0 < self.crop <= 1:
            raise ValueError("crop is a share of the picture, above 0 and at most 1")
        if self.crop < 1 and self.fit == "contain":
            raise ValueError("crop cuts what contain has just kept; use cover")
        if not 0 <= self.background <= 255:
            raise ValueError("background is a grey from 0 to 255")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, self.channels) or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} has one finite value for each of the {self.channels} channels")
        if 0 in self.std:
            raise ValueError("std is divided by and cannot be 0")
        _bounded(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor, without the row axis."""
        if self.layout == "hwc":
            return self.height, self.width, self.channels
        return self.channels, self.height, self.width


class AudioInput(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="audio"
):
    """A sound file becomes ``[samples]``, ``[mels, frames]`` or ``[coefficients, frames]``.

    In this order: channels mixed down to one, resampled to ``rate``, silence at both ends cut if
    ``trim_db`` is given, levelled if asked, cut or filled with silence to ``seconds``, then the features,
    then normalised. Frames are centred on multiples of ``hop`` with silence beyond the ends, so there are
    ``1 + samples // hop`` of them.

    Attributes:
        rate: of the waveform, in samples a second.
        seconds: the window; a longer sound is cut, a shorter one filled up with silence behind.
        keep: which part of a longer sound: its ``start`` or its ``middle``.
        features: ``waveform``, ``mel`` (power in mel bands) or ``mfcc``.
        n_fft: samples of one frame (a periodic Hann window).
        hop: samples from frame to frame.
        mels: bands.
        coefficients: of ``mfcc``, the first ones, orthonormal DCT-II.
        low_hz: where the lowest band begins.
        high_hz: where the highest band ends; 0 for half the rate.
        mel_scale: ``htk``: 2595 log10(1 + f / 700), triangles of height 1; ``slaney``: linear below 1 kHz,
            triangles of equal area.
        log: of the power in bands: ``natural``, ``decibel`` or ``none``; nothing below 1e-10 is told apart.
        normalise: ``none``; ``peak``, the waveform's largest value becomes 1; ``features``, the row's values
            get mean 0 and deviation 1.
        trim_db: silence at both ends is cut where frames are this far below the loudest; 0 for none.
        max_seconds: a longer sound is refused by its header, before it is decoded.
        max_bytes: a larger file is refused.
    """

    rate: int = 16_000
    seconds: float = 1.0
    keep: Literal["start", "middle"] = "start"
    features: Literal["waveform", "mel", "mfcc"] = "waveform"
    n_fft: int = 400
    hop: int = 160
    mels: int = 40
    coefficients: int = 13
    low_hz: float = 0.0
    high_hz: float = 0.0
    mel_scale: Literal["htk", "slaney"] = "htk"
    log: Literal["none", "natural", "decibel"] = "natural"
    normalise: Literal["none", "peak", "features"] = "none"
    trim_db: float = 0.0
    max_seconds: float = MAX_SECONDS
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out.

        Raises:
            ValueError: one sentence; ``msgspec`` turns it into a ``ValidationError`` with its place.
        """
        _positive(self, "rate", "seconds", "n_fft", "hop", "mels", "coefficients", "max_seconds", "max_bytes")
        _finite(self, "seconds", "low_hz", "high_hz", "trim_db", "max_seconds")
        if self.samples < 1:
            raise ValueError("the window of this many seconds holds no sample")
        if not 0 <= self.low_hz < self.top_hz <= self.rate / 2:
            raise ValueError("the bands lie between low_hz and high_hz, within half the rate")
        if self.trim_db < 0:
            raise ValueError("trim_db is how far below the loudest frame silence lies, 0 or more")
        if self.features == "mfcc" and (self.coefficients > self.mels or self.log == "none"):
            raise ValueError("mfcc has at most as many coefficients as mels, and takes a log")
        if self.features != "waveform" and self.n_fft > 2**20:
            raise ValueError("n_fft is at most 1048576")
        _bounded((*self.shape, 1 if self.features == "waveform" else self.n_fft // self.shape[0] + 1))

    @property
    def samples(self) -> int:
        """Of the window at ``rate``."""
        return round(self.rate * self.seconds)

    @property
    def top_hz(self) -> float:
        """Where the highest band ends."""
        return self.high_hz or self.rate / 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor, without the row axis."""
        if self.features == "waveform":
            return (self.samples,)
        frames = 1 + self.samples // self.hop
        return (self.mels if self.features == "mel" else self.coefficients), frames


Preparation = ImageInput | AudioInput


def _positive(record: msgspec.Struct, *names: str) -> None:
    for name in names:
        if not getattr(record, name) > 0:
            raise ValueError(f"{name} is above 0")


def _finite(record: msgspec.Struct, *names: str) -> None:
    for name in names:
        if not math.isfinite(getattr(record, name)):
            raise ValueError(f"{name} is a finite number")


def _bounded(shape: tuple[int, ...]) -> None:
    if math.prod(shape) > _MAX_VALUES:
        raise ValueError(f"a row of the shape {list(shape)} has more than {_MAX_VALUES} values")
