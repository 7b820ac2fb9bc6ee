"""The records that declare how files become tensors."""

from typing import Any

import msgspec
import pytest

from servable.artifact import signature as signatures
from servable.artifact.preparation import AudioInput, ImageInput, Preparation
from servable.artifact.signature import Field, Signature


def test_a_signature_keeps_them_and_old_ones_are_as_they_were():
    fields = (
        Field(name="image", kind="image", dtype="float32", shape=(1, 8, 8),
              preparation=ImageInput(width=8, height=8, channels=1, mean=(0.5,))),
        Field(name="sound", kind="audio", dtype="float32", shape=(40, 101),
              preparation=AudioInput(features="mel")),
        Field(name="text", kind="text", dtype="str"),
    )  # fmt: skip
    made = Signature(task="transform", inputs=fields, outputs=(fields[0],))
    assert signatures.decode(signatures.encode(made)) == made
    plain = Field(name="x", kind="number", dtype="float64")
    assert b"preparation" not in msgspec.json.encode(plain)
    assert [field.takes_files for field in (*fields, plain)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        (ImageInput(width=4, height=2), (3, 2, 4)),
        (ImageInput(width=4, height=2, layout="hwc", channels=1), (2, 4, 1)),
        (AudioInput(rate=8000, seconds=0.5), (4000,)),
        (AudioInput(rate=8000, features="mel", hop=80, mels=20), (20, 101)),
        (AudioInput(features="mfcc"), (13, 101)),
    ],
)
def test_each_says_the_shape_of_its_tensor(how: Preparation, shape: tuple[int, ...]):
    assert how.shape == shape


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (ImageInput, {"width": 0, "height": 8}, "width is above 0"),
        (ImageInput, {"width": 8, "height": 8, "crop": 1.5}, "crop"),
        (ImageInput, {"width": 8, "height": 8, "crop": 0.5, "fit": "contain"}, "contain"),
        (ImageInput, {"width": 8, "height": 8, "mean": [0.5, 0.5]}, "mean"),
        (ImageInput, {"width": 8, "height": 8, "std": [0.0]}, "std"),
        (ImageInput, {"width": 8, "height": 8, "background": 256}, "background"),
        (ImageInput, {"width": 8, "height": 8, "channels": 2}, "channels"),
        (ImageInput, {"width": 100_000, "height": 100_000}, "more than"),
        (AudioInput, {"seconds": -1.0}, "seconds"),
        (AudioInput, {"seconds": 1e-9}, "no sample"),
        (AudioInput, {"low_hz": 9000.0}, "bands"),
        (AudioInput, {"high_hz": 9000.0}, "bands"),
        (AudioInput, {"features": "mfcc", "coefficients": 41}, "coefficients"),
        (AudioInput, {"features": "mfcc", "log": "none"}, "log"),
        (AudioInput, {"trim_db": -1.0}, "trim_db"),
        (AudioInput, {"seconds": 1e6, "max_seconds": 1e6}, "more than"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(kind: Any, values: dict[str, Any], said: str):
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert({"type": kind.__struct_config__.tag, **values}, kind)
