"""Sounds as tensors: read with soundfile, resampled and turned into features with scipy and numpy.

Of the many formats that libsndfile knows, five are handed to it, told by their first bytes. The reader of MP3
writes lines about damaged files straight to the standard error output, and is made silent for that; where it
cannot be, or libsndfile is older than 1.1, MP3 is refused.

Where the features come from:

- Mel scale ``htk``: 2595 log10(1 + f / 700), O'Shaughnessy, Speech Communication (1987), and the HTK Book
  (Young et al.), section 5.4; triangles of height 1 between equally spaced mels.
- Mel scale ``slaney``: 15 mels for each kilohertz below 1 kHz, above it 27 mels for each factor of 6.4;
  triangles of equal area. Slaney, Auditory Toolbox, Interval Research report 1998-010.
- MFCC: the orthonormal DCT-II of the logarithm of the bands, after Davis and Mermelstein, IEEE ASSP (1980).
- Spectrum: power of a Hann window of ``n_fft`` samples, periodic, each frame centred on a multiple of
  ``hop`` with silence beyond the ends.
"""

import functools
import io
import math
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.preparation import AudioInput
from servable.inputs.hushed import hushed, possible
from servable.inputs.needed import FileUnfit, library

_A_SOUND = "a sound (WAV, FLAC, Ogg, AIFF or MP3)"
#: Power below which nothing is told apart.
_FLOOR = 1e-10
#: Highest rate that a file may claim; recorders stop at 768 kHz.
_FASTEST = 1_000_000
#: A second counts as no more samples than this towards the longest sound.
_USUAL = 48_000
#: Sizes from here on are what programs write that do not know the size yet.
_UNKNOWN_SIZE = 0x7FFF0000
#: Bytes of the head of an ID3 tag.
_TAG_HEAD = 10
#: What libsndfile says of a sound whose length it does not know.
_UNKNOWN_COUNT = 2**62
#: Most channels that are mixed down.
_MOST_CHANNELS = 64
#: Samples, all channels together, that are decoded at once.
_BLOCK = 1 << 18
#: Samples of a frame by which silence is told, as a share of a second.
_SILENCE_S = 0.02

#: Largest number in the ratio of two rates; usual rates need at most 441.
_MOST_STEPS = 1000

Floats = NDArray[np.float32]


def prepare(data: bytes, how: AudioInput, dtype: str = "float32") -> NDArray[Any]:
    """One sound file as the tensor of one row.

    Args:
        data: the bytes of the file: WAV, FLAC, Ogg (Vorbis or Opus), AIFF or MP3.
        how: what is done with it; see there for the order.
        dtype: of the tensor, a floating one.

    Returns:
        An array of the shape ``how.shape``.

    Raises:
        FileUnfit: no sound, damaged, or longer than the declared limits; a sentence for the caller.
        DependencyMissing: soundfile or scipy is not installed.
    """
    waveform, rate = read(data, how)
    return of_waveform(waveform, rate, how).astype(dtype, copy=False)


def read(data: bytes, how: AudioInput) -> tuple[Floats, int]:
    """The waveform of a file, mixed down, and its rate.

    A sound is decoded no further than its window reaches, unless silence is cut or its middle is kept.

    Raises:
        FileUnfit: see ``prepare``.
        DependencyMissing: soundfile is not installed.
    """
    if len(data) > how.max_bytes:
        raise FileUnfit(f"a sound of at most {how.max_bytes} bytes", f"{len(data)} bytes")
    if not data:
        raise FileUnfit("the bytes of a sound", "an empty file")
    soundfile = library("soundfile", "audio")
    mp3 = _check_form(data)
    if mp3 and not ("MP3" in soundfile.available_formats() and possible()):
        raise FileUnfit("a sound (WAV, FLAC, Ogg or AIFF)", "an MP3, which this machine does not read")
    try:
        with hushed() if mp3 else nullcontext(), soundfile.SoundFile(_Bytes(mp3 or data)) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            if not 0 < rate <= _FASTEST or not 0 < channels <= _MOST_CHANNELS:
                raise FileUnfit("a sound of a usual rate and number of channels", "an odd header")
            if file.frames > _most_frames(rate, how):
                raise FileUnfit(_longest(how), f"one of {file.frames / rate:.0f} seconds at {rate} Hz")
            return _mixed(file, rate, channels, how), rate
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError, TypeError) as error:
        raise FileUnfit(_A_SOUND, f"{len(data)} damaged bytes") from error


class _Bytes(io.BytesIO):
    """Bytes as a file in which a damaged header may ask for any place: outside is the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place; never raises for one that is not there."""
        base = (0, self.tell(), len(self.getbuffer()))[whence]
        return super().seek(max(0, base + offset))


def _check_form(data: bytes) -> bytes:
    """Whether it begins like a sound and is as long as it says.

    Returns:
        The frames of an MP3, without the tag in front; empty for every other form.

    Raises:
        FileUnfit: it is not.
    """
    head, kind = data[:4], data[8:12]
    if frames := _mp3_frames(data):
        return frames
    if head == b"RIFF" and kind == b"WAVE":
        size = 8 + int.from_bytes(data[4:8], "little")
    elif head == b"FORM" and kind in (b"AIFF", b"AIFC"):
        size = 8 + int.from_bytes(data[4:8], "big")
    elif head in (b"fLaC", b"OggS"):
        size = 0
    else:
        raise FileUnfit(_A_SOUND, f"{len(data)} bytes of something else")
    if len(data) < size < _UNKNOWN_SIZE:
        raise FileUnfit("a whole sound", "a truncated one")
    return b""


def _mp3_frames(data: bytes) -> bytes:
    """The file from its first frame on, if it is one of MPEG layer III; else empty.

    A tag is passed over here: behind one, libsndfile would look for each of the formats that it knows.
    """
    start = 0
    if data[:3] == b"ID3" and len(data) >= _TAG_HEAD:
        sizes = data[6:_TAG_HEAD]
        # Seven bits of a byte each; a tag may have a copy of its head behind it.
        start = _TAG_HEAD + sum(part << 7 * place for place, part in enumerate(reversed(sizes)))
        start += _TAG_HEAD if data[5] & 0x10 else 0
    head = data[start : start + 4]
    # Eleven bits that are set, a version, layer III, and a rate of bits and one of samples that exist.
    framed = len(head) == 4 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08
    exists = framed and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3
    return data[start:] if exists else b""


def _most_frames(rate: int, how: AudioInput) -> int:
    return math.floor(how.max_seconds * min(rate, max(_USUAL, how.rate)))


def _longest(how: AudioInput) -> str:
    return f"a sound of at most {how.max_seconds:g} seconds of {max(_USUAL, how.rate)} Hz"


def _mixed(file: Any, rate: int, channels: int, how: AudioInput) -> Floats:
    """The frames of an open file as one channel; headers that promise too little are not believed."""
    whole = how.trim_db > 0 or how.keep == "middle" or how.normalise == "peak"
    most = _most_frames(rate, how)
    # Behind the window some frames more, which the filter of resampling reaches.
    wanted = most if whole else min(most, math.ceil((how.seconds + 1) * rate))
    blocks: list[Floats] = []
    count = 0
    while count < wanted:
        block = file.read(min(wanted - count, max(1, _BLOCK // channels)), dtype="float32", always_2d=True)
        if not len(block):
            if count < min(file.frames, wanted) and file.frames < _UNKNOWN_COUNT:
                raise FileUnfit("a whole sound", "a damaged or truncated one")
            break
        count += len(block)
        blocks.append(block[:, 0] if channels == 1 else block.mean(axis=1, dtype=np.float32))
    else:
        # Formats without a count of frames end only when they are read.
        if wanted == most and len(file.read(1, dtype="float32", always_2d=True)):
            raise FileUnfit(_longest(how), "a longer one")
    if not count:
        raise FileUnfit("a sound with at least one sample", "a sound of none")
    return np.nan_to_num(np.concatenate(blocks), nan=0.0, posinf=0.0, neginf=0.0)


def of_waveform(waveform: Floats, rate: int, how: AudioInput) -> Floats:
    """A waveform in memory as the tensor of one row: what a file of it would give.

    Args:
        waveform: samples of one channel, from -1 to 1, at least one.
        rate: of them, in samples a second.
        how: what is done with it.

    Raises:
        DependencyMissing: scipy is not installed.
    """
    sound = _resampled(np.asarray(waveform, np.float32), rate, how.rate)
    if how.trim_db > 0:
        sound = _trimmed(sound, how)
    if how.normalise == "peak":
        peak = float(np.abs(sound).max(initial=0.0))
        sound = sound / np.float32(peak) if peak > 0 else sound
    sound = _window(sound, how)
    if how.features == "waveform":
        made = sound
    else:
        made = _bands(sound, how)
        if how.features == "mfcc":
            fft = library("scipy.fft", "audio")
            made = fft.dct(made, type=2, axis=0, norm="ortho")[: how.coefficients]
    if how.normalise == "features":
        spread = float(made.std())
        made = (made - made.mean()) / np.float32(spread if spread > 1e-8 else 1.0)
    return np.ascontiguousarray(made, np.float32)


def _resampled(sound: Floats, rate: int, wanted: int) -> Floats:
    if rate == wanted:
        return sound
    signal = library("scipy.signal", "audio")
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    if max(up, down) > _MOST_STEPS:
        # An odd rate would need a filter of millions of taps; the nearest simple ratio differs by less than
        # anybody hears.
        up, down = _near_ratio(wanted / rate)
    made: Floats = signal.resample_poly(sound, up, down).astype(np.float32, copy=False)
    return made


def _near_ratio(share: float) -> tuple[int, int]:
    if share < 1:
        found = Fraction(1 / share).limit_denominator(max(1, int(_MOST_STEPS * share)))
        return found.denominator, found.numerator
    found = Fraction(share).limit_denominator(max(1, int(_MOST_STEPS / share)))
    return found.numerator, found.denominator


def _trimmed(sound: Floats, how: AudioInput) -> Floats:
    """Without the silence at both ends; as it is when it is silent throughout."""
    size = max(1, round(_SILENCE_S * how.rate))
    frames = -(-len(sound) // size)
    padded = np.zeros(frames * size, np.float32)
    padded[: len(sound)] = sound
    power = np.square(padded.reshape(frames, size)).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-how.trim_db / 10))
    if not len(loud):
        return sound
    return sound[loud[0] * size : (loud[-1] + 1) * size]


def _window(sound: Floats, how: AudioInput) -> Floats:
    over = len(sound) - how.samples
    if over >= 0:
        start = over // 2 if how.keep == "middle" else 0
        return sound[start : start + how.samples]
    made = np.zeros(how.samples, np.float32)
    made[: len(sound)] = sound
    return made


def _bands(sound: Floats, how: AudioInput) -> Floats:
    """Power in mel bands ``[mels, frames]``, or its logarithm."""
    fft = library("scipy.fft", "audio")
    half = how.n_fft // 2
    padded = np.zeros(len(sound) + 2 * half + how.n_fft % 2, np.float32)
    padded[half : half + len(sound)] = sound
    frames = np.lib.stride_tricks.sliding_window_view(padded, how.n_fft)[:: how.hop]
    frames = frames[: 1 + len(sound) // how.hop]
    spectrum = fft.rfft(frames * _hann(how.n_fft), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    bands: Floats = _filters(how) @ np.ascontiguousarray(power.T)
    if how.log == "none":
        return bands
    logs = np.log(np.maximum(bands, _FLOOR))
    return logs * np.float32(10 / math.log(10)) if how.log == "decibel" else logs


@functools.lru_cache(maxsize=64)
def _hann(size: int) -> Floats:
    """The periodic window; nobody writes to it."""
    made = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    made.setflags(write=False)
    return made


@functools.lru_cache(maxsize=64)
def _filters(how: AudioInput) -> Any:
    """The triangles of the bands ``[mels, bins]``, sparse: a few bins each, and no library's own threads."""
    to_mel, to_hz = (_htk, _htk_back) if how.mel_scale == "htk" else (_slaney, _slaney_back)
    corners = to_hz(np.linspace(to_mel(np.float64(how.low_hz)), to_mel(np.float64(how.top_hz)), how.mels + 2))
    bins = np.arange(how.n_fft // 2 + 1) * (how.rate / how.n_fft)
    below = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    above = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    made = np.maximum(0.0, np.minimum(below, above))
    if how.mel_scale == "slaney":
        made *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return library("scipy.sparse", "audio").csr_array(made.astype(np.float32))


def _htk(hz: Any) -> Any:
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def _htk_back(mel: Any) -> Any:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _slaney(hz: Any) -> Any:
    above = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / math.log(6.4)
    return np.where(hz < 1000.0, hz * 0.015, above)


def _slaney_back(mel: Any) -> Any:
    above = 1000.0 * np.exp(math.log(6.4) * (np.maximum(mel, 15.0) - 15.0) / 27.0)
    return np.where(mel < 15.0, mel / 0.015, above)
