"""What an ONNX file asks for besides arithmetic, found out from its bytes: other files, foreign operators.

The fields are walked as protobuf writes them, in any order and at any depth, because a search for what usual
writers write finds nothing in a file that somebody wrote otherwise on purpose.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from servable.errors import ArtifactUnreadable, converted

#: Parts within each other deeper than this are refused.
DEEPEST = 100
#: So many parts are looked at.
MOST_PARTS = 20_000_000
#: Where the tensors of a model may say that they lie; ``onnx`` writes no other key.
_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
#: The domains whose operators every runtime has, or has not: none of them comes in a library of its own.
_OWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.training"})
#: Domains that onnxruntime brings along.
_KNOWN_DOMAINS = _OWN_DOMAINS | {"com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}

# Of each kind of part the fields that may hold others, and their kind; names of fields that hold texts.
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


class Outside(NamedTuple):
    """Where a tensor lies that is not in the model's own file; what is not said is empty."""

    location: str
    offset: str = ""
    length: str = ""
    unknown: tuple[str, ...] = ()


class OnnxFile(NamedTuple):
    """What a model asks for.

    Attributes:
        graphs: how many graphs it has at its outermost level.
        outside: its tensors that lie in other files.
        operators: its operators of domains that onnxruntime does not bring along, ``domain.name`` each.
    """

    graphs: int
    outside: tuple[Outside, ...]
    operators: tuple[str, ...]


class _Field(NamedTuple):
    number: int
    wire: int
    start: int
    end: int


def look(path: Path) -> OnnxFile:
    """What a model asks for.

    Raises:
        ArtifactUnreadable: truncated, damaged or no ONNX model.
    """
    with converted({OSError: ArtifactUnreadable}, f"{path.name} cannot be read: {{}}."):
        if not path.stat().st_size:
            raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); export or copy the model again.")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Walk(path.name, data).run()


def outside_files(path: Path) -> tuple[Path, ...]:
    """The files beside a model that hold tensors for it, sorted.

    Raises:
        ArtifactUnreadable: one is named outside of the model's folder, is a link or has several names, is not
            there, or is shorter than the model says.
    """
    with converted({OSError: ArtifactUnreadable}, f"{path.name} cannot be read: {{}}."):
        size = path.stat().st_size
        with path.open("rb") as file:
            # A tensor elsewhere says where under this key; searching is quicker than walking.
            if not size or not _mentions(file.fileno(), b"location"):
                return ()
    found = {_plain_file(path, each) for each in look(path).outside}
    return tuple(sorted(found))


def _mentions(descriptor: int, word: bytes) -> bool:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        return data.find(word) >= 0


def _plain_file(path: Path, outside: Outside) -> Path:
    name = outside.location
    beside = path.parent / name
    shown = name[:80]
    if outside.unknown:
        raise ArtifactUnreadable(
            f"{path.name} says {outside.unknown[0][:40]!r} of a tensor in another file, which ONNX does not "
            "know; export it again."
        )
    if not name or "\0" in name or Path(name).name != name or beside.is_symlink() or not beside.is_file():
        raise ArtifactUnreadable(
            f"{path.name} keeps tensors in {shown!r}, which must be a plain file in the same folder."
        )
    about = beside.stat()
    if about.st_nlink > 1:
        raise ArtifactUnreadable(
            f"{path.name} keeps tensors in {shown!r}, which is a file with several names (hard links); copy "
            "the file itself."
        )
    offset, length = _number(outside.offset), _number(outside.length)
    if offset is None or length is None or offset + length > about.st_size:
        raise ArtifactUnreadable(
            f"{path.name} keeps tensors in {shown!r}, at places that this file does not have; export or copy "
            "both again."
        )
    return beside


def _number(text: str) -> int | None:
    if not text:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class _Walk:
    """One look through a file."""

    def __init__(self, name: str, data: mmap.mmap) -> None:
        self._name = name
        self._data = data
        self._parts = 0
        self._outside: list[Outside] = []
        self._operators: set[str] = set()
        self._functions: set[str] = set()

    def run(self) -> OnnxFile:
        graphs = 0
        waiting = [("model", 0, len(self._data), 0)]
        while waiting:
            kind, start, end, depth = waiting.pop()
            if depth > DEEPEST:
                raise self._broken("its parts lie within each other without end")
            inner = _PARTS[kind]
            fields = list(self._fields(start, end))
            if kind == "node":
                self._note_operator(fields)
            elif kind == "function":
                self._functions.add(self._called(fields, name=1, domain=10))
            elif kind == "tensor":
                self._note_tensor(fields)
            graphs += sum(kind == "model" and field.number == 7 and field.wire == 2 for field in fields)
            waiting += [
                (inner[field.number], field.start, field.end, depth + 1)
                for field in fields
                if field.wire == 2 and field.number in inner and inner[field.number] != "entry"
            ]
        operators = self._operators - self._functions
        return OnnxFile(graphs, tuple(self._outside), tuple(sorted(operators)))

    def _note_operator(self, fields: list[_Field]) -> None:
        called = self._called(fields, name=4, domain=7)
        if called.rpartition(".")[0] not in _KNOWN_DOMAINS:
            self._operators.add(called)

    def _called(self, fields: list[_Field], *, name: int, domain: int) -> str:
        return f"{self._last(fields, domain)}.{self._last(fields, name)}"

    def _note_tensor(self, fields: list[_Field]) -> None:
        entries = [field for field in fields if field.number == 13 and field.wire == 2]
        if not entries:
            return
        said: dict[str, str] = {}
        for entry in entries:
            parts = list(self._fields(entry.start, entry.end))
            said[self._last(parts, 1)] = self._last(parts, 2)
        unknown = tuple(sorted(said.keys() - _KEYS))
        self._outside.append(
            Outside(said.get("location", ""), said.get("offset", ""), said.get("length", ""), unknown)
        )

    def _last(self, fields: list[_Field], number: int) -> str:
        """A text among fields; the last one counts, as for every reader of protobuf."""
        held = [field for field in fields if field.number == number and field.wire == 2]
        if not held:
            return ""
        return self._data[held[-1].start : min(held[-1].end, held[-1].start + 4096)].decode(
            "utf-8", "replace"
        )

    def _fields(self, start: int, end: int) -> Iterator[_Field]:
        place = start
        while place < end:
            self._parts += 1
            if self._parts > MOST_PARTS:
                raise self._broken("it has more parts than are looked at")
            key, place = self._varint(place, end)
            number, wire = divmod(key, 8)
            if wire == 0:
                _, place = self._varint(place, end)
                continue
            if wire in (1, 5):
                place += 8 if wire == 1 else 4
            elif wire == 2:
                length, place = self._varint(place, end)
                if length > end - place:
                    raise self._broken("it ends in the middle")
                yield _Field(number, wire, place, place + length)
                place += length
            else:
                raise self._broken(f"byte {place - 1} makes no sense there")
            if place > end:
                raise self._broken("it ends in the middle")

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                raise self._broken("it ends in the middle")
            byte = self._data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
        raise self._broken("a number in it does not end")

    def _broken(self, reason: str) -> ArtifactUnreadable:
        return ArtifactUnreadable(
            f"{self._name} is truncated, damaged or no ONNX file ({reason}); copy it again."
        )
