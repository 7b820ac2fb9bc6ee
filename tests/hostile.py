"""A corpus of hostile files, made anew by every test that wants it; nothing of it is stored.

Whatever is loaded of it makes the canary. Making a file executes nothing: calls are written as pickles write
them, by hand or by an object that pickles into one.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np

from servable.artifact.archives import MOST_MEMBERS


class Case(NamedTuple):
    """One hostile file or folder."""

    name: str
    path: Path


class Calls:
    """Pickles into a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def call(module: str, name: str, arguments: tuple[Any, ...], protocol: int) -> bytes:
    """A pickle that calls something, which need not be there while it is made."""
    if protocol < 2:
        return f"c{module}\n{name}\n".encode() + pickle.dumps(arguments, protocol)[:-1] + b"R."
    given = pickle.dumps(arguments, 2)[2:-1]
    if protocol < 4:
        return bytes([0x80, protocol]) + f"c{module}\n{name}\n".encode() + given + b"R."
    return bytes([0x80, protocol]) + _text(module) + _text(name) + b"\x93" + given + b"R."


def _text(value: str) -> bytes:
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def gadgets(canary: Path) -> dict[str, tuple[str, str, tuple[Any, ...]]]:
    """Functions that run something when a pickle calls them; each would make the canary."""
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    argv = ["touch", str(canary)]
    return {
        "os": ("os", "system", (touch,)),
        "posix": ("posix", "system", (touch,)),
        "popen": ("subprocess", "Popen", (argv,)),
        "check-output": ("subprocess", "check_output", (argv,)),
        "getoutput": ("subprocess", "getoutput", (touch,)),
        "eval": ("builtins", "eval", (code,)),
        "exec": ("builtins", "exec", (code,)),
        "old-eval": ("__builtin__", "eval", (code,)),
        "open": ("builtins", "open", (str(canary), "w")),
        "io": ("_io", "open", (str(canary), "w")),
        "fileio": ("_io", "FileIO", (str(canary), "w")),
        "import": ("builtins", "__import__", ("hostile_payload",)),
        "importlib": ("importlib", "import_module", ("hostile_payload",)),
        "runpy": ("runpy", "run_module", ("hostile_payload",)),
        "runpy-path": ("runpy", "run_path", ("hostile_payload.py",)),
        "pty": ("pty", "spawn", (argv,)),
        "code": ("code", "interact", ("", None, {"x": code})),
        "timeit": ("timeit", "timeit", (code,)),
        "profile": ("cProfile", "run", (code,)),
        "pdb": ("pdb", "run", (code,)),
        "bdb": ("bdb", "Bdb.run", (code,)),
        "trace": ("trace", "Trace.run", (code,)),
        "doctest": ("doctest", "debug_script", (code,)),
        "pydoc": ("pydoc", "pipepager", ("x", touch)),
        "webbrowser": ("webbrowser", "open", (f"file://{canary}",)),
        "ctypes": ("ctypes", "CDLL", (str(canary),)),
        "marshal": ("marshal", "loads", (b"c",)),
        "attrgetter": ("operator", "attrgetter", ("system",)),
        "methodcaller": ("operator", "methodcaller", ("system", touch)),
        "partial": ("functools", "partial", (touch,)),
        "spawnv": ("multiprocessing.util", "spawnv_passfds", (b"/usr/bin/touch", argv, [])),
        "socket": ("socket", "create_connection", (("127.0.0.1", 9),)),
        "urlopen": ("urllib.request", "urlopen", (f"file://{canary}",)),
        "rmtree": ("shutil", "rmtree", (str(canary),)),
        "write-text": ("pathlib", "Path.write_text", (str(canary), "x")),
        "numpy-runstring": ("numpy.testing._private.utils", "runstring", (code, {})),
        "numpy-f2py": ("numpy.f2py.crackfortran", "getlincoef", (code, [])),
        "numpy-load": ("numpy", "load", (str(canary), None, True)),
        "torch-run": ("torch.utils.collect_env", "run", (touch,)),
        "torch-hub": ("torch.hub", "load", (str(canary), "x")),
        "torch-bytes": ("torch.storage", "_load_from_bytes", (b"x",)),
        "joblib-load": ("joblib", "load", (str(canary),)),
        "joblib-inner": ("joblib.numpy_pickle", "load", (str(canary),)),
        "joblib-import": ("joblib._utils", "eval_expr", (code,)),
        "pandas-eval": ("pandas", "eval", (code,)),
        "sklearn": ("sklearn.utils._testing", "assert_run_python_script_without_output", (code,)),
        "pip": ("pip", "main", (["install", str(canary)],)),
        "logging": ("logging.config", "fileConfig", (str(canary),)),
        "dill": ("dill", "loads", (b"x",)),
        "pickle": ("pickle", "loads", (call("os", "system", (touch,), 2),)),
        "c-pickle": ("_pickle", "loads", (call("os", "system", (touch,), 4),)),
    }


def tricks(canary: Path) -> dict[str, bytes]:
    """Pickles that name their gadget in unusual ways."""
    touch = f"touch {canary}"
    text = repr(touch).encode()
    short = _text(touch)
    proto = b"\x80\x04"
    return {
        "inst": b"(S" + text + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS" + text + b"\no.",
        "newobj": b"\x80\x02cos\nsystem\n(S" + text + b"\nt\x81.",
        "newobj-ex": proto + _text("os") + _text("system") + b"\x93" + short + b"\x85}\x92.",
        "build": b"\x80\x02chostile_payload\nState\n)R}S'x'\nK\x01sb.",
        "setitem": b"\x80\x02}(cos\nsystem\n(S" + text + b"\ntRK\x01u.",
        "dropped": b"cos\nsystem\n(S" + text + b"\ntR0N.",
        "memo": proto + _text("os") + b"\x940" + _text("system") + b"\x940h\x00h\x01\x93" + short + b"\x85R.",
        "dup": proto + _text("os") + _text("system") + b"\x932" + short + b"\x85R0.",
        "dotted": proto + _text("os") + _text("path.os.system") + b"\x93" + short + b"\x85R.",
        "getattr": b"cbuiltins\ngetattr\n(cimportlib\nimport_module\n(S'os'\ntRS'system'\ntR(S"
        + text
        + b"\ntR.",
        "getattr-memo": b"cbuiltins\ngetattr\n(c__main__\n__builtins__\nS'eval'\ntRp0\n0g0\n(S'1'\ntR.",
        "computed": b"\x80\x04(cbuiltins\nstr\n\x8c\x02os\x85R\x8c\x06system\x93" + short + b"\x85R.",
        "extension": b"\x80\x02\x82\x01(S" + text + b"\ntR.",
        "extension-4": b"\x80\x02\x84\x01\x00\x00\x00(S" + text + b"\ntR.",
        "persistent": b"Pos.system\n.",
        "no-end": b"cos\nsystem\n(S" + text + b"\ntR",
        "cut": call("os", "system", (touch,), 4)[:-1] + b"(",
        "second": pickle.dumps({"a": 1}, 4) + call("os", "system", (touch,), 4),
        "unknown-opcode-behind": b"cos\nsystem\n(S" + text + b"\ntR\xff",
        "escaped-name": b"cos\nsystem\n(V" + "".join(f"\\u{ord(c):04x}" for c in touch).encode() + b"\ntR.",
        "long-name": b"cos\nsystem\n(S'" + b"x" * 60_000 + b"'\ntR.",
        "padded-frame": b"\x80\x04\x95" + struct.pack("<Q", 4) + b"cos\nsystem\n(S" + text + b"\ntR.",
        "nested-deep": _nested(call("os", "system", (touch,), 2), 12),
    }


def _nested(data: bytes, depth: int) -> bytes:
    for _ in range(depth):
        data = call("pickle", "loads", (data,), 2)
    return data


def payload(canary: Path) -> bytes:
    """A module that makes the canary when it is imported."""
    return f"open({str(canary)!r}, 'w').close()\n\n\nclass State:\n    pass\n".encode()


def pickles(folder: Path, canary: Path) -> Iterator[Case]:
    """Pickles of every gadget, in every protocol, under every name, in every compression."""
    for number, (name, gadget) in enumerate(gadgets(canary).items()):
        # Every gadget in two protocols, so that each of them is there many times.
        for protocol in (number % 6, (number + 3) % 6):
            yield _file(folder, f"{name}-{protocol}", "model.pkl", call(*gadget, protocol))
    for name, data in tricks(canary).items():
        yield _file(folder, name, "model.pkl", data)
    hostile = call("os", "system", (f"touch {canary}",), 4)
    old = call("os", "system", (f"touch {canary}",), 0)
    for suffix in (
        "json", "onnx", "npy", "txt", "skops", "joblib", "pickle", "ubj", "model", "csv", "bin", "yaml",
        "pt", "pth", "pt2", "safetensors", "h5", "keras", "cbm", "npz", "zip", "pb", "gguf", "dat",
    ):  # fmt: skip
        yield _file(folder, f"named-{suffix}", f"model.{suffix}", hostile)
        yield _file(folder, f"old-named-{suffix}", f"model.{suffix}", old)
    yield _file(folder, "upper-case", "MODEL.PKL", hostile)
    yield _file(folder, "strange-name", "mo\u202edel .pkl", hostile)
    for name, packed in (
        ("gz", gzip.compress(hostile)), ("bz2", bz2.compress(hostile)), ("xz", lzma.compress(hostile)),
        ("lzma", lzma.compress(hostile, format=lzma.FORMAT_ALONE)), ("zlib", zlib.compress(hostile)),
    ):  # fmt: skip
        yield _file(folder, f"packed-{name}", "model.joblib", packed)
        yield _file(folder, f"packed-{name}-plain", "model.pkl", packed)
    for method in ("zlib", "gzip", "bz2", "xz", "lzma"):
        path = _place(folder, f"joblib-{method}", "model.joblib")
        joblib.dump({"a": np.arange(9), "b": Calls(os.system, f"touch {canary}")}, path, compress=(method, 3))
        yield Case(f"joblib-{method}", path)
    path = _place(folder, "joblib-objects", "model.joblib")
    joblib.dump(np.array([Calls(os.system, f"touch {canary}")], object), path)
    yield Case("joblib-objects", path)


def arrays(folder: Path, canary: Path) -> Iterator[Case]:
    """Arrays of objects."""
    hostile = np.array([Calls(os.system, f"touch {canary}")], object)
    for name, file, write in (("npy", "model.npy", np.save), ("npz", "model.npz", np.savez)):
        kept = io.BytesIO()
        write(kept, hostile)
        yield _file(folder, f"objects-{name}", file, kept.getvalue())
        yield _file(folder, f"objects-{name}-named", "model.pkl", kept.getvalue())


def zips(folder: Path, canary: Path) -> Iterator[Case]:
    """Pickles in zip files, those of PyTorch among them, and archives that escape."""
    hostile = call("os", "system", (f"touch {canary}",), 2)
    members: dict[str, dict[str, bytes]] = {
        "in-zip": {"model.pkl": hostile},
        "in-zip-renamed": {"weights.json": hostile},
        "in-zip-deep": {"a.zip": zipped({"b.zip": zipped({"model.bin": hostile})})},
        "python-in-zip": {"__init__.py": payload(canary)},
        "torch": {"archive/data.pkl": hostile, "archive/version": b"3\n"},
        "torch-bare": {"data.pkl": hostile},
        "torch-other-folder": {"x/version": b"3", "y/data.pkl": hostile},
        "torch-nested": {"archive/data.pkl": call("torch.storage", "_load_from_bytes", (hostile,), 2)},
        "torch-rebuild": {"archive/data.pkl": call("torch._utils", "_rebuild_python_object", (hostile,), 2)},
        "script": {
            "s/constants.pkl": hostile,
            "s/data.pkl": hostile,
            "s/code/__torch__.py": b"def forward(self, x):\n  return ops.aten.save(x, 'canary')\n",
        },
        "program": {
            "p/archive_format": b"pt2",
            "p/models/model.json": b'{"graph": [{"target": "os.system", "inputs": []}]}',
        },
        "lambda": {"config.json": json.dumps(lambda_model()).encode(), "metadata.json": b"{}"},
        "skops-function": {"schema.json": skops_schema("FunctionNode", "os", "system")},
        "skops-method": {"schema.json": skops_schema("MethodNode", "builtins", "eval")},
        "skops-object": {"schema.json": skops_schema("ObjectNode", "subprocess", "Popen")},
        "skops-unknown-loader": {"schema.json": skops_schema("HostileNode", "os", "system")},
        "skops-partial": {"schema.json": skops_schema("PartialNode", "functools", "partial")},
        "escapes": {"../canary": b"x"},
        "escapes-absolute": {"/tmp/canary": b"x"},
        "escapes-backslash": {"..\\canary": b"x"},
        "escapes-drive": {"c:\\canary": b"x"},
    }
    for name, content in members.items():
        suffix = "pt" if name.startswith(("torch", "script")) else "pt2" if name == "program" else "skops"
        suffix = "keras" if name == "lambda" else suffix
        yield _file(folder, name, f"model.{suffix}", zipped(content))
    yield _file(folder, "zip-behind-pickle", "model.skops", hostile + zipped({"a.txt": b"x"}))
    with_link = io.BytesIO()
    with zipfile.ZipFile(with_link, "w") as archive:
        link = zipfile.ZipInfo("inner")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/tmp")
        archive.writestr("inner/canary", b"x")
    yield _file(folder, "escapes-link", "model.zip", with_link.getvalue())
    yield _file(folder, "bomb", "model.zip", zipped({"zeros": bytes(100_000_000)}))
    yield _file(folder, "crowd", "model.zip", zipped(dict.fromkeys(map(str, range(MOST_MEMBERS + 1)), b"")))
    yield _file(folder, "truncated-zip", "model.skops", zipped({"schema.json": b"{}" * 99})[:-40])


def tars(folder: Path) -> Iterator[Case]:
    """Tars that do harm when they are unpacked."""
    made: dict[str, list[tuple[str, dict[str, Any], bytes]]] = {
        "relative": [("../../canary", {}, b"x")],
        "absolute": [("/tmp/canary", {}, b"x")],
        "link-then-write": [
            ("in", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}, b""),
            ("in/canary", {}, b"x"),
        ],
        "hard-link": [("in", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, b"")],
        "device": [("in", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b"")],
        "pipe": [("in", {"type": tarfile.FIFOTYPE}, b"")],
    }
    for name, members in made.items():
        for mode, suffix in (("w", "tar"), ("w:gz", "tar.gz")):
            kept = io.BytesIO()
            with tarfile.open(fileobj=kept, mode=mode) as archive:  # type: ignore[call-overload]
                for path, about, data in members:
                    info = tarfile.TarInfo(path)
                    info.size = len(data)
                    for key, value in about.items():
                        setattr(info, key, value)
                    archive.addfile(info, io.BytesIO(data))
            yield _file(folder, f"tar-{name}-{suffix}", f"model.{suffix}", kept.getvalue())


def old_torch(folder: Path, canary: Path) -> Iterator[Case]:
    """The form that PyTorch wrote before it wrote zip files."""
    hostile = call("os", "system", (f"touch {canary}",), 2)
    magic, plain = pickle.dumps(0x1950A86A20F9469CFC6C, 2), [pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    for place in range(1, 5):
        parts = [magic, *plain, pickle.dumps({}, 2), pickle.dumps([], 2)]
        parts[place] = hostile
        yield _file(folder, f"old-torch-{place}", "model.pt", b"".join(parts))
    other = call("builtins", "int", (str(0x1950A86A20F9469CFC6C),), 2)
    yield _file(folder, "old-torch-computed", "model.pt", b"".join([other, *plain, hostile]))


def folders(folder: Path, canary: Path) -> Iterator[Case]:
    """Folders of MLflow with code in them, and models in Python."""
    hostile = call("os", "system", (f"touch {canary}",), 4)
    end = "mlflow_version: 3.1.0\nmodel_uuid: x\nutc_time_created: '2026-01-01'\n"
    pyfunc = "flavors:\n  python_function:\n    loader_module: hostile_payload\n    code: code\n"
    sklearn = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n    code: code\n"
    tagged = f"flavors: !!python/object/apply:os.system ['touch {canary}']\n"
    for name, about in (("pyfunc", pyfunc), ("sklearn", sklearn), ("yaml", tagged)):
        path = folder / f"mlflow-{name}" / "model"
        (path / "code").mkdir(parents=True)
        (path / "code" / "hostile_payload.py").write_bytes(payload(canary))
        (path / "MLmodel").write_text(about + end)
        (path / "model.pkl").write_bytes(hostile)
        yield Case(f"mlflow-{name}", path)
    yield _file(folder, "python", "model.py", payload(canary))


def lambda_model() -> dict[str, Any]:
    """The description of a Keras model with code in it."""
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    layer = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "l", "function": code}}
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": [layer]}}


def skops_schema(loader: str, module: str, kind: str) -> bytes:
    """The schema of a ``.skops`` that wants something built that does not belong there."""
    inner = {"__class__": kind, "__module__": module, "__loader__": loader, "__id__": 2, "content": {}}
    inner["content"] = {"module_path": module, "function": kind, "func": kind, "attrs": {}, "obj": {}}
    whole = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "__id__": 1}
    return json.dumps({**whole, "content": [inner], "protocol": 2, "_skops_version": "0.16"}).encode()


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip file."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return kept.getvalue()


def _place(folder: Path, case: str, file: str) -> Path:
    (folder / case).mkdir(parents=True)
    return folder / case / file


def _file(folder: Path, case: str, file: str, data: bytes) -> Case:
    path = _place(folder, case, file)
    path.write_bytes(data)
    return Case(case, path)


def onnx_models(folder: Path) -> Iterator[Case]:
    """Models that keep their tensors where they should not."""
    secret = folder / "secret"
    secret.write_bytes(bytes(64))

    def beside(place: Path) -> None:
        (place.parent / "data").write_bytes(bytes(64))

    def linked(place: Path) -> None:
        (place.parent / "data").symlink_to(secret)

    def hard(place: Path) -> None:
        os.link(secret, place.parent / "data")

    def parent(place: Path) -> None:
        (place.parent / "sub").symlink_to(folder)

    wanted: dict[str, tuple[dict[str, str], Callable[[Path], None]]] = {
        "absolute": ({"location": str(secret)}, beside),
        "relative": ({"location": "../secret"}, beside),
        "relative-deep": ({"location": "x/../../secret"}, beside),
        "windows": ({"location": "..\\secret"}, beside),
        "link": ({"location": "data"}, linked),
        "hard-link": ({"location": "data"}, hard),
        "parent-link": ({"location": "sub/secret"}, parent),
        "missing": ({"location": "nothing"}, beside),
        "empty": ({"location": ""}, beside),
        "folder": ({"location": "."}, beside),
        "zero-byte": ({"location": "data\0x"}, beside),
        "length": ({"location": "data", "length": str(2**50)}, beside),
        "offset": ({"location": "data", "offset": "4096", "length": "64"}, beside),
        "negative": ({"location": "data", "offset": "-8"}, beside),
        "no-number": ({"location": "data", "offset": "0x10"}, beside),
        "unknown-key": ({"location": "data", "__class__": "x"}, beside),
        "proc": ({"location": "/proc/self/environ"}, beside),
    }
    for where in ("graph", "attribute", "subgraph", "function", "sparse"):
        for name, (said, prepare) in wanted.items():
            if where != "graph" and name not in ("absolute", "link"):
                continue
            for order in (False, True):
                path = _place(folder, f"onnx-{name}-{where}-{order}", "model.onnx")
                prepare(path)
                path.write_bytes(onnx_model(said, where, value_first=order))
                yield Case(path.parent.name, path)


def _field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return _varint(number << 3) + _varint(data)
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])


def onnx_model(said: dict[str, str], where: str, *, value_first: bool) -> bytes:
    """A model of one addition, byte for byte, because no library writes what is wrong on purpose.

    Args:
        said: of the tensor that lies elsewhere.
        where: that tensor is.
        value_first: whether each value is written before its key.
    """
    entries = b""
    for key, value in said.items():
        parts = [_field(1, key.encode()), _field(2, value.encode())]
        entries += _field(13, b"".join(reversed(parts) if value_first else parts))
    tensor = _field(1, 4) + _field(2, 1) + _field(8, b"w") + entries + _field(14, 1)
    inside = _field(1, 4) + _field(2, 1) + _field(8, b"w") + _field(9, bytes(16))
    shape = _field(1, _field(1, 4))
    value = _field(2, _field(1, _field(1, 1) + _field(2, shape)))
    add = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, b"Add")
    first = _field(5, tensor if where == "graph" else inside)
    graph = _field(1, add)
    extra = b""
    if where == "attribute":
        held = _field(1, b"value") + _field(5, tensor) + _field(20, 4)
        graph += _field(1, _field(2, b"c") + _field(4, b"Constant") + _field(5, held))
    if where == "subgraph":
        inner = _field(1, b"then_branch") + _field(6, _field(5, tensor)) + _field(20, 5)
        graph += _field(1, _field(1, b"x") + _field(2, b"d") + _field(4, b"If") + _field(5, inner))
    if where == "sparse":
        graph += _field(15, _field(1, tensor) + _field(2, inside) + _field(3, 4))
    if where == "function":
        held = _field(1, b"value") + _field(5, tensor) + _field(20, 4)
        node = _field(2, b"y") + _field(4, b"Constant") + _field(5, held)
        extra = _field(25, _field(1, b"f") + _field(5, b"y") + _field(7, node) + _field(10, b"own"))
    graph += _field(2, b"g") + first
    graph += _field(11, _field(1, b"x") + value) + _field(12, _field(1, b"y") + value)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 17)) + extra


def keras_files(folder: Path, canary: Path) -> Iterator[Case]:
    """Keras models with code in them, or with weights in other files; needs h5py."""
    import h5py

    secret = folder / "secret.bin"
    secret.write_bytes(bytes(64))
    path = _place(folder, "lambda-h5", "model.h5")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(lambda_model())
    yield Case("lambda-h5", path)
    plain = {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": []}}
    for name in ("external", "link", "soft-link"):
        path = _place(folder, f"h5-{name}", "model.h5")
        _elsewhere(h5py, path, secret, name, plain)
        yield Case(f"h5-{name}", path)
        weights = _place(folder, f"keras-{name}", "model.weights.h5")
        _elsewhere(h5py, weights, secret, name, plain)
        members = {"config.json": json.dumps(plain).encode(), "metadata.json": b"{}"}
        members["model.weights.h5"] = weights.read_bytes()
        yield _file(folder, f"keras-{name}-whole", "model.keras", zipped(members))


def _elsewhere(h5py: Any, path: Path, secret: Path, how: str, config: dict[str, Any]) -> None:
    """An HDF5 file whose weights lie in another file."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("layers")
        if how == "external":
            group.create_dataset("vars", shape=(8,), dtype="f8", external=[(str(secret), 0, 64)])
        elif how == "link":
            group["vars"] = h5py.ExternalLink(str(secret), "/x")
        else:
            group["vars"] = h5py.SoftLink("/nowhere")


def saved_models(folder: Path, canary: Path) -> Iterator[Case]:
    """SavedModels that call back into Python, or read and write files; needs TensorFlow."""
    from servable.frameworks.quiet import imported

    saved_model_pb2 = imported("tensorflow.core.protobuf.saved_model_pb2")
    for operation in ("PyFunc", "EagerPyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "MatchingFiles"):
        saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        graph = saved.meta_graphs.add()
        graph.meta_info_def.tags.append("serve")
        graph.graph_def.node.add(name="n", op=operation)
        yield _folder_with(folder, f"saved-{operation}", "saved_model.pb", saved.SerializeToString())
    function = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    held = function.meta_graphs.add().graph_def.library.function.add()
    held.signature.name = "f"
    held.node_def.add(name="n", op="WriteFile")
    yield _folder_with(folder, "saved-function", "saved_model.pb", function.SerializeToString())


def _folder_with(folder: Path, case: str, file: str, data: bytes) -> Case:
    path = _place(folder, f"{case}/model", file)
    path.write_bytes(data)
    return Case(case, path.parent)


def hugging_face(folder: Path, canary: Path) -> Iterator[Case]:
    """A folder of transformers whose weights are a pickle, and one that wants code of its own."""
    about = {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 8}
    path = _place(folder, "pickled-weights/model", "pytorch_model.bin")
    path.write_bytes(call("os", "system", (f"touch {canary}",), 2))
    (path.parent / "config.json").write_text(json.dumps(about))
    yield Case("pickled-weights", path.parent)
    path = _place(folder, "remote-code/model", "own.py")
    path.write_bytes(payload(canary))
    remote = {**about, "model_type": "own", "auto_map": {"AutoModel": "own.State", "AutoConfig": "own.State"}}
    (path.parent / "config.json").write_text(json.dumps(remote))
    yield Case("remote-code", path.parent)


def every(folder: Path, canary: Path) -> list[Case]:
    """Every case, where every framework is installed."""
    for name in ("keras", "saved", "hugging-face"):
        (folder / name).mkdir()
    return [
        *core(folder, canary),
        *keras_files(folder / "keras", canary),
        *saved_models(folder / "saved", canary),
        *hugging_face(folder / "hugging-face", canary),
    ]


def core(folder: Path, canary: Path) -> list[Case]:
    """Every case whose refusal needs no framework beside the ordinary ones."""
    return [
        *pickles(folder / "pickles", canary),
        *arrays(folder / "arrays", canary),
        *zips(folder / "zips", canary),
        *tars(folder / "tars"),
        *old_torch(folder / "old", canary),
        *folders(folder / "folders", canary),
        *_made(folder / "onnx"),
    ]


def _made(folder: Path) -> Iterator[Case]:
    folder.mkdir()
    return onnx_models(folder)
