"""Pictures of every kind as tensors, and files that are none."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inputs.pictures import huge_png, noise, saved
from servable.artifact.preparation import ImageInput
from servable.inputs.image import prepare
from servable.inputs.needed import FileUnfit
from servable.inputs.samples import png
from thoroughness import examples

PLAIN = ImageInput(width=20, height=12)


def pixels_of(picture: Image.Image) -> Any:
    return np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) * np.float32(1 / 255)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_picture_of_the_right_size_comes_out_as_it_is(form: str):
    found = prepare(saved(noise(), form), PLAIN)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, pixels_of(noise()), atol=1e-7)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF"])
def test_lossy_forms_come_out_as_pillow_reads_them(form: str):
    data = saved(noise(), form)
    np.testing.assert_allclose(prepare(data, PLAIN), pixels_of(_read(data)), atol=1e-6)


def _read(data: bytes) -> Image.Image:
    import io

    return Image.open(io.BytesIO(data))


def test_layout_scale_mean_deviation_and_inversion_in_their_order():
    how = ImageInput(
        width=20, height=12, layout="hwc", scale=1 / 127.5, mean=(1.0,), std=(0.5, 1.0, 2.0), invert=True
    )
    want = ((255 - np.asarray(noise(), np.float64)) / 127.5 - 1.0) / np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(prepare(saved(noise(), "PNG"), how), want, atol=1e-5)


def test_bytes_stay_bytes_where_nothing_is_computed():
    how = ImageInput(width=20, height=12, layout="hwc", scale=1)
    found = prepare(saved(noise(), "PNG"), how, "uint8")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.asarray(noise()))


def test_grey_is_the_luma_of_the_picture():
    found = prepare(saved(noise(), "PNG"), ImageInput(width=20, height=12, channels=1, scale=1))
    np.testing.assert_array_equal(found[0], np.asarray(noise().convert("L"), np.float32))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_whatever_its_exif_says(orientation: int):
    turns = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
             Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90,
             Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_270]  # fmt: skip
    turn = turns[orientation - 1]
    stored = noise() if turn is None else noise().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_allclose(prepare(saved(stored, "PNG", exif=exif), PLAIN), pixels_of(noise()), atol=1e-7)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_gives_the_same_grey(mode: str):
    grey = Image.new("L", (20, 12), 255)
    if mode == "I;16":
        picture = Image.fromarray(np.full((12, 20), 65535, np.uint16))
    elif mode in ("I", "F"):
        # Their range is their own: the brightest is white.
        pixels = np.zeros((12, 20), np.int32 if mode == "I" else np.float32)
        pixels[:, ::2] = 70_000
        picture = Image.fromarray(pixels)
    else:
        picture = grey.convert(mode)
    form = "TIFF" if mode in ("CMYK", "YCbCr", "F", "I") else "PNG"
    found = prepare(saved(picture, form), PLAIN)
    if mode in ("I", "F"):
        assert set(np.unique(found)) == {0.0, 1.0}
    else:
        np.testing.assert_allclose(found, 1.0, atol=0.01)


def test_what_is_transparent_shows_the_background():
    clear = saved(Image.new("RGBA", (20, 12), (255, 0, 0, 0)), "PNG")
    palette = Image.new("P", (20, 12), 3)
    palette.putpalette([255, 0, 0] * 4)
    gif = saved(Image.new("RGBA", (20, 12), (255, 0, 0, 0)), "GIF")
    for data in (clear, gif, saved(palette, "PNG", transparency=bytes(4))):
        found = prepare(data, ImageInput(width=20, height=12, background=51))
        np.testing.assert_allclose(found, 0.2, atol=1e-6)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (20, 12), colour) for colour in ("white", "black", "black")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(prepare(data, PLAIN), 1.0)


def test_fits_differ_in_what_they_keep():
    # Black, then a white middle of the size of the tensor.
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 255
    data = saved(Image.fromarray(pixels), "PNG")
    how = {"width": 10, "height": 10, "channels": 1, "background": 255}
    assert prepare(data, ImageInput(fit="cover", **how)).min() == 1.0
    stretched = prepare(data, ImageInput(fit="stretch", resample="box", **how))[0, 5]
    assert (stretched[0], stretched[5], stretched[9]) == (0.0, 1.0, 0.0)
    contained = prepare(data, ImageInput(fit="contain", resample="box", **how))[0]
    assert contained[0].min() == contained[9].min() == 1.0
    assert contained[5, 0] == 0.0


def test_crop_cuts_the_middle():
    whole = noise(40, 40)
    found = prepare(saved(whole, "PNG"), ImageInput(width=20, height=20, fit="cover", crop=0.5))
    np.testing.assert_allclose(found, pixels_of(whole.crop((10, 10, 30, 30))), atol=1e-6)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_cut_at_every_byte_a_picture_is_refused_or_whole(form: str):
    data = saved(noise(6, 4), form)
    whole = prepare(data, ImageInput(width=6, height=4))
    refused = 0
    for size in range(len(data)):
        try:
            found = prepare(data[:size], ImageInput(width=6, height=4))
        except FileUnfit:
            refused += 1
        else:
            np.testing.assert_array_equal(found, whole)
    assert refused > len(data) / 2


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]), st.data())
def test_a_changed_picture_is_a_picture_or_refused(form: str, data: st.DataObject):
    whole = bytearray(saved(noise(6, 4), form))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = prepare(bytes(whole), PLAIN)
    except FileUnfit:
        return
    assert found.shape == PLAIN.shape
    assert np.isfinite(found).all()


@settings(max_examples=examples(50), deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_picture_are_refused(data: bytes):
    with pytest.raises(FileUnfit):
        prepare(data, PLAIN)


def test_a_bomb_is_refused_by_its_header():
    bomb = huge_png(8_192)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(FileUnfit, match=r"at most 50000000 pixels"):
            prepare(bomb, PLAIN)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "how", [{}, {"lossless": True}, {"exif": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"}]
)
def test_the_size_of_a_webp_is_read_before_pillow_takes_memory(how: dict[str, Any]):
    data = saved(noise(20, 12), "WEBP", **how)
    prepare(data, ImageInput(width=4, height=4, max_pixels=240))
    with pytest.raises(FileUnfit, match="20 x 12"):
        prepare(data, ImageInput(width=4, height=4, max_pixels=239))
    # A canvas of 16 million times as many pixels, of which the file holds none.
    if data[12:16] == b"VP8X":
        huge = data[:24] + b"\xff\xff\xff" * 2 + data[30:]
        with pytest.raises(FileUnfit, match="16777216 x 16777216"):
            prepare(huge, PLAIN)


def test_limits_are_the_declared_ones():
    data = png(3, 16)
    prepare(data, ImageInput(width=4, height=4, max_pixels=256, max_bytes=len(data)))
    with pytest.raises(FileUnfit, match="16 x 16"):
        prepare(data, ImageInput(width=4, height=4, max_pixels=255))
    with pytest.raises(FileUnfit, match="bytes"):
        prepare(data, ImageInput(width=4, height=4, max_bytes=len(data) - 1))


@pytest.mark.parametrize(
    "beginning", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"%PDF-1.7\n"]
)
def test_documents_are_no_pictures(beginning: bytes):
    with pytest.raises(FileUnfit, match="expected a picture"):
        prepare(beginning + b" " * 200, PLAIN)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_a_compressed_tiff_is_refused(compression: str):
    with pytest.raises(FileUnfit, match="TIFF without compression"):
        prepare(saved(noise(), "TIFF", compression=compression), PLAIN)
