"""Features of waveforms, against sums written out; files of sounds are tested where soundfile is."""

import numpy as np
import pytest

from servable.artifact.preparation import AudioInput
from servable.inputs.audio import of_waveform

RATE = 8000


def tone(hz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def test_a_waveform_is_cut_and_filled_to_its_window():
    how = AudioInput(rate=RATE, seconds=0.5)
    np.testing.assert_array_equal(of_waveform(tone(440), RATE, how), tone(440)[:4000])
    short = of_waveform(tone(440, 0.25), RATE, how)
    np.testing.assert_array_equal(short, np.concatenate([tone(440, 0.25), np.zeros(2000, np.float32)]))
    middle = of_waveform(tone(440), RATE, AudioInput(rate=RATE, seconds=0.5, keep="middle"))
    np.testing.assert_array_equal(middle, tone(440)[2000:6000])


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 44100, 48000, 44101])
def test_any_rate_becomes_the_declared_one(rate: int):
    found = of_waveform(tone(300, rate=rate), rate, AudioInput(rate=RATE))
    assert found.shape == (RATE,)
    np.testing.assert_allclose(found[500:-500], tone(300)[500:-500], atol=0.02)


def test_silence_at_both_ends_is_cut():
    sound = np.concatenate([np.zeros(4000, np.float32), tone(440, 0.5), np.zeros(4000, np.float32)])
    found = of_waveform(sound, RATE, AudioInput(rate=RATE, seconds=0.5, trim_db=40))
    np.testing.assert_allclose(found, tone(440, 0.5), atol=1e-6)
    assert not of_waveform(np.zeros(100, np.float32), RATE, AudioInput(rate=RATE, trim_db=40)).any()


def test_levels():
    found = of_waveform(tone(440) * 0.1, RATE, AudioInput(rate=RATE, normalise="peak"))
    assert found.max() == pytest.approx(1.0, abs=1e-3)
    found = of_waveform(tone(440), RATE, AudioInput(rate=RATE, features="mel", normalise="features"))
    assert (found.mean(), found.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-4))
    silent = of_waveform(np.zeros(8000, np.float32), RATE, AudioInput(rate=RATE, normalise="features"))
    assert not silent.any()


def written_out(sound: np.ndarray, how: AudioInput) -> np.ndarray:
    """Mel power by its definition, frame by frame and bin by bin, in double precision."""
    half, size = how.n_fft // 2, how.n_fft
    padded = np.concatenate([np.zeros(half), sound.astype(np.float64), np.zeros(half + 1)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731 - as the formula is written
    corners = 700 * (10 ** (np.linspace(mel(how.low_hz), mel(how.top_hz), how.mels + 2) / 2595) - 1)
    frames = []
    for frame in range(1 + len(sound) // how.hop):
        part = padded[frame * how.hop : frame * how.hop + size] * window
        power = np.abs(np.fft.rfft(part)) ** 2
        bands = []
        for low, peak, high in zip(corners, corners[1:], corners[2:], strict=False):
            hz = np.arange(size // 2 + 1) * how.rate / size
            bands.append(
                (
                    np.clip(np.minimum((hz - low) / (peak - low), (high - hz) / (high - peak)), 0, 1) * power
                ).sum()
            )
        frames.append(bands)
    return np.array(frames).T


def test_mel_bands_are_what_their_definition_says():
    sound = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    said = {"rate": RATE, "features": "mel", "n_fft": 256, "hop": 100, "mels": 20, "low_hz": 50}
    how = AudioInput(log="none", **said)
    want = written_out(sound, how)
    found = of_waveform(sound, RATE, how)
    assert found.shape == how.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(of_waveform(sound, RATE, AudioInput(**said)), np.log(want), atol=1e-3)
    decibels = of_waveform(sound, RATE, AudioInput(log="decibel", **said))
    np.testing.assert_allclose(decibels, 10 * np.log10(want), atol=1e-2)


def test_mfcc_are_the_orthonormal_cosine_transform_of_the_bands():
    sound = np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)
    how = {"rate": RATE, "n_fft": 256, "hop": 100, "mels": 20}
    logs = of_waveform(sound, RATE, AudioInput(features="mel", **how)).astype(np.float64)
    places = np.arange(20)
    basis = np.cos(np.pi / 20 * (places + 0.5) * places[:, None]) * np.sqrt(2 / 20)
    basis[0] /= np.sqrt(2)
    found = of_waveform(sound, RATE, AudioInput(features="mfcc", coefficients=7, **how))
    np.testing.assert_allclose(found, (basis @ logs)[:7], atol=1e-3)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_a_tone_is_loudest_in_its_band(scale: str):
    how = AudioInput(rate=16_000, features="mel", n_fft=1024, hop=256, mels=40, mel_scale=scale)
    loudest = [
        of_waveform(tone(hz, rate=16_000), 16_000, how)[:, 20].argmax() for hz in (200, 800, 2000, 6000)
    ]
    assert loudest == sorted(set(loudest))


def test_an_odd_frame_is_framed_as_an_even_one():
    how = AudioInput(rate=RATE, features="mel", n_fft=255, hop=80, mels=16)
    assert of_waveform(tone(440), RATE, how).shape == how.shape
