"""Texts in folders of classes: one file a text, read as a table of texts and labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from servable.errors import DataError, converted
from servable.training.tasks.media import parts_of

#: Endings of files that hold a text; collections of messages have none.
ENDINGS = frozenset({"", ".txt"})
#: What to do with a file in another encoding.
_ADVICE = "convert it, for instance with iconv -f LATIN1 -t UTF-8, or take it away"


class Texts(NamedTuple):
    """A table of texts.

    Attributes:
        frame: a column of texts and one of the names of their folders.
        set_aside: places of the rows that are kept for measuring ``[n]``, sorted; None where none are.
    """

    frame: pd.DataFrame
    set_aside: NDArray[np.int64] | None


def is_texts(path: Path) -> bool:
    """Whether a path is a folder with texts in class folders: looks at names only."""
    return path.is_dir() and next(_files(path), None) is not None


def read(folder: Path, text: str, label: str) -> Texts:
    """The texts to learn from, with those that the data sets aside for measuring.

    Args:
        folder: has a folder for each class, below ``train`` and ``test`` or not, with texts in UTF-8.
        text: name of the column for the texts.
        label: name of the column for the names of their folders.

    Raises:
        DataError: it holds none, or a file is no text in UTF-8; the sentence names it.
    """
    train, held = parts_of(folder)
    rows = _rows(train, folder)
    if held is None:
        return Texts(pd.DataFrame(rows, columns=[text, label]), None)
    frame = pd.DataFrame([*rows, *_rows(held, folder)], columns=[text, label])
    return Texts(frame, np.arange(len(rows), len(frame), dtype=np.int64))


def read_held(folder: Path, text: str, label: str) -> pd.DataFrame:
    """The texts to measure a model on: those of the part that is set aside, else all of them.

    Args:
        folder: as for ``read``.
        text: name of the column for the texts.
        label: name of the column for the names of their folders.

    Raises:
        DataError: it holds none, or a file is no text in UTF-8; the sentence names it.
    """
    train, held = parts_of(folder)
    return pd.DataFrame(_rows(train if held is None else held, folder), columns=[text, label])


def _rows(root: Path, folder: Path) -> list[tuple[str, str]]:
    """The texts below a folder and their classes; ``folder`` is the one that was given, for messages.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    rows = [(_text(file, folder), name) for file, name in _files(root)]
    if not rows:
        raise DataError(f"{root.name} holds no texts in folders of classes.")
    return rows


def _text(file: Path, folder: Path) -> str:
    """What a file says, lines ending alike.

    Raises:
        DataError: it cannot be read, or is no text in UTF-8.
    """
    said = f"{file.relative_to(folder)} of {folder.name}"
    with converted({OSError: DataError}, f"{said} cannot be read: {{}}."):
        data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{said} is no text in UTF-8 (byte {error.start:,}); {_ADVICE}.") from error
    if "\0" in text:
        raise DataError(f"{said} is no text in UTF-8, because it holds zeros; {_ADVICE}.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files of texts with their classes, in the order of their names."""
    for inner in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        for file in sorted(inner.rglob("*")):
            if file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file():
                yield file, inner.name
