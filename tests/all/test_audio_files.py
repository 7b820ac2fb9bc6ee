"""Files of sounds: every form, files that are none, and a model of sounds over a real server."""

import base64
import contextlib
import io
import os
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import servable
from inputs.models import network
from servable.artifact.preparation import AudioInput
from servable.inputs.audio import of_waveform, prepare
from servable.inputs.hushed import hushed
from servable.inputs.needed import FileUnfit
from servable.workflows.hints import hints_of
from thoroughness import examples

soundfile = pytest.importorskip("soundfile", reason="needs the extra audio; make test-all has it")
pytestmark = pytest.mark.frameworks

RATE = 8000
HOW = AudioInput(rate=RATE, seconds=0.25)


def tone(hz: float = 440, seconds: float = 0.25, rate: int = RATE) -> Any:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def file(sound: Any, form: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    target = io.BytesIO()
    soundfile.write(target, sound, rate, format=form, subtype=subtype)
    return target.getvalue()


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
     ("WAV", "ULAW"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("OGG", "VORBIS")],
)  # fmt: skip
def test_every_form_gives_the_sound(form: str, subtype: str):
    found = prepare(file(tone(), form, subtype=subtype), HOW)
    assert (found.dtype, found.shape) == (np.float32, HOW.shape)
    loose = 0.15 if subtype == "VORBIS" else 0.02
    np.testing.assert_allclose(found[100:-100], tone()[100:-100], atol=loose)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_an_mp3_gives_the_sound(rate: int):
    data = file(tone(rate=rate), "MP3", rate)
    found = prepare(data, HOW)
    assert found.shape == HOW.shape
    np.testing.assert_allclose(found[100:-100], tone()[100:-100], atol=0.15)
    # Pictures of albums and names of singers stand in front.
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 88]) + b"x" * (2 * 128 + 88)
    np.testing.assert_array_equal(prepare(tag + data, HOW), found)


def test_only_an_mp3_may_stand_behind_a_tag():
    tag = b"ID3\x04\x00\x00" + bytes(4)
    for form in ("WAV", "FLAC", "AU", "CAF"):
        with pytest.raises(FileUnfit, match="something else"):
            prepare(tag + file(tone(), form), HOW)


def test_damaged_mp3s_say_nothing_on_the_standard_error_output(capfd: pytest.CaptureFixture[str]):
    whole = file(np.random.default_rng(0).normal(0, 0.3, 4 * RATE).astype(np.float32), "MP3")
    generator = np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(whole)
        for place in generator.integers(200, len(data), 200):
            data[place] = generator.integers(256)
        with contextlib.suppress(FileUnfit):
            prepare(bytes(data), AudioInput(rate=RATE, seconds=4.0))
    assert capfd.readouterr() == ("", "")
    # Whoever writes by the descriptor, as Python does, is heard all the same.
    with hushed():
        os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_channels_are_mixed_down_and_rates_made_alike():
    stereo = np.stack([tone(), np.zeros_like(tone())], axis=1)
    np.testing.assert_allclose(prepare(file(stereo), HOW), tone() / 2, atol=1e-3)
    fast = prepare(file(tone(rate=44_100), rate=44_100), HOW)
    np.testing.assert_allclose(fast[100:-100], tone()[100:-100], atol=0.02)
    # What training does with a waveform in memory and serving does with its file are the same.
    mel = AudioInput(rate=RATE, seconds=0.25, features="mel", n_fft=256, hop=80)
    exact = file(tone(rate=44_100), "WAV", 44_100, "FLOAT")
    np.testing.assert_array_equal(prepare(exact, mel), of_waveform(tone(rate=44_100), 44_100, mel))


def test_a_long_sound_is_decoded_no_further_than_its_window():
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * RATE).astype(np.float32)
    for how in (
        HOW,
        AudioInput(rate=RATE, seconds=0.25, keep="middle"),
        AudioInput(rate=RATE, features="mel"),
    ):
        data = file(noise, subtype="FLOAT")
        np.testing.assert_allclose(prepare(data, how), of_waveform(noise, RATE, how), atol=1e-5)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "AIFF", "MP3"])
def test_cut_at_every_byte_a_sound_is_refused_or_sound(form: str, capfd: pytest.CaptureFixture[str]):
    data = file(tone(seconds=0.05), form)
    refused = 0
    for size in range(len(data)):
        try:
            prepare(data[:size], HOW)
        except FileUnfit:
            refused += 1
    # An Ogg file may end after any page, an MP3 after any frame.
    assert refused == len(data) or form in ("OGG", "MP3")
    assert capfd.readouterr() == ("", "")


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(["WAV", "FLAC", "OGG", "AIFF", "MP3"]), st.data())
def test_a_changed_sound_is_a_sound_or_refused(form: str, data: st.DataObject):
    whole = bytearray(file(tone(seconds=0.02), form))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = prepare(bytes(whole), HOW)
    except FileUnfit:
        return
    assert found.shape == HOW.shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "data",
    [b"", b"nothing", b"RIFF", b"ID3\x04" + bytes(100), b"\xff\xfb\x90\x00" + bytes(9), b"fLaC" + bytes(100)],
)
def test_bytes_that_are_no_sound_are_refused(data: bytes):
    with pytest.raises(FileUnfit):
        prepare(data, HOW)


@pytest.mark.parametrize("form", ["FLAC", "MP3"])
@pytest.mark.parametrize("how", [HOW, AudioInput(rate=RATE, keep="middle", trim_db=30)])
def test_an_hour_is_refused_by_its_header(form: str, how: AudioInput):
    hour = file(np.zeros(3600 * RATE, np.float32), form)
    assert len(hour) < 32 * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(FileUnfit, match="at most 120 seconds"):
            prepare(hour, how)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_header_of_an_absurd_rate_buys_no_memory():
    data = bytearray(file(np.zeros(30_000_000, np.int16), "FLAC", 96_000))
    with pytest.raises(FileUnfit, match=r"at 96000 Hz|at most"):
        prepare(bytes(data), AudioInput(rate=RATE, max_seconds=200, normalise="peak"))


def test_a_model_of_sounds_is_called_with_a_wav(tmp_path: Path):
    how = AudioInput(rate=RATE, seconds=0.25, features="mel", n_fft=256, hop=80, mels=20)
    bands, frames = how.shape
    weights = np.zeros((bands, 2), np.float32)
    weights[: bands // 3, 0] = weights[bands // 3 :, 1] = 1
    model = network(
        tmp_path / "net.onnx",
        [
            helper.make_node("ReduceMean", ["mel", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["scores"]),
        ],
        ("mel", [None, 1, bands, frames]),
        ("scores", [None, 2]),
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1, 3]), "axes")],
    )
    (tmp_path / "net.toml").write_text(
        '[[inputs]]\nname = "sound"\n[inputs.preparation]\ntype = "audio"\nrate = 8000\nseconds = 0.25\n'
        'features = "mel"\nn_fft = 256\nhop = 80\nmels = 20\n'
    )
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for hz in (200, 300, 2500, 3000):
        (sounds / f"{hz}.wav").write_bytes(file(tone(hz)))
    hints = hints_of(tmp_path / "net.toml", labels="low,high")
    home = tmp_path / "home"
    servable.add(model, name="pitch", sample=sounds, hints=hints, deploy=True, home=home)
    want = [
        ["low", "high"][int((of_waveform(tone(hz), RATE, how).mean(axis=1) @ weights).argmax())]
        for hz in (200, 3000)
    ]
    server = servable.serve(home=home, port=0, background=True)
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for hz, label in zip((200, 3000), want, strict=True):
                data = file(tone(hz))
                raw = client.post("/predict", content=data, headers={"content-type": "audio/wav"})
                assert raw.json()["prediction"] == label
                text = {"input": {"sound": base64.b64encode(data).decode()}}
                assert client.post("/predict", json=text).json()["prediction"] == label
                assert client.post("/predictions/pitch", content=data).json() == label
                packed = {"content": file(tone(hz, 0.5), "MP3"), "headers": {"content-type": "audio/mpeg"}}
                assert client.post("/predict", **packed).json()["prediction"] == label
            broken = client.post("/predict", content=data[:300], headers={"content-type": "audio/wav"})
            assert broken.status_code == 422
            assert "a whole sound" in broken.text
            with servable.Client(server.url) as library:
                assert library.predict("pitch", sounds / "200.wav").prediction == want[0]
    finally:
        server.stop()
