"""Pictures as tensors, with Pillow.

What is asked of the file's header is checked before a pixel is decoded. Only formats that Pillow reads by
itself are opened; vector and document formats, which start other programs or have no size of their own,
are none of them.
"""

import functools
import io
import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.preparation import ImageInput
from servable.inputs.needed import FileUnfit, library

#: The formats that are read, by Pillow's names for them.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
#: Modes whose values have more than 8 bits, and what is white in them; None where the file does not say.
_DEEP: dict[str, float | None] = {
    "I;16": 65535.0,
    "I;16L": 65535.0,
    "I;16B": 65535.0,
    "I;16N": 65535.0,
    "I": None,
    "F": None,
}
_TRANSPARENT = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
#: The EXIF tag that says which side is up, and how a picture is turned for each of its values.
_ORIENTATION = 0x0112


def prepare(data: bytes, how: ImageInput, dtype: str = "float32") -> NDArray[Any]:
    """One picture file as the tensor of one row.

    Args:
        data: the bytes of the file.
        how: what is done with it; see there for the order.
        dtype: of the tensor.

    Returns:
        An array of the shape ``how.shape``.

    Raises:
        FileUnfit: no picture, damaged, or larger than the declared limits; a sentence for the caller.
        DependencyMissing: Pillow is not installed.
    """
    if len(data) > how.max_bytes:
        raise FileUnfit(f"a picture of at most {how.max_bytes} bytes", f"{len(data)} bytes")
    if not data:
        raise FileUnfit("the bytes of a picture", "an empty file")
    pillow = _pillow()
    picture = _opened(pillow, data, how)
    try:
        pixels = np.array(_fitted(pillow, _plain(pillow, picture, how), how))
    except _failures(pillow) as error:
        raise FileUnfit("a whole picture", "a damaged or truncated one") from error
    finally:
        picture.close()
    return _tensor(pixels, how, np.dtype(dtype))


@functools.cache
def _pillow() -> Any:
    """Pillow, which no longer writes a line for every odd file: the limits that count are ours."""
    found = library("PIL.Image", "image")
    warnings.filterwarnings("ignore", category=found.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logger = logging.getLogger("PIL")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    return found


def _failures(pillow: Any) -> tuple[type[Exception], ...]:
    """What Pillow's readers raise for files that are none of theirs or broken."""
    return (
        OSError,
        ValueError,
        SyntaxError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        EOFError,
        MemoryError,
        RuntimeError,
        AssertionError,
        # Where warnings are errors, they are raised.
        Warning,
        pillow.DecompressionBombError,
    )


def _opened(pillow: Any, data: bytes, how: ImageInput) -> Any:
    """The picture by its header, no pixel decoded yet."""
    if data[:4] == b"RIFF":
        # Pillow takes memory for a whole WebP when it opens it.
        _check_size(_webp_size(data), how)
    try:
        picture = pillow.open(io.BytesIO(data), formats=FORMATS)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        # Pillow's own bound, far above ours unless somebody declared more.
        raise FileUnfit(f"a picture of at most {how.max_pixels} pixels", "one of very many") from error
    except _failures(pillow) as error:
        expected = "a picture (PNG, JPEG, WebP, GIF, BMP, TIFF or PPM)"
        raise FileUnfit(expected, f"{len(data)} bytes of something else, or damaged ones") from error
    try:
        _check_size(picture.size, how)
        if picture.format == "TIFF" and picture.info.get("compression") != "raw":
            # Its reader writes lines about damaged files straight to the standard error output.
            raise FileUnfit("a TIFF without compression, or a picture of another form", "a compressed TIFF")
    except FileUnfit:
        picture.close()
        raise
    return picture


def _check_size(size: tuple[int, int], how: ImageInput) -> None:
    width, height = size
    if width * height > how.max_pixels:
        raise FileUnfit(f"a picture of at most {how.max_pixels} pixels", f"one of {width} x {height}")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a WebP, as RFC 9649 lays it out; zeros for anything else."""
    kind, body = data[12:16], data[20:30]
    if data[8:12] != b"WEBP" or len(body) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return 0, 0


def _plain(pillow: Any, picture: Any, how: ImageInput) -> Any:
    """The first frame, upright, as ``L`` or ``RGB`` with nothing behind it showing through."""
    if picture.format == "JPEG" and how.resample != "nearest":
        # The decoder leaves out detail that shrinking would take away; never below twice the size.
        side = round(2 * max(how.width, how.height) / how.crop)
        picture.draft(None, (side, side))
    turn = _turn(pillow, picture)
    wanted = "L" if how.channels == 1 else "RGB"
    if picture.mode in _DEEP:
        picture = _eight_bits(pillow, picture)
    if picture.mode in _TRANSPARENT or "transparency" in picture.info:
        over = picture.convert("RGBA")
        behind = pillow.new("RGBA", over.size, (how.background,) * 3 + (255,))
        picture = pillow.alpha_composite(behind, over)
    if picture.mode != wanted:
        picture = picture.convert(wanted)
    picture.load()
    return picture if turn is None else picture.transpose(turn)


def _turn(pillow: Any, picture: Any) -> Any:
    """How the picture must be turned to stand upright; None when it stands, or does not say."""
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except _failures(pillow):
        # Damaged metadata say nothing about the picture.
        return None
    way = pillow.Transpose
    turns = {
        2: way.FLIP_LEFT_RIGHT,
        3: way.ROTATE_180,
        4: way.FLIP_TOP_BOTTOM,
        5: way.TRANSPOSE,
        6: way.ROTATE_270,
        7: way.TRANSVERSE,
        8: way.ROTATE_90,
    }
    return turns.get(orientation) if isinstance(orientation, int) else None


def _eight_bits(pillow: Any, picture: Any) -> Any:
    """Grey of more than 8 bits as 8 bits: 16 bits by their full range, others by the picture's own range."""
    values = np.asarray(picture).astype(np.float64)
    white = _DEEP[picture.mode]
    if white is None and picture.mode == "I" and picture.format in ("PNG", "PPM"):
        white = 65535.0
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if white is None:
        least, most = float(values.min()), float(values.max())
        values, white = values - least, (most - least) or 1.0
    return pillow.fromarray(np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8))


def _fitted(pillow: Any, picture: Any, how: ImageInput) -> Any:
    """The picture in the size of the tensor."""
    wanted = (how.width, how.height)
    resample = pillow.Resampling[how.resample.upper()]
    width, height = picture.size
    if how.fit == "contain":
        share = min(how.width / width, how.height / height)
        size = (max(1, min(how.width, round(width * share))), max(1, min(how.height, round(height * share))))
        small = picture if picture.size == size else picture.resize(size, resample)
        grey = how.background if how.channels == 1 else (how.background,) * 3
        canvas = pillow.new(picture.mode, wanted, grey)
        canvas.paste(small, ((how.width - size[0]) // 2, (how.height - size[1]) // 2))
        return canvas
    wide, high = float(width), float(height)
    if how.fit == "cover":
        # As much of the picture as has the proportions of the tensor.
        share = min(width / how.width, height / how.height)
        wide, high = how.width * share, how.height * share
    wide, high = wide * how.crop, high * how.crop
    if picture.size == wanted and (wide, high) == (width, height):
        return picture
    left, top = (width - wide) / 2, (height - high) / 2
    return picture.resize(wanted, resample, box=(left, top, left + wide, top + high))


def _tensor(pixels: NDArray[Any], how: ImageInput, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Pixels ``[height, width]`` or ``[height, width, 3]`` as the tensor."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if how.invert:
        pixels = 255 - pixels
    if how.scale == 1 and not how.mean and not how.std:
        made = pixels
    else:
        made = pixels.astype(np.float32)
        made *= np.float32(how.scale)
        if how.mean:
            made -= np.asarray(how.mean, np.float32)
        if how.std:
            made /= np.asarray(how.std, np.float32)
    if dtype.kind in "iu" and made.dtype.kind == "f":
        limits = np.iinfo(dtype)
        made = np.clip(np.rint(made), limits.min, limits.max)
    if how.layout == "chw":
        made = made.transpose(2, 0, 1)
    return np.ascontiguousarray(made, dtype=dtype)
