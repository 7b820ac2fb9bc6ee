"""What a file is, by its first bytes. Needs nothing, so that the client stays light."""

from collections.abc import Mapping
from types import MappingProxyType

#: The first bytes of files, and what they are.
_BEGINNINGS: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF8": "image/gif",
        b"BM": "image/bmp",
        b"II*\x00": "image/tiff",
        b"MM\x00*": "image/tiff",
        b"P5": "image/x-portable-graymap",
        b"P6": "image/x-portable-pixmap",
        b"fLaC": "audio/flac",
        b"OggS": "audio/ogg",
        b"ID3": "audio/mpeg",
        # Frames of layer III of MPEG 1, 2 and 2.5, with a checksum and without.
        **dict.fromkeys(
            (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2"), "audio/mpeg"
        ),
    }
)
#: Of files in containers, by the four letters from the ninth byte on.
_CONTAINED: Mapping[bytes, str] = MappingProxyType(
    {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AIFF": "audio/aiff", b"AIFC": "audio/aiff"}
)


def file_type_of(data: bytes | bytearray | memoryview) -> str:
    """The content type of a file by its first bytes; empty when they are of no picture and no sound."""
    head = bytes(data[:12])
    if head[:4] in (b"RIFF", b"FORM"):
        return _CONTAINED.get(head[8:12], "")
    return next((kind for mark, kind in _BEGINNINGS.items() if head.startswith(mark)), "")
