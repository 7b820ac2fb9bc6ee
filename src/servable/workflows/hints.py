"""What the caller of ``add`` knows about a model, from options and from a description file."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from servable.artifact.signature import Field, Task
from servable.errors import FileMissing, SettingInvalid
from servable.frameworks.base import Hints, Scores

_LARGEST = 1024 * 1024


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A description file; see ``docs/frameworks.md``."""

    task: Task | None = None
    entry: str = ""
    labels: tuple[str | bool | int | float, ...] = ()
    inputs: tuple[Field, ...] = ()
    files: tuple[str, ...] = ()
    scores: Scores = ""


def hints_of(describe: Path | None, *, labels: str = "", entry: str = "") -> Hints:
    """The hints that options give; an option wins over the file.

    Args:
        describe: a TOML or JSON file with any of ``task``, ``entry``, ``labels``, ``inputs``, ``files``,
            ``scores``; an input has the fields of ``signature.Field``, with a ``preparation`` where callers
            send files. Paths in it are relative to its folder.
        labels: classes with commas between them, or the path of a file with one a line.
        entry: ``file.py:Name`` or ``package.module:Name``.

    Raises:
        FileMissing: a file is not there.
        SettingInvalid: the description cannot be read; the sentence says where.
    """
    found = _Description() if describe is None else _read(describe)
    beside = Path() if describe is None else describe.parent
    return Hints(
        task=found.task,
        inputs=found.inputs,
        labels=_labels(labels) if labels else found.labels,
        entry=entry or _placed(found.entry, beside),
        files=tuple(_there(beside / name) for name in found.files),
        scores=found.scores,
    )


def _read(path: Path) -> _Description:
    if not path.is_file():
        raise FileMissing(f"There is no description {path}.")
    if path.stat().st_size > _LARGEST:
        raise SettingInvalid(f"{path.name} is larger than 1 MiB, which no description is.")
    try:
        text = path.read_text(encoding="utf-8")
        held: Any = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
        return msgspec.convert(_completed(held), _Description, strict=True)
    except (ValueError, msgspec.MsgspecError) as error:
        raise SettingInvalid(f"{path.name} is no description of a model: {error}.") from error


def _completed(held: Any) -> Any:
    """A description in which inputs say what follows from the rest: kind from preparation, or the reverse."""
    inputs = held.get("inputs") if isinstance(held, dict) else None
    if not isinstance(inputs, list):
        return held
    made = []
    for each in inputs:
        if isinstance(each, dict):
            strange = sorted(map(str, each.keys() - set(Field.__struct_fields__)))
            if strange:
                raise ValueError(f"an input has no key {strange[0]!r}")
            how = each.get("preparation")
            told = how.get("type", "tensor") if isinstance(how, dict) else "tensor"
            each = {"name": "", "dtype": "", "kind": told, **each}
            if isinstance(how, dict) and "text" in (how.get("type"), each["kind"]):
                raise ValueError("the model takes tensors, which no text becomes")
            if isinstance(how, dict):
                each["preparation"] = {"type": each["kind"], **how}
        made.append(each)
    return {**held, "inputs": made}


def _labels(text: str) -> tuple[str, ...]:
    path = Path(text)
    if "," not in text and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        found = tuple(line.strip() for line in lines if line.strip())
    else:
        found = tuple(part.strip() for part in text.split(","))
    if len(found) < 2 or len(set(found)) < len(found) or not all(found):
        raise SettingInvalid(
            f"The labels {text!r} are no two or more different names; "
            "write a,b,c or name a file with one a line."
        )
    return found


def _placed(entry: str, beside: Path) -> str:
    """An entry in a file of the description's own folder, from here."""
    file, colon, name = entry.partition(":")
    return f"{beside / file}{colon}{name}" if file.endswith(".py") else entry


def _there(path: Path) -> Path:
    if not path.exists():
        raise FileMissing(f"The description names {path}, which is not there.")
    return path
