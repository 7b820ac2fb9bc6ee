"""PyTorch from every form of file to answers over the wire, compiled and not."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")

import msgspec

import servable
from all import torch_models as made
from all.serving import COMPILED
from all.wire import maps_of, over_grpc, over_http
from e2e.conftest import running_server
from servable.artifact.package import open_package
from servable.artifact.signature import Field
from servable.errors import (
    ArtifactUnreadable,
    ArtifactUnsupported,
    ArtifactUntrusted,
    SettingInvalid,
)
from servable.frameworks.base import Hints
from servable.frameworks.lookup import adapter
from servable.testing import check_adapter
from servable.testing.adapters import Specimen

# PyTorch says of its own file forms that they will go; the tests make such files on purpose.
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]

ROWS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def expected(module: Any, rows: Any = ROWS) -> Any:
    """The probabilities that PyTorch itself gives."""
    with torch.inference_mode():
        return module(torch.from_numpy(rows)).softmax(-1).numpy()


def every_form(folder: Path) -> dict[str, tuple[Path, Hints, Any]]:
    """A file of each form, the hints that it needs and the module that it came from."""
    named = made.with_class(folder)
    labelled = Hints(labels=made.LABELS)
    described = Hints(inputs=(made.INPUT,), labels=made.LABELS)
    return {
        "program": (made.program(folder / "a.pt2"), labelled, made.net()),
        "script": (made.script(folder / "b.pt"), described, made.Plain()),
        "traced": (made.traced(folder / "c.pt"), described, made.net()),
        "weights": (made.weights(folder / "d.pth"), named, made.net()),
        "safetensors": (made.weights(folder / "e.safetensors"), named, made.net()),
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_form_of_file_answers_like_pytorch_over_http_and_grpc(tmp_path: Path, home: Path) -> None:
    forms = every_form(tmp_path)
    for name, (path, hints, _) in forms.items():
        for suffix, tolerance in (("", 1e-4), ("-trained", -1.0)):
            if suffix and name not in ("program", "weights"):
                continue
            trust = bool(hints.entry)
            outcome = servable.add(
                path,
                name=name + suffix,
                hints=hints,
                trust=trust,
                tolerance=tolerance,
                deploy=True,
                home=home,
            )
            assert outcome.serving in (("trained",) if suffix else COMPILED), outcome.variants
    # Loaded when they are first called, so that a busy machine does not load all of them at once.
    with running_server(home, "--memory", "64GiB", "--request-timeout", "300") as url:
        for name, (_, _, module) in forms.items():
            wanted = expected(module)
            for suffix in ("", "-trained") if name in ("program", "weights") else ("",):
                body = over_http(url, name + suffix, [{"x": row} for row in ROWS.tolist()])
                assert body["predictions"] == [made.LABELS[best] for best in wanted.argmax(1)]
                shares = [[row[label] for label in made.LABELS] for row in body["probabilities"]]
                np.testing.assert_allclose(shares, wanted, atol=1e-5)
                found = over_grpc(url, name + suffix, {"x": ROWS}, "probabilities")
                np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_a_server_of_the_compiled_form_has_no_pytorch_in_memory(tmp_path: Path, home: Path) -> None:
    path, hints = made.program(tmp_path / "a.pt2"), Hints(labels=made.LABELS)
    servable.add(path, name="net", hints=hints, deploy=True, home=home)
    with running_server(home) as url:
        over_http(url, "net", [{"x": ROWS[0].tolist()}])
        maps = maps_of(url)
        assert maps
        assert not any("libtorch" in held for held in maps.values())
    servable.add(path, name="net", hints=hints, tolerance=-1.0, deploy=True, home=home)
    with running_server(home) as url:
        over_http(url, "net", [{"x": ROWS[0].tolist()}])
        held = maps_of(url)
        # As trained it runs in a process of its own, and the server itself stays without it.
        assert sum("libtorch" in each for each in held.values()) == 1


@pytest.mark.parametrize("form", ["program", "script", "weights", "safetensors"])
def test_the_seam_is_kept(tmp_path: Path, form: str) -> None:
    path, hints, _ = every_form(tmp_path)[form]
    folder = tmp_path / "work"
    folder.mkdir()
    specimen = Specimen(path, {"x": ROWS.copy()}, executes=bool(hints.entry), hints=hints)
    check_adapter(adapter("torch"), specimen, folder)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_program_of_a_fixed_batch_takes_any_number_of_rows(tmp_path: Path, home: Path, rows: int) -> None:
    path = made.program(tmp_path / "a.pt2", rows=rows)
    outcome = servable.add(path, name="net", hints=Hints(labels=made.LABELS), home=home)
    assert outcome.serving in COMPILED
    package = open_package(Path(outcome.package))
    for variant in package.manifest.variants:
        loaded = adapter(variant.format).load(package.folder, variant, package.signature, trust=False)
        found = loaded.predict({"x": ROWS})["probabilities"]
        np.testing.assert_allclose(found, expected(made.net()), atol=1e-5)


def test_columns_of_numbers_become_the_matrix_of_a_network(tmp_path: Path, home: Path) -> None:
    columns = tuple(Field(name=name, kind="number", dtype="float64") for name in "abcd")
    hints = Hints(inputs=columns, labels=made.LABELS)
    outcome = servable.add(made.program(tmp_path / "a.pt2"), name="net", hints=hints, home=home)
    assert outcome.inputs == ("a", "b", "c", "d")
    assert outcome.serving in COMPILED


class Two(torch.nn.Module):
    """Two tensors in, a dict out."""

    def forward(self, words: Any, scale: Any) -> dict[str, Any]:
        return {"sum": words.sum(1) * scale[:, 0], "twice": words * 2}


def test_several_tensors_keep_their_names_and_free_axes(tmp_path: Path, home: Path) -> None:
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    given = (torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 1))
    shapes = ({0: batch, 1: length}, {0: batch})
    path = tmp_path / "two.pt2"
    torch.export.save(torch.export.export(Two(), given, dynamic_shapes=shapes), path)
    outcome = servable.add(path, name="two", home=home)
    signature = open_package(Path(outcome.package)).signature
    assert [(f.name, f.dtype, f.shape) for f in signature.inputs] == [
        ("words", "int64", (-1,)),
        ("scale", "float32", (1,)),
    ]
    assert [(f.name, f.shape) for f in signature.outputs] == [("sum", ()), ("twice", (-1,))]
    assert outcome.serving in COMPILED


@pytest.mark.parametrize(
    ("labels", "scores", "wanted"),
    [
        (("no", "yes"), "", lambda raw: raw),
        (("no", "yes"), "logits", lambda raw: 1 / (1 + np.exp(-raw))),
        (("no", "yes"), "probabilities", lambda raw: raw),
    ],
)
def test_one_score_for_two_classes(tmp_path: Path, labels: Any, scores: Any, wanted: Any) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Sigmoid()).eval()
    path = made.program(tmp_path / "one.pt2", module)
    trained = adapter("torch").read(path, sample=None, trust=False, hints=Hints(labels=labels, scores=scores))
    found = adapter("torch").wrap(trained).predict({"input": ROWS})
    with torch.inference_mode():
        raw = module(torch.from_numpy(ROWS)).numpy()[:, 0]
    np.testing.assert_allclose(found["probabilities"][:, 1], wanted(raw), atol=1e-6)


# ---------------------------------------------------------------------- what is refused


class Evil:
    """A pickle of this makes a file when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("trust", [False, True])
def test_a_pickle_that_executes_is_never_opened(tmp_path: Path, trust: bool) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    torch.save({"a": torch.zeros(2), "b": Evil(marker)}, path)
    with pytest.raises(ArtifactUntrusted, match="weights_only") as refused:
        adapter("torch").read(path, sample=None, trust=trust)
    assert any("Path" in name for name in refused.value.names)
    assert not marker.exists()


def rewritten(path: Path, change: Any) -> Path:
    """The archive with the content of its members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))
    return path


def test_a_program_that_brings_code_along_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    inputs = tmp_path / "inputs.pt"
    torch.save(((Evil(marker),), {}), inputs)
    hidden = inputs.read_bytes()

    def pickled(name: str, content: bytes) -> bytes:
        return hidden if name.endswith("sample_inputs/model.pt") else content

    def calling(name: str, content: bytes) -> bytes:
        return content.replace(b"torch.ops.aten.relu.default", b"torch.hub.load")

    def evaluated(name: str, content: bytes) -> bytes:
        call = f"__import__('pathlib').Path({str(marker)!r}).touch()"
        text = b"Symbol('s77', positive=True, integer=True)"
        if name.endswith("models/model.json"):
            held = msgspec.json.decode(content)
            sizes = held["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
            assert "Symbol" in sizes[0]["as_expr"]["expr_str"], text
            sizes[0]["as_expr"]["expr_str"] = call
            return msgspec.json.encode(held)
        return content

    for change, said in ((pickled, "Path"), (calling, "torch.hub.load"), (evaluated, "__import__")):
        path = rewritten(made.program(tmp_path / "evil.pt2"), change)
        with pytest.raises(ArtifactUntrusted) as refused:
            adapter("torch").read(path, sample=None, trust=False)
        assert said in refused.value.message
        assert not marker.exists()


def test_a_script_that_writes_files_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "written"

    def saving(name: str, content: bytes) -> bytes:
        if name.endswith("code/__torch__/all/torch_models.py"):
            return content.replace(b"    body = self.body\n", f"    torch.save(x, '{target}')\n".encode(), 1)
        return content

    path = rewritten(made.script(tmp_path / "evil.pt"), saving)
    with zipfile.ZipFile(path) as archive:
        assert any(b"torch.save" in archive.read(name) for name in archive.namelist())
    with pytest.raises(ArtifactUntrusted, match="save"):
        adapter("torch").read(path, sample=None, trust=False, hints=Hints(inputs=(made.INPUT,)))
    assert not target.exists()


def test_a_class_is_not_executed_without_trust(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hints = made.with_class(tmp_path)
    (tmp_path / "net.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n{made.CLASS}")
    path = made.weights(tmp_path / "d.pt")
    with pytest.raises(ArtifactUntrusted, match=r"net\.py:Net"):
        adapter("torch").read(path, sample=None, trust=False, hints=hints)
    assert not marker.exists()
    adapter("torch").read(path, sample=None, trust=True, hints=hints)
    assert marker.exists()


@pytest.mark.parametrize(
    ("hints", "error", "said"),
    [
        (Hints(labels=("a", "b")), SettingInvalid, "2 labels"),
        (Hints(inputs=(Field(name="x", kind="tensor", dtype="int64", shape=(4,)),)), SettingInvalid, "int64"),
        (
            Hints(inputs=(Field(name="x", kind="tensor", dtype="float32", shape=(5,)),)),
            SettingInvalid,
            r"\[5\]",
        ),
        (Hints(inputs=(made.INPUT, made.INPUT)), SettingInvalid, "takes 1 tensors"),
        (Hints(task="clustering"), SettingInvalid, "clustering"),
    ],
)
def test_hints_that_contradict_the_model_are_refused(
    tmp_path: Path, hints: Any, error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        adapter("torch").read(made.program(tmp_path / "a.pt2"), sample=None, trust=False, hints=hints)


def test_what_lacks_something_says_what_to_give(tmp_path: Path) -> None:
    read = adapter("torch").read
    with pytest.raises(ArtifactUnsupported, match="--entry"):
        read(made.weights(tmp_path / "d.pt"), sample=None, trust=True)
    with pytest.raises(SettingInvalid, match="--describe"):
        read(made.script(tmp_path / "b.pt"), sample=None, trust=False)
    hints = made.with_class(tmp_path)
    (tmp_path / "net.py").write_text(made.CLASS.replace("8", "9"))
    with pytest.raises(SettingInvalid, match="do not fit"):
        read(made.weights(tmp_path / "d.pt"), sample=None, trust=True, hints=hints)
    torch.save(torch.zeros(3), tmp_path / "t.pt")
    with pytest.raises(ArtifactUnsupported, match="state_dict"):
        read(tmp_path / "t.pt", sample=None, trust=False)
    (tmp_path / "text.pt2").write_text("hello")
    with pytest.raises(ArtifactUnreadable):
        read(tmp_path / "text.pt2", sample=None, trust=True)


# ---------------------------------------------------------------------- devices


@pytest.mark.slow
def test_a_device_that_is_not_there_means_the_processor_and_is_said(tmp_path: Path, home: Path) -> None:
    path, hints = made.program(tmp_path / "a.pt2"), Hints(labels=made.LABELS)
    servable.add(path, name="net", hints=hints, tolerance=-1.0, home=home)
    servable.add(path, name="quick", hints=hints, home=home)
    for name in ("net", "quick"):
        servable.deploy(name, device="cuda:9", home=home)
    with running_server(home) as url:
        over_http(url, "net", [{"x": ROWS[0].tolist()}])
        shown = servable.status(home=home, url=url)
    assert shown.server is not None
    for model in shown.server.models:
        assert model.device == "cpu"
        assert "cuda:9" in model.device_reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_pytorch_computes_on_the_gpu(tmp_path: Path, device: str) -> None:
    from servable.frameworks.devices import on_device

    trained = adapter("torch").read(
        made.program(tmp_path / "a.pt2"), sample=None, trust=False, hints=Hints(labels=made.LABELS)
    )
    variant = on_device(adapter("torch").write(trained, tmp_path), device)
    loaded = adapter("torch").load(tmp_path, variant, trained.signature, trust=False)
    assert loaded.device == "cuda:0"
    np.testing.assert_allclose(loaded.predict({"x": ROWS})["probabilities"], expected(made.net()), atol=1e-3)
