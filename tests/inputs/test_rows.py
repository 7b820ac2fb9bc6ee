"""The files of whole requests."""

import numpy as np
import pytest

from inputs.pictures import noise, saved
from servable.artifact.preparation import ImageInput
from servable.artifact.signature import Field, Signature
from servable.errors import DependencyMissing, RequestInvalid, RequestTooLarge
from servable.inputs.image import prepare
from servable.inputs.needed import library
from servable.inputs.rows import Preparer, raw_files
from servable.inputs.samples import example_of, png, wav
from servable.protocols.file_types import file_type_of
from servable.protocols.files import file_of

HOW = ImageInput(width=8, height=8)
FIELD = Field(name="image", kind="image", dtype="float32", shape=HOW.shape, preparation=HOW)
SIGNATURE = Signature(
    task="transform", inputs=(FIELD, Field(name="age", kind="number", dtype="float64")), outputs=(FIELD,)
)


def test_files_become_tensors_and_tensors_stay():
    preparer = Preparer(SIGNATURE)
    files = [saved(noise(seed=seed), "PNG") for seed in range(3)]
    arrays = {"numbers": np.zeros((3, 1)), "image": raw_files(files)}
    assert preparer.needed(arrays)
    made = preparer.prepared(arrays)
    assert made["numbers"] is arrays["numbers"]
    assert arrays["image"].dtype == object
    np.testing.assert_array_equal(made["image"], np.stack([prepare(data, HOW) for data in files]))
    assert not preparer.needed(made)


def test_every_file_that_does_not_fit_is_named():
    arrays = {"image": raw_files([png(), b"no picture", png(), png()[:40]])}
    with pytest.raises(RequestInvalid) as caught:
        Preparer(SIGNATURE).prepared(arrays)
    assert [problem.path for problem in caught.value.problems] == ["image[1]", "image[3]"]


def test_memory_is_bounded_before_a_file_is_opened():
    preparer = Preparer(SIGNATURE, max_bytes=3 * 8 * 8 * 4 * 2)
    preparer.prepared({"image": raw_files([png()] * 2)})
    with pytest.raises(RequestTooLarge, match="3 files"):
        preparer.prepared({"image": raw_files([b"not even looked at"] * 3)})
    # One row fits always.
    Preparer(SIGNATURE, max_bytes=1).prepared({"image": raw_files([png()])})


def test_examples_are_small_files():
    data = file_of(example_of(HOW))
    assert (data, file_type_of(data)) == (png(3), "image/png")
    assert file_type_of(wav()) == "audio/wav"
    assert len(example_of(HOW)) < 200


def test_a_library_that_is_not_there_names_its_extra():
    with pytest.raises(DependencyMissing, match=r"servable\[audio\]"):
        library("no_such_library_at_all", "audio")
