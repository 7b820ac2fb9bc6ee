import copyreg
import gzip
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from servable.artifact.audit import Audit, audit_file, dangerous, refusal
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, FileMissing
from thoroughness import examples


class Calls:
    """Pickles into a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Stateful:
    """Pickles into an object with a state, which ``__setstate__`` would take."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state

    def __setstate__(self, state: Any) -> None:
        Path(state[0]).write_text("ran")


def models() -> list[Any]:
    x = np.random.default_rng(0).normal(size=(60, 4))
    y = np.array(["a", "b"], dtype=object)[(x[:, 0] > 0).astype(int)]
    return [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y),
        RandomForestClassifier(5, random_state=0).fit(x, y),
        HistGradientBoostingClassifier(max_iter=3).fit(x, y),
        {"structured": np.zeros(3, dtype=[("a", "f8"), ("b", "U3")]), "dates": np.zeros(2, "M8[s]")},
    ]


@pytest.fixture(scope="module", params=range(4))
def model(request: pytest.FixtureRequest) -> Any:
    return models()[request.param]


def imported(data: bytes) -> set[str]:
    """What the real unpickler asks for, of a file that is known to be good."""
    asked: set[str] = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            asked.add(f"{module}.{name}")
            return super().find_class(module, name)

    Recorder(io.BytesIO(data)).load()
    return asked


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_names_what_the_real_unpickler_imports(tmp_path: Path, model: Any, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model, protocol))
    audit = audit_file(path)
    assert set(audit.names) >= imported(path.read_bytes())
    assert audit.kind == "pickle"
    assert audit.complete


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_is_read_to_its_end(tmp_path: Path, model: Any, compress: Any) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(model, path, compress=compress)
    audit = audit_file(path)
    assert audit.kind == "joblib"
    assert audit.complete
    assert "joblib.numpy_pickle.NumpyArrayWrapper" in audit.names
    whole = path.read_bytes()
    for size in (1, 3, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtifactUnreadable):
            audit_file(path)


def hostile(canary: Path) -> dict[str, bytes]:
    """Files that run something when loaded; each would make the canary."""
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    plain = {
        "system": Calls(os.system, touch),
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "nested": [1, {"deep": (Calls(os.system, touch),)}],
        "setstate": Stateful((str(canary),)),
        "inner": Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))),
        "popen": Calls(subprocess.Popen, ["touch", str(canary)]),
    }
    files = {
        f"{name}-{protocol}": pickle.dumps(value, protocol)
        for name, value in plain.items()
        for protocol in (0, 2, 4)
    }
    text = repr(touch).encode()
    files["inst"] = b"(S" + text + b"\nios\nsystem\n."
    files["obj"] = b"(cos\nsystem\nS" + text + b"\no."
    short = bytes([len(touch)]) + touch.encode()
    files["stack-global"] = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + short + b"\x85R."
    files["split-name"] = (
        b"cbuiltins\ngetattr\n(cimportlib\nimport_module\n(S'os'\ntRS'system'\ntR(S" + text + b"\ntR."
    )
    files["setitem"] = b"\x80\x02}(cos\nsystem\n(S" + text + b"\ntRK\x01u."
    files["dropped"] = b"cos\nsystem\n(S" + text + b"\ntR0N."
    return files


HOSTILE = sorted(hostile(Path("/canary")))


@pytest.mark.parametrize("which", HOSTILE)
def test_nothing_runs_and_everything_is_named(tmp_path: Path, which: str) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "model.pkl"
    data = hostile(canary)[which]
    path.write_bytes(data)
    audit = audit_file(path)
    assert not canary.exists()
    assert any(dangerous(name) for name in audit.names) or "Stateful" in str(audit.names)
    error = refusal(path, audit)
    assert "--trust" in error.message
    assert error.names == audit.names
    # The file is as hostile as it claims to be: loading it where that does no harm makes the canary.
    if not which.startswith(("popen", "setstate")):
        load = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        subprocess.run([sys.executable, "-ISc", load, path], check=False, capture_output=True)
        assert canary.exists()


def test_the_getattr_chain_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(hostile(tmp_path / "canary")["split-name"])
    assert {"os", "os.system", "importlib.import_module", "builtins.getattr"} <= set(audit_file(path).names)


def test_hostile_things_in_a_compressed_file_and_in_an_object_array(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "model.joblib"
    array = np.empty(2, dtype=object)
    array[:] = [Calls(os.system, f"touch {canary}"), 1]
    joblib.dump({"x": np.arange(1000.0), "y": array, "z": np.arange(3)}, path, compress=3)
    audit = audit_file(path)
    assert "posix.system" in audit.names
    assert audit.complete
    assert not canary.exists()
    for data in (gzip.compress(b"cos\nsystem\n."), zlib.compress(b"cos\nsystem\n.")):
        path.write_bytes(data)
        assert audit_file(path) == Audit("joblib", ("os.system",), True)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x80\x02\x82\xf0.", "copyreg.extension_240"),
        (b"\x80\x02K\x01K\x02\x93.", None),
        (b"P1\n.", None),
        (b"K\x01Q.", None),
        (b"cjoblib.numpy_pickle\nNDArrayWrapper\n)\x81}b.", "joblib.numpy_pickle.NDArrayWrapper"),
        (b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b.", "joblib.numpy_pickle.NumpyArrayWrapper"),
        (b"cpickle\nloads\n(U\x03xyzt\x85R.", "pickle.loads"),
        (b"cpickle\nloads\nC\x03xyz\x85R.", "pickle.loads"),
        (b"cbuiltins\ngetattr\n(K\x01K\x02tR.", "builtins.getattr"),
    ],
)
def test_what_cannot_be_told_is_said(tmp_path: Path, data: bytes, name: str | None) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    audit = audit_file(path)
    assert not audit.complete
    assert name is None or name in audit.names
    assert "only loading" in refusal(path, audit).message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello world\n",
        b"age,income\n1,2\n",
        b"\x00" * 64,
        b"\x80\x04.",
        b"\x80\x09N.",
        b"\x80\x04N",
        b"h\x05.",
        b"g-1\n.",
        b"0.",
        b"t.",
        b"R.",
        b"\x8e" + struct.pack("<Q", 2**62),
        b"\x8b" + struct.pack("<i", -1),
        b"X\x02\x00\x00\x00\xff\xff.",
        b"I" + b"1" * 200_000,
        b"PK\x03\x04",
        b"\x1f\x8b\x08",
        b"BZh9xxxx",
        b"\xfd7zXZ\x00\x00",
        b"x\x9c",
        b"\x08",
        b"\x08\x07",
        b"\x08\x07\x3f",
        b"\x08" + b"\xff" * 20,
    ],
)
def test_garbage_gets_one_clear_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    with pytest.raises(ArtifactUnreadable, match=r"^model\.pkl .*\.$") as caught:
        audit_file(path)
    assert "\n" not in caught.value.message


@given(data=st.binary(max_size=200))
@settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_audited_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    try:
        audit = audit_file(path)
    except (ArtifactUnreadable, ArtifactUnsupported):
        return
    assert list(audit.names) == sorted(set(audit.names))


def seeds() -> dict[str, bytes]:
    """One good file of each kind."""
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    plain, packed = io.BytesIO(), io.BytesIO()
    joblib.dump({"a": np.arange(9.0), "b": np.array(["x", None], dtype=object)}, plain)
    joblib.dump(model, packed, compress=3)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [x])
    return {
        "pickle": pickle.dumps(model),
        "old": pickle.dumps(model, 0),
        "joblib": plain.getvalue(),
        "compressed": packed.getvalue(),
        "skops": skops.io.dumps(model),
        "onnx": helper.make_model(graph).SerializeToString(),
    }


SEEDS = seeds()


@pytest.mark.parametrize("kind", sorted(SEEDS))
@given(changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4))
@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_models_are_audited_or_refused(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]]
) -> None:
    whole = bytearray(SEEDS[kind])
    for at, byte in changes:
        whole[at % len(whole)] = byte
    path = tmp_path / "model"
    path.write_bytes(whole)
    try:
        audit_file(path)
    except (ArtifactUnreadable, ArtifactUnsupported):
        return


OPCODES = [info.code.encode("latin-1") for info in pickletools.opcodes]
PROGRAMS = st.lists(
    st.sampled_from(
        [*OPCODES, b"cos\nsystem\n", b"K\x01", b"U\x01a", b"q\x01", b"h\x01", b"X\x01\0\0\0a", b"C\x01a"]
    ),
    max_size=25,
)


@given(program=PROGRAMS)
@settings(
    max_examples=examples(500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_program_of_opcodes_is_audited_or_refused(tmp_path: Path, program: list[bytes]) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cbuiltins\ngetattr\n(Nt" + b"".join(program) + b".")
    try:
        audit_file(path)
    except (ArtifactUnreadable, ArtifactUnsupported):
        return


def test_limits_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    many = b"".join(b"cm\nn%d\n0" % number for number in range(12_000))
    path.write_bytes(many + b"N.")
    audit = audit_file(path)
    assert len(audit.names) == 10_000
    assert not audit.complete
    long = b"a" * 50_000
    path.write_bytes(b"c" + long + b"\n" + long + b"\n.")
    assert len(audit_file(path).names[0]) == 300
    # Texts are passed over when they are longer than any name.
    path.write_bytes(b"X" + struct.pack("<I", 3 << 20) + b"a" * (3 << 20) + b".")
    assert audit_file(path) == Audit("pickle", (), True)
    # A call of a call of a call has a name that is cut.
    calls = b"cbuiltins\ngetattr\n(cos\nsystem\n" + b")R" * 10_000 + b"U\x01atR."
    path.write_bytes(calls)
    assert "?" + "()" * 10 + ".a" in audit_file(path).names
    # Hashing this set's one member would take longer than the universe has.
    path.write_bytes(b"\x8f(" + b")" + b"2\x86" * 1000 + b"\x90.")
    assert audit_file(path) == Audit("pickle", (), True)


def test_an_endless_compressed_file_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.artifact.streams.LARGEST", 1 << 20)
    path = tmp_path / "model.joblib"
    path.write_bytes(
        gzip.compress(b"cos\nsystem\n" + b"B" + struct.pack("<I", 8 << 20) + bytes(8 << 20) + b".")
    )
    assert audit_file(path) == Audit("joblib", ("os.system",), False)


def test_too_many_opcodes_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.artifact.opcodes.MOST_OPCODES", 100)
    path = tmp_path / "model.pkl"
    path.write_bytes(b"N0" * 100 + b"N.")
    assert not audit_file(path).complete


def test_skops_lists_its_types(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    forest = models()[1]
    skops.io.dump(forest, path)
    audit = audit_file(path)
    assert audit.kind == "skops"
    assert set(audit.names) >= set(skops.io.get_untrusted_types(file=path))
    assert "sklearn.ensemble._forest.RandomForestClassifier" in audit.names
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactUnreadable):
        audit_file(path)


@pytest.mark.parametrize("schema", [b"{", b"[]", b'{"a": 1}', b"[" * 100_000])
def test_a_schema_that_is_none(tmp_path: Path, schema: bytes) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", schema)
    with pytest.raises(ArtifactUnreadable, match="schema"):
        audit_file(path)


def test_methods_in_skops_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    node = b'{"__loader__": "MethodNode", "__module__": "os", "__class__": "X", "content": {"func": "go"}}'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", node)
    assert audit_file(path).names == ("os.X", "os.X.go")


def test_other_zip_files(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n.")
    assert audit_file(path) == Audit("torch", ("os.system",), True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    with pytest.raises(ArtifactUnreadable, match="schema"):
        audit_file(path)


def test_a_pickle_under_another_name_is_still_one(tmp_path: Path) -> None:
    for name in ("model.skops", "model.onnx", "model"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n.")
        assert audit_file(tmp_path / name) == Audit("pickle", ("os.system",), True)


def test_onnx_executes_nothing(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    path = tmp_path / "model.onnx"
    whole = helper.make_model(graph).SerializeToString()
    path.write_bytes(whole)
    assert audit_file(path) == Audit("onnx", (), True)
    path.write_bytes(whole[:-1])
    with pytest.raises(ArtifactUnreadable):
        audit_file(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        audit_file(tmp_path / "nothing.pkl")
    with pytest.raises(ArtifactUnreadable, match="folder"):
        audit_file(tmp_path)
    (tmp_path / "x.joblib").write_bytes(b"\x04\x22\x4d\x18aaaa")
    with pytest.raises(ArtifactUnsupported, match="lz4"):
        audit_file(tmp_path / "x.joblib")


def test_a_refusal_says_the_dangerous_first_and_stays_one_line() -> None:
    names = ("a.b", "os.system\nrm", "x" * 200, *(f"sklearn.m{number}" for number in range(20)))
    message = refusal(Path("m.pkl"), Audit("pickle", tuple(sorted(names)), True)).message
    assert "\n" not in message
    assert message.index("os.system") < message.index("a.b")
    assert "and 15 more" in message
    assert refusal(Path("m.pkl"), Audit("pickle", (), True)).message.count("any code") == 1
    assert not dangerous("builtins.list")
    assert dangerous("builtins.eval")
    assert not dangerous("sklearn.pipeline.Pipeline")


def test_extension_numbers_are_not_looked_up(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 241)
    try:
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps([1]).replace(b"K\x01", b"\x82\xf1"))
        assert audit_file(path).names == ("copyreg.extension_241",)
    finally:
        copyreg.remove_extension("os", "system", 241)
