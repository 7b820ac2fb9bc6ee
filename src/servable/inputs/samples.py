"""Small files made on the spot: what a picture or a sound looks like when nobody gave an example. Pure."""

import base64
import struct
import zlib

import numpy as np

from servable.artifact.preparation import AudioInput, ImageInput, Preparation

#: Sides of the picture, and samples of the sound: small enough to be read in a page of documentation. The rate
#: is that of no model, so that a model which is warmed up with the sound has loaded what resamples.
_SIDE = 8
_RATE, _SAMPLES = 4000, 64


def example_of(how: Preparation) -> str:
    """A data URL of a small file that the input takes; a plain text for texts."""
    if isinstance(how, ImageInput):
        return data_url("image/png", png(how.channels))
    return data_url("audio/wav", wav()) if isinstance(how, AudioInput) else "A short text."


def data_url(media_type: str, data: bytes) -> str:
    """Bytes as a text that JSON carries and a browser shows."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def png(channels: int = 3, side: int = _SIDE) -> bytes:
    """A square PNG with a bright square in a dark one; needs no library."""
    pixels = np.full((side, side, channels), 32, np.uint8)
    quarter = side // 4
    pixels[quarter : side - quarter, quarter : side - quarter] = np.array([224, 160, 96][:channels], np.uint8)
    lines = b"".join(b"\x00" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", side, side, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def wav(rate: int = _RATE, samples: int = _SAMPLES) -> bytes:
    """A short tone in 8 bits; needs no library."""
    tone = np.sin(2 * np.pi * 440 * np.arange(samples) / rate)
    data = bytes(np.rint(128 + 100 * tone).astype(np.uint8))
    head = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    parts = [b"WAVE", b"fmt ", struct.pack("<I", len(head)), head, b"data", struct.pack("<I", samples), data]
    return b"RIFF" + struct.pack("<I", sum(map(len, parts))) + b"".join(parts)
