"""What ``call`` sends: JSON from the command line, a file or standard input, CSV rows, a picture, a sound."""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.errors import DataError, FileMissing, InputError

#: Endings of files that are one row as they are.
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
_SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")


class Payload(NamedTuple):
    """Rows to send, and whether they are one row."""

    rows: Any
    single: bool


def read(text: str, inputs: Mapping[str, str]) -> Payload:
    """The rows that the argument of ``call`` means.

    Args:
        text: JSON, ``@file`` with JSON in it, ``-`` for standard input, or the path of a ``.csv`` file, a
            picture or a sound.
        inputs: the model's columns with their kinds, for reading CSV; empty when unknown.

    Raises:
        InputError: not JSON.
        FileMissing: no such file.
        DataError: the CSV file cannot be used.
    """
    if text == "-":
        return _json(sys.stdin.buffer.read(), "standard input")
    if text.lower().endswith(_PICTURES + _SOUNDS):
        return Payload(Path(text.removeprefix("@")), single=True)
    if text.startswith("@"):
        path = Path(text[1:])
        return _csv(path, inputs) if path.suffix.lower() == ".csv" else _json(_bytes(path), str(path))
    if text.lower().endswith(".csv"):
        return _csv(Path(text), inputs)
    return _json(text.encode(), "the argument")


def _bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        FileMissing: no such file.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise FileMissing(f"There is no file {path}.") from None


def _json(data: bytes, where: str) -> Payload:
    """A row, a list of rows, or a whole request body with ``input`` or ``inputs``.

    Raises:
        InputError: not JSON, or neither of these.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as bad:
        raise InputError(
            f"What {where} holds is not JSON ({bad}); send a row such as '[5.1, 3.5, 1.4, 0.2]' "
            "or '{\"age\": 42}', or @file, or a .csv file."
        ) from bad
    if isinstance(value, dict) and set(value) == {"input"}:
        return Payload(value["input"], single=True)
    if isinstance(value, dict) and set(value) == {"inputs"}:
        return Payload(value["inputs"], single=False)
    if isinstance(value, dict):
        return Payload(value, single=True)
    if isinstance(value, list):
        several = bool(value) and isinstance(value[0], dict | list)
        return Payload(value, single=not several)
    raise InputError(
        f"What {where} holds is a single {type(value).__name__}; send a row: a list or an object."
    )


def _csv(path: Path, inputs: Mapping[str, str]) -> Payload:
    """All rows of a CSV file with a header, the model's columns only, typed by their kinds.

    Raises:
        FileMissing: no such file.
        DataError: no header, or not text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [
                {
                    name: cell(value, inputs.get(name, ""))
                    for name, value in row.items()
                    if _wanted(name, inputs)
                }
                for row in reader
            ]
    except (FileNotFoundError, IsADirectoryError):
        raise FileMissing(f"There is no file {path}.") from None
    except (UnicodeDecodeError, csv.Error) as bad:
        raise DataError(f"{path} cannot be read as CSV ({bad}).") from bad
    if not rows:
        raise DataError(f"{path} holds no rows below its header.")
    return Payload(rows, single=False)


def _wanted(name: str | None, inputs: Mapping[str, str]) -> bool:
    """Whether a column goes to the model; all do when the model's columns are unknown."""
    return name is not None and (not inputs or name in inputs)


def cell(text: str | None, kind: str) -> str | int | float | bool | None:
    """A CSV cell as the value of a column of this kind; an empty cell is a missing value.

    A cell that does not fit its kind stays text, so that the server names it in its refusal. With no
    kind known, what reads as a number is one.
    """
    if text is None or not text.strip():
        return None
    plain = text.strip()
    if kind in {"category", "text"}:
        return text
    if kind == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(plain.lower(), text)
    for form in (int, float):
        try:
            return form(plain)
        except ValueError:
            continue
    return text
