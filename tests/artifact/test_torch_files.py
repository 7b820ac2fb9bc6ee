"""What archives of PyTorch ask for, on archives made by hand: nothing here needs PyTorch."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.audit import audit_file
from servable.errors import ArtifactUnreadable


def archive(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


def graph(*, target: str = "torch.ops.aten.relu.default", size: str = "Symbol('s77', positive=True)") -> Any:
    """As much of an exported program as is looked at."""
    node = {"target": target, "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}}]}
    spec = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]'
    return {
        "graph_module": {
            "graph": {
                "nodes": [node],
                "tensor_values": {"x": {"sizes": [{"as_expr": {"expr_str": size}}, {"as_int": 4}]}},
            },
            "module_call_graph": [{"signature": {"in_spec": spec, "out_spec": spec}}],
        }
    }


def program(path: Path, held: Any, more: dict[str, bytes | str] | None = None) -> Path:
    members: dict[str, bytes | str] = {"m/archive_format": "pt2", "m/models/model.json": json.dumps(held)}
    return archive(path, {**members, **(more or {})})


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("true",))


def nested() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as inner:
        inner.writestr("a/data.pkl", pickle.dumps(Evil()))
    return made.getvalue()


def test_a_program_that_only_computes_asks_for_nothing(tmp_path: Path) -> None:
    audit = audit_file(program(tmp_path / "a.pt2", graph()))
    assert (audit.kind, audit.names, audit.complete) == ("torch", (), True)


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.mine.anything.default",
        "torch.ops.higher_order.triton_kernel_wrapper_mutation",
        "_operator.methodcaller",
        "_operator.call",
        "math.tau.hex",
        "#mine",
        "os.system",
    ],
)
def test_operators_that_do_more_are_named(tmp_path: Path, target: str) -> None:
    assert audit_file(program(tmp_path / "a.pt2", graph(target=target))).names == (target,)


@pytest.mark.parametrize(
    "target",
    ["_operator.add", "math.sqrt", "torch.sym_max", "torch.ops.higher_order.cond", "_operator.getitem"],
)
def test_arithmetic_on_sizes_passes(tmp_path: Path, target: str) -> None:
    assert audit_file(program(tmp_path / "a.pt2", graph(target=target))).names == ()


@pytest.mark.parametrize(
    "size",
    ["s77", "2*s77 + 1", "FloorDiv(s77, 2)", "Max(1, s0)", "Mod(u0, 3)", "Eq(s77, 4)", "s77**2"],
)
def test_sizes_pass(tmp_path: Path, size: str) -> None:
    assert audit_file(program(tmp_path / "a.pt2", graph(size=size))).names == ()


@pytest.mark.parametrize(
    "size",
    [
        "__import__('os').system('true')",
        "exec('1')",
        "Symbol('s77').func",
        "Symbol('__import__(1)')",
        "(lambda: 1)()",
        "[s0 for s0 in s1]",
        "s77; s78",
        "open(0)",
        "f'{s77}'",
        "s77[0]",
        "",
    ],
)
def test_other_expressions_are_named(tmp_path: Path, size: str) -> None:
    (name,) = audit_file(program(tmp_path / "a.pt2", graph(size=size))).names
    assert name.startswith("the expression")


@given(st.text(max_size=60))
def test_no_expression_passes_that_reads_an_attribute_or_calls_a_stranger(text: str) -> None:
    from servable.artifact.torch_files import look

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        out.writestr("m/archive_format", "pt2")
        out.writestr("m/models/model.json", json.dumps(graph(size=f"{text}.real(exec)")))
    with zipfile.ZipFile(made) as held:
        found = look("a.pt2", held)
    assert found is not None
    assert found.beyond


def test_structures_that_import_are_named(tmp_path: Path) -> None:
    held = graph()
    spec = '[1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]'
    held["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec
    assert audit_file(program(tmp_path / "a.pt2", held)).names == ("collections.defaultdict",)


def test_libraries_objects_and_pickles_are_named(tmp_path: Path) -> None:
    more = {
        "m/data/aotinductor/model/a.so": b"",
        "m/data/constants/custom_obj_0": b"",
        "m/data/sample_inputs/model.pt": nested(),
    }
    names = audit_file(program(tmp_path / "a.pt2", graph(), more)).names
    assert {"the compiled library a.so", "the pickled object custom_obj_0"} < set(names)
    assert any(name.endswith(".system") for name in names)


def test_weights_that_are_pickles_are_looked_into(tmp_path: Path) -> None:
    config = {"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}
    more = {
        "m/data/weights/model_weights_config.json": json.dumps(config),
        "m/data/weights/weight_0": nested(),
    }
    names = audit_file(program(tmp_path / "a.pt2", graph(), more)).names
    assert any(name.endswith(".system") for name in names)


def test_archives_that_can_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreadable, match="no archive that PyTorch writes"):
        audit_file(program(tmp_path / "a.pt2", graph(), {"other/models/model.json": "{}"}))
    with pytest.raises(ArtifactUnreadable, match="0 exported programs"):
        audit_file(archive(tmp_path / "b.pt2", {"m/archive_format": "pt2"}))
    with pytest.raises(ArtifactUnreadable, match="no JSON"):
        audit_file(archive(tmp_path / "c.pt2", {"m/models/model.json": "{"}))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("return torch.relu(x)", False),
        ("return ops.prim.NumToTensor(x)", False),
        ("torch.save(x, 'f')", True),
        ("x.save('f')", True),
        ("'f'.from_file()", True),
        ("ops.c10d.broadcast(x)", True),
        ("ops . c10d.broadcast(x)", True),
        ("o = ops", True),
        ("__torch__.torch.classes.mine.Thing(x)", True),
    ],
)
def test_scripts_that_do_more_than_compute_are_named(tmp_path: Path, line: str, named: bool) -> None:
    code = f"class Net(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    {line}\n"
    path = archive(
        tmp_path / "a.pt", {"m/constants.pkl": b"", "m/data.pkl": b"", "m/code/__torch__.py": code}
    )
    audit = audit_file(path)
    assert (audit.kind, bool(audit.names)) == ("torch", named)
