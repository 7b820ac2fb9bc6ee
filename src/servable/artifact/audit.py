"""What loading a model file would execute, found out without executing or importing anything.

The content decides what a file is, never its name. Lists of dangerous names always lose against
somebody who wants to get by, so the audit never says that a pickle is safe: it says what a pickle
names, and a pickle is loaded only when a person allows it.
"""

import errno
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec

from servable.artifact import torch_files
from servable.artifact.files import storage_error
from servable.artifact.opcodes import Machine
from servable.artifact.standins import Findings
from servable.artifact.streams import BrokenStream, EnoughSeen, Stream, compression_of, decompressed
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, ArtifactUntrusted, FileMissing

Kind = Literal["pickle", "joblib", "skops", "onnx", "torch", "keras", "tensorflow"]

#: What damaged compressed data raise; bz2 says it with a bare OSError, see ``_pickle``.
DECOMPRESSION_ERRORS = (gzip.BadGzipFile, lzma.LZMAError, zlib.error)
#: What a damaged zip file may raise.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
    OSError,
    struct.error,
    *DECOMPRESSION_ERRORS,
)
#: A skops schema beyond this many bytes is refused.
LARGEST_SCHEMA = 256 * 1024 * 1024
#: A pickle inside of an archive of PyTorch holds one tensor, or example inputs; this is more than enough.
_LARGEST_NESTED = 1024 * 1024 * 1024
#: What the pickle of plain tensors names; PyTorch opens these with ``weights_only`` as well.
PLAIN_TENSORS = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        *(
            f"torch.{kind}Storage"
            for kind in (
                "BFloat16",
                "Bool",
                "Byte",
                "Char",
                "Double",
                "Float",
                "Half",
                "Int",
                "Long",
                "Short",
            )
        ),
    }
)
#: What else pickles of weights name, as checkpoints of training loops do; calling it makes data.
# fmt: off
WEIGHTS = PLAIN_TENSORS | {
    "_codecs.encode", "collections.Counter", "collections.defaultdict", "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar", "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar",
    "numpy.dtype", "numpy.ndarray", "torch.Size", "torch.Tensor", "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_device_tensor_from_numpy", "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_qtensor", "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v3", "torch.device", "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout", "torch.storage.UntypedStorage",
}
# fmt: on
_DTYPES = re.compile(
    r"torch\.(b?float|int|uint|complex|bool|qu?int)\w*|torch\.\w+Storage|builtins\.(set|dict|list)"
)
#: How the files begin that PyTorch wrote before it wrote zip files: several pickles, then bytes.
OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
#: So many pickles after the first one are looked at, in files of PyTorch and elsewhere.
_FOLLOWING_TORCH, _FOLLOWING = 4, 16
#: So many names are said in a refusal.
NAMES_SHOWN = 8
#: Named first in a refusal: modules whose functions run commands, code, or reach files and the network.
# fmt: off
DANGEROUS_MODULES = frozenset(
    {
        "os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "runpy", "importlib", "imp", "pty",
        "ctypes", "cffi", "webbrowser", "urllib", "http", "ftplib", "smtplib", "requests", "httpx", "code",
        "codeop", "marshal", "pickle", "_pickle", "cloudpickle", "dill", "asyncio", "multiprocessing",
        "threading", "signal", "tempfile", "pathlib", "io", "pip", "setuptools", "distutils", "pydoc",
        "bdb", "pdb", "timeit", "trace", "profile", "cProfile", "doctest", "commands", "platform", "site",
        "venv", "zipimport", "pkgutil", "inspect", "gc", "builtins", "__builtin__", "operator", "functools",
        "types", "torch.hub", "torch.utils", "numpy.testing", "numpy.f2py",
    }
)
#: Of these modules only what is not in this list is dangerous; the rest is in every harmless pickle.
HARMLESS = frozenset(
    {
        "builtins.bool", "builtins.bytearray", "builtins.bytes", "builtins.complex", "builtins.dict",
        "builtins.float", "builtins.frozenset", "builtins.int", "builtins.list", "builtins.object",
        "builtins.range", "builtins.set", "builtins.slice", "builtins.str", "builtins.tuple",
        "builtins.type", "__builtin__.dict", "__builtin__.float", "__builtin__.frozenset",
        "__builtin__.int", "__builtin__.list", "__builtin__.object", "__builtin__.set", "__builtin__.str",
        "__builtin__.tuple", "functools.partial", "types.SimpleNamespace",
    }
)
# fmt: on


class Audit(NamedTuple):
    """What loading a file would do.

    Attributes:
        kind: what the file is, by its content.
        names: what loading would import, and call or build: ``module.name`` each, sorted. For ``skops``
            the types it names; for ``onnx`` nothing, because nothing executes.
        complete: whether the list is whole; false when a limit was reached or something was named in a
            way that only loading could find out.
    """

    kind: Kind
    names: tuple[str, ...]
    complete: bool


def audit_file(path: Path) -> Audit:
    """Find out what a file is and what loading it would execute. Nothing of it is executed or imported.

    Memory and time are bounded for any content.

    Raises:
        FileMissing: there is no such file.
        ArtifactUnreadable: empty, truncated, or no model file of a kind that is known here.
        ArtifactUnsupported: compressed in a way that is not read here.
        StorageFailed: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _audited(path, file)
    except FileNotFoundError as error:
        raise FileMissing(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise ArtifactUnreadable(f"{path} is a folder, not a model file.") from error
    except OSError as error:
        raise storage_error(error, f"reading {path.name}") from error


def refusal(path: Path, audit: Audit) -> ArtifactUntrusted:
    """The error that refuses a file: it names what would have been executed, the dangerous first."""
    ranked = sorted(audit.names, key=lambda name: (not dangerous(name), name))
    shown = ", ".join(_shown(name) for name in ranked[:NAMES_SHOWN])
    left = len(ranked) - NAMES_SHOWN
    more = f" and {left} more" if left > 0 else ""
    doubt = "" if audit.complete else " and more that only loading it would tell"
    what = f"would run code from {shown}{more}{doubt}" if shown else f"may run any code{doubt}"
    return ArtifactUntrusted(
        f"{path.name} was not opened, because loading this {audit.kind} file {what}; "
        "if you know who made it, add --trust, else ask for it as ONNX or skops.",
        audit.names,
    )


def beyond_weights(names: Iterable[str]) -> tuple[str, ...]:
    """What a pickle of PyTorch names besides tensors and plain data, sorted."""
    return tuple(sorted(name for name in names if name not in WEIGHTS and not _DTYPES.fullmatch(name)))


def dangerous(name: str) -> bool:
    """Whether a name belongs to the first ones to be said. This orders a sentence; it decides nothing."""
    parts = name.split(".")
    modules = (parts[0], ".".join(parts[:2]))
    return name not in HARMLESS and any(module in DANGEROUS_MODULES for module in modules)


def _audited(path: Path, file: IO[bytes]) -> Audit:
    head = file.read(8)
    file.seek(0)
    if not head:
        raise ArtifactUnreadable(f"{path.name} is empty; copy or save it again.")
    if head.startswith(b"PK\x03\x04"):
        return _zip(path, file)
    if head[0] == 0x08:
        _check_onnx(path, file)
        return Audit("onnx", (), True)
    compression = compression_of(head)
    if compression == "lz4":
        raise ArtifactUnsupported(
            f"{path.name} is compressed with lz4, which is not read here; save it again."
        )
    stream = decompressed(file, compression)
    found = _pickle(path, stream)
    old_torch = head == OLD_TORCH[: len(head)]
    _following(stream, found, _FOLLOWING_TORCH if old_torch else _FOLLOWING)
    kind: Kind = "joblib" if compression or found.joblib else "pickle"
    # Tensors are named by identifiers, and it is known who resolves them.
    complete = found.complete and (old_torch or not found.persistent)
    return Audit(kind, tuple(sorted(found.names)), complete)


def _following(stream: Stream, found: Findings, most: int) -> None:
    """The pickles after the first one, which some loaders read as well. What is none of them ends it."""
    try:
        for _ in range(most):
            Machine(stream, found).run()
    except EnoughSeen:
        found.complete = False
    except (BrokenStream, EOFError, OSError, *DECOMPRESSION_ERRORS):
        return


def partial_pickle(path: Path) -> tuple[str, ...]:
    """What a file that is no whole pickle would have an unpickler import before it gives up, sorted.

    An unpickler executes as it reads, so that a pickle without an end does all that stands before it.

    Raises:
        OSError: the file cannot be read.
    """
    found = Findings()
    with path.open("rb") as file:
        compression = compression_of(file.read(8))
        file.seek(0)
        _following(decompressed(file, "" if compression == "lz4" else compression), found, 1)
    return tuple(sorted(name for name in found.names if re.fullmatch(r"\w+(\.\w+)+", name)))


def _pickle(path: Path, stream: Stream) -> Findings:
    found = Findings()
    try:
        Machine(stream, found).run()
    except EnoughSeen:
        found.complete = False
    except (BrokenStream, EOFError, OSError, *DECOMPRESSION_ERRORS) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).rstrip(".") or "it ends in the middle"
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no model file ({reason}); copy or save it again."
        ) from error
    return found


def _zip(path: Path, file: IO[bytes]) -> Audit:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            if "schema.json" in members:
                return Audit("skops", _skops_names(path, archive), True)
            held = torch_files.look(path.name, archive)
            if held is not None:
                return _torch(path, archive, held)
    except ZIP_ERRORS as error:
        # Positions in a hostile zip may lead anywhere, which the system calls an invalid argument.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ArtifactUnreadable(f"{path.name} is a truncated or damaged zip file; copy it again.") from error
    raise ArtifactUnreadable(f"{path.name} is a zip file, but no skops file: it has no schema.json.")


def _torch(path: Path, archive: zipfile.ZipFile, held: torch_files.TorchFile) -> Audit:
    """What a file of PyTorch names: operators beyond arithmetic, and what its pickles name."""
    names = set(held.beyond)
    complete = True
    for pickle in held.pickles:
        with archive.open(pickle) as member:
            if held.holds == "pickle":
                found = _pickle(path, Stream(member))
                names.update(found.names)
                complete = complete and found.complete
            else:
                names.update(_nested(path, member.read(_LARGEST_NESTED + 1)))
    return Audit("torch", tuple(sorted(names)), complete)


def _nested(path: Path, data: bytes) -> set[str]:
    """What a pickle of PyTorch inside an archive of PyTorch names."""
    if len(data) > _LARGEST_NESTED:
        return {"a pickle too large to be looked through"}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        found: set[str] = set()
        for name in names:
            with archive.open(name) as member:
                seen = _pickle(path, Stream(member))
            found |= seen.names if seen.complete else {*seen.names, "what only loading it would tell"}
        return found - PLAIN_TENSORS


def _skops_names(path: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    with archive.open("schema.json") as member:
        data = member.read(LARGEST_SCHEMA + 1)
    if len(data) > LARGEST_SCHEMA:
        raise ArtifactUnreadable(f"The schema of {path.name} is too large to be one of skops.")
    try:
        schema = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactUnreadable(f"The schema of {path.name} is damaged: {error}.") from error
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise ArtifactUnreadable(f"{path.name} is a zip file, but its schema.json is not that of skops.")
    names: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            _add_type(node, names)
    return tuple(sorted(names))


def _add_type(node: dict[str, Any], names: set[str]) -> None:
    module, kind = node.get("__module__"), node.get("__class__")
    if not isinstance(module, str) or not isinstance(kind, str):
        return
    names.add(f"{module}.{kind}")
    content = node.get("content")
    if node.get("__loader__") == "MethodNode" and isinstance(content, dict):
        names.add(f"{module}.{kind}.{content.get('func')}")


def _check_onnx(path: Path, file: IO[bytes]) -> None:
    """Walk over the outermost fields of an ONNX file; a graph must be among them and the end at its place."""
    stream = Stream(file)
    size = path.stat().st_size
    graph = False
    try:
        while stream.position < size:
            field, wire = divmod(_varint(stream), 8)
            graph = graph or (field, wire) == (7, 2)
            if wire == 0:
                _varint(stream)
            elif wire in (1, 5):
                stream.skip(8 if wire == 1 else 4)
            elif wire == 2:
                stream.skip(_varint(stream))
            else:
                raise BrokenStream(f"byte {stream.position - 1} makes no sense there")
    except (BrokenStream, EnoughSeen) as error:
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no ONNX file ({error}); copy it again."
        ) from error
    if not graph:
        raise ArtifactUnreadable(f"{path.name} holds no ONNX graph; copy or convert it again.")


def _varint(stream: Stream) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.take(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise BrokenStream("a number in it does not end")


def _shown(name: str) -> str:
    text = ascii(name)[1:-1]
    return text if len(text) <= 80 else text[:77] + "..."
