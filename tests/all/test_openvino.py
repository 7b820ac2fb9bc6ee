"""Compiled networks on OpenVINO: equal to ONNX, safe for many callers, and served."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("openvino", reason="needs the extra openvino; make test-all has it")
torch = pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")

import msgspec
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import servable
from all import folders
from all.wire import maps_of, over_grpc, over_http
from e2e.conftest import running_server
from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import Package, open_package
from servable.errors import ArtifactTampered, ArtifactUnreadable, ArtifactUnsupported, ModelFailed
from servable.frameworks.base import MADE_FROM, Hints, Predictor
from servable.frameworks.lookup import adapter
from servable.frameworks.openvino import GRAPH_FILE, PRECISION, WEIGHTS_FILE, Requests, compiled
from servable.optimization.derived import derived
from servable.optimization.forms import FOLDER, Form
from servable.optimization.openvino_forms import EXACT, ROUNDED
from servable.registry.home import open_home, republish
from servable.tensors import STRINGS, Arrays
from servable.testing import check_form

pytestmark = pytest.mark.frameworks

CALLERS = 8
SHAPES = {"pictures": (1, 12, 12), "table": (6,)}
LABELS = ("ham", "eggs", "spam")


def network(kind: str) -> nn.Module:
    """A small network with weights from a seed."""
    torch.manual_seed(0)
    if kind == "table":
        return nn.Sequential(
            nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)
        ).eval()
    body = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(8 * 36, 3)).eval()


def rows_of(kind: str, count: int = 12) -> Arrays:
    """Rows that differ from each other."""
    return {"x": np.random.default_rng(0).normal(size=(count, *SHAPES[kind])).astype(np.float32)}


def saved(kind: str, folder: Path) -> Path:
    """The network as an exported program whose input is called x."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network(kind)

        def forward(self, x: Any) -> Any:
            return self.body(x)

    path, given = folder / f"{kind}.pt2", torch.zeros(2, *SHAPES[kind])
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Named().eval(), (given,), dynamic_shapes=shapes), path)
    return path


def added(kind: str, folder: Path, home: Path) -> Package:
    """The network in a package."""
    outcome = servable.add(saved(kind, folder), name=kind, hints=Hints(labels=LABELS), home=home)
    return open_package(Path(outcome.package))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    """A package of each network; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("networks")
    return {kind: added(kind, folder, folder / "home") for kind in SHAPES}


def copied(package: Package, folder: Path) -> Package:
    """The same package where it may be damaged."""
    shutil.copytree(package.folder, folder / package.folder.name)
    return msgspec.structs.replace(package, folder=folder / package.folder.name)


def forms_of(package: Package) -> dict[str, Form]:
    """What can be made of the ONNX form of a package."""
    source = package.manifest.variant("onnx-fp32")
    return {form.name: form for form in derived(source, package.folder)}


def loaded(package: Package, name: str) -> Predictor:
    """A form of a package, ready to answer."""
    variant = package.manifest.variant(name)
    return adapter(variant.format).load(package.folder, variant, package.signature, trust=False)


def serve_as(home: Path, model: str, name: str) -> None:
    """Let a form serve, whichever is the fastest here."""
    with open_home(home) as place:
        record = place.models.resolve(model)
        package = place.package(record)
        with place.packages.staging() as folder:
            for entry in package.manifest.files:
                (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / entry.path).write_bytes((package.folder / entry.path).read_bytes())
            manifest = msgspec.structs.replace(package.manifest, serving=name, files=())
            republish(place, folder, manifest, record, reason="test")


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_it_is_proven_equal_and_timed_like_every_form(packages: dict[str, Package], kind: str) -> None:
    package = packages[kind]
    manifest: Manifest = package.manifest
    variant = manifest.variant(EXACT)
    assert variant.proof is not None
    assert variant.proof.equal
    assert [timing.rows for timing in variant.timings] == [1, 8, 32, 256]
    assert variant.options[PRECISION] == "f32"
    assert variant.options[MADE_FROM] == "onnx-fp32"
    held = {entry.path for entry in manifest.files if entry.path.startswith(variant.path)}
    assert held == {f"{variant.path}/{GRAPH_FILE}", f"{variant.path}/{WEIGHTS_FILE}"}
    rows = rows_of(kind)
    here, there = loaded(package, EXACT).predict(rows), loaded(package, "onnx-fp32").predict(rows)
    np.testing.assert_array_equal(here["prediction"], there["prediction"])
    np.testing.assert_allclose(here["probabilities"], there["probabilities"], atol=1e-6)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_the_seam_is_kept(tmp_path: Path, packages: dict[str, Package], kind: str) -> None:
    package = packages[kind]
    variant = package.manifest.variant(EXACT)
    folder = tmp_path / "work"
    folder.mkdir()
    check_form(adapter("openvino"), variant, package.folder, package.signature, rows_of(kind), folder)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_every_caller_gets_the_answers_to_its_own_rows(packages: dict[str, Package], kind: str) -> None:
    predictor = loaded(packages[kind], EXACT)
    assert predictor.concurrent
    rows = rows_of(kind, 64)["x"]
    expected = predictor.predict({"x": rows})["probabilities"]
    kept: list[tuple[int, int, Any]] = []

    def ask(caller: int) -> None:
        # Batches of every size, so that outputs of one run are of another shape than those of the last.
        for turn in range(60):
            start = (7 * caller + turn) % 60
            stop = start + 1 + (caller + turn) % 4
            kept.append((start, stop, predictor.predict({"x": rows[start:stop]})["probabilities"]))

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(ask, range(CALLERS)))
    assert len(kept) == CALLERS * 60
    for start, stop, answer in kept:
        # Looked at in the end, when the memory of each run was used again many times.
        np.testing.assert_allclose(answer, expected[start:stop], atol=1e-6)


def test_it_is_told_to_compute_in_single_precision(packages: dict[str, Package]) -> None:
    package = packages["pictures"]
    held = compiled(package.folder / package.manifest.variant(EXACT).path, "f32")
    assert held.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
    assert not held.get_property("ENABLE_CPU_PINNING")
    assert held.get_property("INFERENCE_NUM_THREADS") == held.get_property("NUM_STREAMS")
    assert held.get_property("NUM_STREAMS") == min(len(os.sched_getaffinity(0)), 8)


def test_the_rounded_form_is_lossy_and_nothing_decides_about_it_yet(
    tmp_path: Path, packages: dict[str, Package]
) -> None:
    package = packages["pictures"]
    assert ROUNDED not in [each.name for each in (*package.manifest.variants, *package.manifest.refused)]
    forms = forms_of(package)
    assert not forms[EXACT].lossy
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    assert forms[ROUNDED].lossy
    (tmp_path / FOLDER).mkdir()
    variant = forms[ROUNDED].make(tmp_path)
    predictor = adapter("openvino").load(tmp_path, variant, package.signature, trust=False)
    rows = rows_of("pictures")
    exact = loaded(package, EXACT).predict(rows)["probabilities"]
    difference = float(np.abs(predictor.predict(rows)["probabilities"] - exact).max())
    assert 1e-6 < difference < 0.05


def test_rows_that_do_not_fit_fail_and_the_next_are_answered(packages: dict[str, Package]) -> None:
    predictor = loaded(packages["pictures"], EXACT)
    rows = rows_of("pictures")
    before = predictor.predict(rows)["probabilities"]
    for shape in ((2, 3, 12, 12), (0, 1, 12, 12)):
        with pytest.raises(ModelFailed, match="failed on"):
            predictor.predict({"x": np.zeros(shape, np.float32)})
    # Another request may add up in another order, as its memory lies elsewhere.
    np.testing.assert_allclose(predictor.predict(rows)["probabilities"], before, rtol=1e-5, atol=1e-6)
    predictor.close()
    with pytest.raises(ModelFailed):
        predictor.predict(rows)


class BreaksOnce:
    """A compiled graph whose first making keeps failing after one bad run."""

    def __init__(self, real: ov.CompiledModel) -> None:
        self._real = real
        self.inputs, self.outputs = real.inputs, real.outputs
        self.broken = False

    def create_infer_request(self) -> Any:
        if self.broken:
            raise RuntimeError("the graph is broken")
        return self._real.create_infer_request()


def test_a_graph_that_keeps_failing_is_compiled_once_more(packages: dict[str, Package]) -> None:
    package = packages["pictures"]
    folder = package.folder / package.manifest.variant(EXACT).path
    made: list[BreaksOnce] = []

    def make() -> BreaksOnce:
        made.append(BreaksOnce(compiled(folder, "f32")))
        return made[-1]

    requests = Requests(make)
    name = made[0].outputs[0].get_any_name()
    rows = {made[0].inputs[0].get_any_name(): rows_of("pictures")["x"]}
    made[0].broken = True
    # One failure may be the rows' own fault; the next is the graph's.
    with pytest.raises(RuntimeError):
        requests.run([name], rows)
    assert len(made) == 1
    assert len(requests.run([name], rows)[0]) == len(rows_of("pictures")["x"])
    assert len(made) == 2
    requests.run([name], rows)
    assert len(made) == 2


@pytest.mark.parametrize("name", [GRAPH_FILE, WEIGHTS_FILE])
def test_a_form_without_one_of_its_files_is_refused_in_one_sentence(
    tmp_path: Path, packages: dict[str, Package], name: str
) -> None:
    package = copied(packages["table"], tmp_path)
    variant = package.manifest.variant(EXACT)
    damage(package, f"{variant.path}/{name}")
    with pytest.raises(ArtifactTampered, match=rf"{EXACT}/{name}"):
        open_package(package.folder)
    (package.folder / variant.path / name).unlink()
    with pytest.raises(ArtifactUnreadable, match=r"^The package lacks [^.]+\.xml or [^.]+\.bin of its form"):
        loaded(package, EXACT)


def damage(package: Package, path: str) -> None:
    """Turn one bit in a file of a package."""
    file = package.folder / path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "options", [{}, {"precision": "f8"}, {"precision": "f32", "outputs": 3, "feeds": []}]
)
def test_damaged_options_are_refused(packages: dict[str, Package], options: dict[str, Any]) -> None:
    package = packages["table"]
    variant = msgspec.structs.replace(package.manifest.variant(EXACT), options=options)
    with pytest.raises(ArtifactUnreadable, match="options of variant 'openvino-fp32' are damaged"):
        adapter("openvino").load(package.folder, variant, package.signature, trust=False)


def test_files_of_its_own_are_not_taken_in(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnsupported, match="add the ONNX file"):
        adapter("openvino").read(tmp_path / "model.xml", sample=None, trust=False)


def graph(*nodes: Any, path: Path, constants: dict[str, Any] | None = None) -> Variant:
    """An ONNX file that takes x of four numbers and gives y."""
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 4)]
    model = helper.make_model(made, opset_imports=domains, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return Variant(name="onnx-fp32", format="onnx", path=path.name, options={"feeds": [], "outputs": {}})


def test_only_networks_are_tried(tmp_path: Path) -> None:
    weights = np.zeros((4, 4), np.float32)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    linear = graph(product, path=tmp_path / "linear.onnx", constants={"w": weights})
    assert derived(linear, tmp_path) == ()
    trees = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.5)
    assert derived(graph(trees, path=tmp_path / "trees.onnx"), tmp_path) == ()
    first = helper.make_node("MatMul", ["x", "w"], ["h"])
    second = helper.make_node("MatMul", ["h", "w"], ["y"])
    both = graph(first, second, path=tmp_path / "both.onnx", constants={"w": weights})
    assert derived(both, tmp_path)[0].name == EXACT


def test_a_network_that_is_added_as_onnx_is_tried_too(
    tmp_path: Path, home: Path, packages: dict[str, Package]
) -> None:
    package = packages["table"]
    file = shutil.copyfile(package.folder / package.manifest.variant("onnx-fp32").path, tmp_path / "n.onnx")
    outcome = servable.add(file, name="n", hints=Hints(labels=LABELS, scores="probabilities"), home=home)
    for found in (outcome, servable.optimize("n", home=home)):
        equal = {each.name: each.equal for each in found.variants}
        assert equal["trained"] is None
        assert equal[EXACT]


def test_a_model_of_texts_keeps_its_tokenizer(tmp_path: Path, home: Path) -> None:
    folder = folders.sequence_classifier(tmp_path / "texts")
    package = open_package(Path(servable.add(folder, name="texts", home=home).package))
    texts = np.array([[text] for text in folders.PAGE], dtype=object)
    here, there = (loaded(package, name).predict({STRINGS: texts}) for name in (EXACT, "onnx-fp32"))
    np.testing.assert_array_equal(here["prediction"], there["prediction"])
    np.testing.assert_allclose(here["probabilities"], there["probabilities"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "process"])
def test_it_is_served_over_http_and_grpc(tmp_path: Path, home: Path, executor: str) -> None:
    package = added("pictures", tmp_path, home)
    rows = rows_of("pictures")["x"]
    expected = loaded(package, "onnx-fp32").predict({"x": rows})["probabilities"]
    serve_as(home, "pictures", EXACT)
    servable.deploy("pictures", executor=executor, home=home)  # type: ignore[arg-type]
    with running_server(home) as url:
        body = over_http(url, "pictures", [{"x": row} for row in rows.tolist()])
        shares = [[row[label] for label in LABELS] for row in body["probabilities"]]
        np.testing.assert_allclose(shares, expected, atol=1e-5)
        found = over_grpc(url, "pictures", {"x": rows}, "probabilities")
        np.testing.assert_allclose(found, expected, atol=1e-5)
        held = maps_of(url)
        assert sum("libopenvino_intel_cpu" in each for each in held.values()) == 1
        assert not any("libtorch" in each for each in held.values())


def test_networks_of_scikit_learn_are_read(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(300, 6)), columns=list("abcdef"))
    truth = (frame.a * frame.b + frame.c > 0).astype(int)
    network = MLPClassifier((64, 32), max_iter=30, tol=1e-2, n_iter_no_change=3, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(frame[:200], truth[:200])
    outcome = servable.add(model, name="net", sample=frame[200:], home=tmp_path / "home")
    rows = {row.name: row for row in outcome.variants}
    assert rows["onnx-fp64"].equal
    assert rows["onnx-fp32"].equal
    assert rows[EXACT].equal, rows[EXACT].note
