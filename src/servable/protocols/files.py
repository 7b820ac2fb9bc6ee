"""Files in place of tensors, for fields that declare how a picture or a sound is prepared. Pure.

A codec hands such a field on as an object array ``[rows]`` of the files' bytes; what stands between it and
the model turns them into tensors. In JSON a file is a text: base64, or a data URL of it.
"""

import binascii
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature

_URL = "data:"
_MARK = ";base64"
#: A data URL names its type in no more characters than this.
_LONGEST_HEAD = 256
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
    }
)
#: Of files in containers, by the four letters from the ninth byte on.
_CONTAINED: Mapping[bytes, str] = MappingProxyType(
    {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AIFF": "audio/aiff", b"AIFC": "audio/aiff"}
)
_WORDS = {"image": "a picture", "audio": "a sound"}


def lone_file(signature: Signature) -> Field | None:
    """The only input of a model if it takes files, else None."""
    if len(signature.inputs) != 1 or not signature.inputs[0].takes_files:
        return None
    return signature.inputs[0]


def takes_files(signature: Signature) -> bool:
    """Whether any input takes files."""
    return any(field.takes_files for field in signature.inputs)


def words(field: Field) -> str:
    """What the file of a field is, with its article."""
    return _WORDS.get(field.kind, "a file")


def media_type_of(data: bytes | bytearray | memoryview) -> str:
    """The content type of a file by its first bytes; empty when they are of no picture and no sound."""
    head = bytes(data[:12])
    if head[:4] in (b"RIFF", b"FORM"):
        return _CONTAINED.get(head[8:12], "")
    return next((kind for mark, kind in _BEGINNINGS.items() if head.startswith(mark)), "")


def file_of(text: str) -> bytes:
    """The file that a text holds: base64, with line breaks or without, alone or in a data URL.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith(_URL):
        head, comma, rest = text[:_LONGEST_HEAD].partition(",")
        if not comma or not head.endswith(_MARK):
            raise ValueError("a data URL without base64")
        text = text[len(text[:_LONGEST_HEAD]) - len(rest) :]
    try:
        found = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        # Programs break the lines of base64; whatever else is strange stays wrong.
        found = binascii.a2b_base64("".join(text.split()), strict_mode=True)
    if not found:
        raise ValueError("an empty file")
    return found


def column_of(field: Field, values: Sequence[Any]) -> Any:
    """The values of a field as one array: files when all are bytes or texts, else None.

    Raises:
        ValueError: some are files and some are not, or a text holds none.
    """
    kinds = set(map(type, values))
    if not kinds & {str, bytes}:
        return None
    if not kinds <= {str, bytes}:
        raise ValueError(field.name)
    made: Any = np.empty(len(values), object)
    made[:] = [file_of(value) if isinstance(value, str) else value for value in values]
    return made
