"""What a file is, by its content, and what loading it would execute. Nothing of it is executed.

The audits are those that taking a model in uses. Where one of them needs a library that is not installed, the
answer is that it cannot be told, which is not the answer that nothing would be executed.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from servable.artifact import archives, numpy_files, onnx_files
from servable.artifact.audit import ZIP_ERRORS, audit_file, beyond_weights, partial_pickle
from servable.artifact.streams import compression_of, decompressed
from servable.errors import (
    ArtifactError,
    ArtifactUnreadable,
    DependencyMissing,
    FileMissing,
    StorageFailed,
    converted,
)
from servable.frameworks import members
from servable.frameworks.members import LARGEST_LOOKED_INTO, MOST_LOOKED_INTO, Bounded, Content

_HEAD = 4096
_NAMED_TEXTS = (
    (re.compile(rb"^tree\r?\n"), "lightgbm"),
    (re.compile(rb"^\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(\w+:)?PMML\b", re.DOTALL), "pmml"),
    (re.compile(rb"^\s*\{.{0,2000}\"learner\"", re.DOTALL), "xgboost"),
)
_NAMED_BYTES = (
    (b"CBM1", "catboost"),
    (b"binf", "xgboost"),
    (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", "xgboost"),
    (b"GGUF", "gguf"),
)
#: Programs, and what brings code along in ways that nothing here reads.
_CODE = (
    (b"\x7fELF", "program", "it is a program or a library for this machine"),
    (b"MZ", "program", "it is a program or a library for Windows"),
    (b"\xca\xfe\xba\xbe", "program", "it is a class of Java or a program for macOS"),
    (b"#!", "script", "it is a script"),
    (b"RDX2\n", "r", "R executes what stands in such a file while it reads it"),
    (b"RDX3\n", "r", "R executes what stands in such a file while it reads it"),
    (b"X\n\x00\x00\x00", "r", "R executes what stands in such a file while it reads it"),
    (b"\xe3\x00\x00\x00", "marshal", "it is compiled Python"),
)
_HDF5 = b"\x89HDF\r\n\x1a\n"


def look(path: Path, depth: int = 0) -> Content:
    """What a file is and what loading it would execute. Memory and time are bounded for any content.

    Args:
        path: a regular file.
        depth: how many archives it lay in.

    Raises:
        FileMissing: there is no such file.
        StorageFailed: it cannot be read.
    """
    with converted(
        {FileNotFoundError: FileMissing, OSError: StorageFailed}, f"{path.name} cannot be read: {{}}."
    ):
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if not head:
            return Content("empty", note="it has 0 bytes")
        return _by_head(path, head, depth) or _by_trying(path, head, depth)


def _by_head(path: Path, head: bytes, depth: int) -> Content | None:
    """What the first bytes, or the name of what is executed as a text, tell."""
    if path.suffix.lower() in (".py", ".pyw"):
        return Content("python", (path.name,), reason="it is Python, all of which importing it executes")
    if path.name == "saved_model.pb":
        return _saved_model(path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path, depth)
    if head.startswith(_HDF5):
        return _keras(path)
    if head.startswith(numpy_files.MAGIC):
        with path.open("rb") as file:
            return _array(path, file)
    for start, kind, reason in _CODE:
        if head.startswith(start):
            return Content(kind, complete=False, reason=reason)
    for start, kind in _NAMED_BYTES:
        if head.startswith(start):
            note = "its chat template is a program of Jinja" if b"chat_template" in head else ""
            return Content(kind, note=note)
    return None


def _by_trying(path: Path, head: bytes, depth: int) -> Content:
    """What reading it as one thing after another tells."""
    if zipfile.is_zipfile(path):
        # One program reads such a file from its beginning and another one from its end.
        return Content("two files in one", complete=False, reason="it also is a zip file, from its end")
    if archives.is_tar(path):
        return members.tar(path, depth, look)
    pickled = _pickle(path)
    if pickled is not None:
        return pickled
    for tried in (_safetensors, _onnx, _compressed, _text):
        found = tried(path, head)
        if found is not None:
            return found
    return Content("unknown", complete=False, reason="nothing here knows what it is")


def _pickle(path: Path) -> Content | None:
    try:
        audit = audit_file(path)
    except ArtifactError:
        names = partial_pickle(path)
        if names:
            return Content("pickle", names, False, "it is a pickle without an end, which is executed too")
        return None
    # What looks like a graph is looked through as one.
    return None if audit.kind == "onnx" else _of_pickle(audit.kind, audit.names, audit.complete)


def _of_pickle(kind: str, names: tuple[str, ...], complete: bool) -> Content:
    if not beyond_weights(names) and complete:
        return Content(kind, note="a pickle of plain data")
    return Content(kind, names, complete, "" if names else "it may run any code")


# ---------------------------------------------------------------------- archives


def _zip(path: Path, depth: int) -> Content:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            wrong = archives.faults(archives.zip_members(archive))
            if "schema.json" in names or any(name.rpartition("/")[2] == "data.pkl" for name in names):
                return _with_faults(_skops_or_torch(path), wrong)
            if any(name.rpartition("/")[2] in ("archive_format", "constants.pkl") for name in names):
                return _with_faults(_skops_or_torch(path), wrong)
            if "config.json" in names and any(name.endswith((".h5", "metadata.json")) for name in names):
                return _with_faults(_keras(path), wrong)
            if "META-INF/MANIFEST.MF" in names:
                return Content("java", complete=False, reason="it is a program of Java")
            if names and all(name.endswith(".npy") for name in names):
                return _with_faults(_arrays(path, archive, names), wrong)
            inner = [] if wrong else members.looked_into(members.of_zip(archive), depth, look)
            return members.archive("zip", wrong, inner, len(names))
    except ZIP_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return Content("zip", complete=False, reason="it is a truncated or damaged zip file")


def _with_faults(found: Content, wrong: tuple[str, ...]) -> Content:
    return found._replace(complete=False, reason="; ".join(wrong[:3])) if wrong else found


# ---------------------------------------------------------------------- files of frameworks


def _skops_or_torch(path: Path) -> Content:
    try:
        audit = audit_file(path)
    except ArtifactError as error:
        return Content("zip", complete=False, reason=error.message.rstrip("."))
    if audit.kind == "skops":
        return _skops(path, audit.names)
    beyond = beyond_weights(audit.names)
    return Content("torch", beyond, audit.complete, "" if audit.complete else "only loading it would tell")


def _skops(path: Path, names: tuple[str, ...]) -> Content:
    try:
        from servable.frameworks.sklearn import foreign_types
    except ModuleNotFoundError as missing:
        return Content("skops", names, False, f"{missing.name} is not installed, which knows its types")
    try:
        return Content("skops", tuple(foreign_types(path)), note=f"{len(names)} types")
    except ArtifactError as error:
        return Content("skops", names, False, error.message.rstrip("."))


def _keras(path: Path) -> Content:
    return _asked("keras", path, "servable.frameworks.keras_audit", "names_of")


def _saved_model(path: Path) -> Content:
    return _asked("tensorflow", path.parent, "servable.frameworks.tensorflow_audit", "names_of")


def _asked(kind: str, path: Path, module: str, function: str) -> Content:
    """What the audit of a framework says, whose library may not be installed."""
    import importlib

    try:
        names: tuple[str, ...] = getattr(importlib.import_module(module), function)(path)
    except ArtifactError as error:
        return Content(kind, complete=False, reason=error.message.rstrip("."))
    except (ModuleNotFoundError, DependencyMissing) as missing:
        library = getattr(missing, "name", None) or "a library"
        return Content(kind, complete=False, reason=f"to tell needs {library}, which is not installed")
    return Content(kind, names)


def _array(path: Path, file: IO[bytes]) -> Content:
    try:
        objects = numpy_files.holds_objects(path.name, file)
    except ArtifactError as error:
        return Content("numpy", complete=False, reason=error.message.rstrip("."))
    if not objects:
        return Content("numpy")
    with TemporaryDirectory(prefix="servable-") as folder:
        copy = Path(folder) / "objects"
        with copy.open("wb") as kept:
            shutil.copyfileobj(Bounded(file, LARGEST_LOOKED_INTO), kept)
        found = _pickle(copy)
    if found is None:
        return Content("numpy", complete=False, reason="it holds objects that cannot be looked through")
    return found._replace(kind="numpy", complete=False, reason="it holds objects, which are a pickle")


def _arrays(path: Path, archive: zipfile.ZipFile, names: list[str]) -> Content:
    for name in names[:MOST_LOOKED_INTO]:
        with archive.open(name) as member:
            found = _array(path, member)
        if not found.clean:
            return found._replace(note=f"in {name[:80]}")
    return Content("numpy", note=f"{len(names)} arrays")


def _safetensors(path: Path, head: bytes) -> Content | None:
    size = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 2 <= size <= 100_000_000:
        return None
    with path.open("rb") as file:
        file.seek(8)
        described = file.read(size)
    try:
        entries = json.loads(described)
        ends = [each["data_offsets"][1] for name, each in entries.items() if name != "__metadata__"]
        whole = all(isinstance(end, int) for end in ends) and 8 + size + max(ends, default=0)
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        return None
    if whole != path.stat().st_size:
        return Content("safetensors", complete=False, reason="it is cut off, or holds more than tensors")
    return Content("safetensors", note=f"{len(ends)} tensors")


def _onnx(path: Path, head: bytes) -> Content | None:
    try:
        found = onnx_files.look(path)
    except ArtifactError:
        return None
    if found.graphs != 1:
        return None
    try:
        outside = onnx_files.outside_files(path)
    except ArtifactUnreadable as error:
        places = tuple(sorted({each.location[:200] for each in found.outside}))
        return Content("onnx", places, False, error.message.rstrip("."))
    operators = tuple(f"the operator {name}" for name in found.operators)
    note = f"tensors in {len(outside)} files beside it" if outside else ""
    return Content("onnx", operators, note=note)


def _compressed(path: Path, head: bytes) -> Content | None:
    compression = compression_of(head)
    if compression in ("", "lz4"):
        return None
    with path.open("rb") as file:
        try:
            start = decompressed(file, compression).take(5)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not known what it holds
            start = b""
    for mark, kind, reason in _CODE:
        if start and mark.startswith(start[: len(mark)]):
            return Content(kind, complete=False, reason=reason)
    return Content(compression, complete=False, reason="nothing here knows what is compressed in it")


def _text(path: Path, head: bytes) -> Content | None:
    for pattern, kind in _NAMED_TEXTS:
        if pattern.search(head):
            return Content(kind)
    try:
        head[: max(len(head) - 4, 1)].decode("utf-8")
    except UnicodeDecodeError:
        return None
    if b"\0" in head:
        return None
    return Content("text")
