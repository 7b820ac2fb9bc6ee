"""Texts in folders of classes: one file a text, read as a table of texts and labels."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from servable.errors import DataError, converted
from servable.training.tasks.media import parts_of

#: Endings of files that hold a text; collections of messages have none.
ENDINGS = frozenset({"", ".txt"})


def is_texts(path: Path) -> bool:
    """Whether a path is a folder with texts in class folders: looks at names only."""
    return path.is_dir() and next(_files(path), None) is not None


def read_held(folder: Path, text: str, label: str) -> pd.DataFrame:
    """The texts to measure a model on: those of the part that is set aside, else all of them.

    Args:
        folder: has a folder for each class, below ``train`` and ``test`` or not, with texts in UTF-8.
        text: name of the column for the texts.
        label: name of the column for the names of their folders.

    Raises:
        DataError: it holds none, or a file is no text in UTF-8; the sentence names it.
    """
    train, held = parts_of(folder)
    root = train if held is None else held
    rows = []
    for file, name in _files(root):
        with converted(
            {OSError: DataError, UnicodeDecodeError: DataError},
            f"{file.relative_to(folder)} of {folder.name} is no text in UTF-8: {{}}.",
        ):
            rows.append((file.read_text(encoding="utf-8-sig"), name))
    if not rows:
        raise DataError(f"{root.name} holds no texts in folders of classes.")
    return pd.DataFrame(rows, columns=[text, label])


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files of texts with their classes, in the order of their names."""
    for inner in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        for file in sorted(inner.rglob("*")):
            if file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file():
                yield file, inner.name
