"""Files in place of tensors, for fields that declare how a picture or a sound is prepared. Pure.

A codec hands such a field on as an object array ``[rows]`` of the files' bytes; what stands between it and
the model turns them into tensors. In JSON a file is a text: base64, or a data URL of it.
"""

import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature

_URL = "data:"
_MARK = ";base64"
#: A data URL names its type in no more characters than this.
_LONGEST_HEAD = 256
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
