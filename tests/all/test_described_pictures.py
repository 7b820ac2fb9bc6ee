"""A JPEG sent to networks whose input is described: equal to the libraries over the same decoded pixels."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

Image = pytest.importorskip("PIL.Image", reason="needs the extra image; make test-all has it")
pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")
pytest.importorskip("tensorflow", reason="needs the extra tensorflow; make test-all has it")
pytest.importorskip("keras", reason="needs the extra keras; make test-all has it")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

import torch
from torch import nn

import servable
from all.wire import over_grpc
from frameworks.networks import keras

SIDE = 16
LABELS = ("cat", "dog", "bird")
DESCRIPTION = """
scores = "logits"

[[inputs]]
name = "photo"
kind = "image"

[inputs.preparation]
width = 16
height = 16
layout = "{layout}"
mean = [0.5, 0.4, 0.3]
std = [0.25, 0.5, 0.2]
"""
MEAN, STD = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.25, 0.5, 0.2], np.float32)


def jpegs(count: int = 5) -> list[bytes]:
    """Photos of a few large spots: as large as the network wants, and one that is larger."""
    generator = np.random.default_rng(4)
    found = []
    for number in range(count):
        spots = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        size = (SIDE, SIDE) if number < count - 1 else (27, 22)
        written = io.BytesIO()
        spots.resize(size, Image.Resampling.BICUBIC).save(written, "JPEG", quality=70)
        found.append(written.getvalue())
    return found


def pixels(data: bytes) -> Any:
    """What Pillow decodes, scaled as described: float32 ``[side, side, 3]``."""
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return (np.asarray(picture, np.float32) / np.float32(255) - MEAN) / STD


def added(path: Path, layout: str, home: Path) -> None:
    """Add and deploy as a person does."""
    from servable.cli.main import app

    described = path.parent / "net.toml"
    described.write_text(DESCRIPTION.format(layout=layout))
    arguments = ["add", str(path), "--name", "pets", "--describe", str(described), "--deploy"]
    said = CliRunner().invoke(app, [*arguments, "--labels", ",".join(LABELS), "--home", str(home)])
    assert said.exit_code == 0, said.output


def shares(scores: Any) -> Any:
    spread = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return spread / spread.sum(axis=1, keepdims=True)


def test_a_jpeg_posted_to_a_keras_model_is_answered_as_keras_does(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3), name="pixels"),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.MaxPool2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(len(LABELS)),
        ]
    )
    model.save(tmp_path / "net.keras")
    added(tmp_path / "net.keras", "hwc", tmp_path / "home")
    photos = jpegs()
    wanted = shares(model.predict(np.stack([pixels(each) for each in photos]), verbose=0))
    assert len({*wanted.argmax(axis=1)}) > 1
    with servable.serve(background=True, home=tmp_path / "home", port=0) as server:
        for photo, chances in zip(photos, wanted, strict=True):
            head = {"content-type": "image/jpeg"}
            answer = httpx.post(f"{server.url}/models/pets/predict", content=photo, headers=head).json()
            assert answer["prediction"] == LABELS[int(chances.argmax())]
            np.testing.assert_allclose(list(answer["probabilities"].values()), chances, atol=1e-4)
        with servable.Client(server.url) as client:
            many = client.predict("pets", photos)
            np.testing.assert_allclose(many.to_numpy(probabilities=True), wanted, atol=1e-4)


class Net(nn.Module):
    """Scores of three classes for pictures ``[n, 3, side, side]``."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 6, 3)
        self.tell = nn.Linear(6 * 14 * 14, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax."""
        return self.tell(torch.relu(self.look(x)).flatten(1))


def test_a_script_is_asked_over_grpc_with_tensors_and_with_jpegs(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Net().eval()
    torch.jit.script(model).save(str(tmp_path / "net.pt"))
    added(tmp_path / "net.pt", "chw", tmp_path / "home")
    photos = jpegs()
    tensors = np.ascontiguousarray(np.stack([pixels(each) for each in photos]).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        wanted = model(torch.from_numpy(tensors)).softmax(-1).numpy()
    assert len({*wanted.argmax(axis=1)}) > 1
    labels = [LABELS[place] for place in wanted.argmax(axis=1)]
    files = np.array(photos, object)
    with servable.serve(background=True, home=tmp_path / "home", port=0) as server:
        for given, close in ((tensors, 1e-5), (files, 1e-4)):
            chances = over_grpc(server.url, "pets", {"photo": given}, "probabilities")
            np.testing.assert_allclose(chances, wanted, atol=close)
        outputs = httpx.get(f"{server.url}/v2/models/pets").json()["outputs"]
        (name,) = [each["name"] for each in outputs if each["datatype"] == "BYTES"]
        told = over_grpc(server.url, "pets", {"photo": files}, name)
        assert [each.decode() for each in told] == labels
