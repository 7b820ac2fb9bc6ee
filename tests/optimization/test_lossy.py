"""Lossy forms: made from the model's own graph, calibrated on some rows, measured on others."""

import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from optimization import graphs
from optimization.models import trained as fitted_models
from servable.artifact.loss import Loss, MaxLoss
from servable.artifact.manifest import Proof, Timing, Variant
from servable.frameworks import sklearn
from servable.frameworks.base import MIXES, Trained
from servable.frameworks.frame import pack
from servable.frameworks.lookup import adapter
from servable.optimization import quantized
from servable.optimization.choose import Optimised, fastest, optimise
from servable.optimization.forms import FP16, INT8_DYNAMIC, INT8_STATIC
from servable.optimization.graph import Unconvertible
from servable.optimization.lossy import EXACT_ONLY, WithinLoss, source_of, split
from servable.optimization.measure import typical
from servable.optimization.single import single, weight_count
from servable.tensors import PREDICTION
from servable.training.loss import gate

LEARNED = 900


class Digits(NamedTuple):
    trained: Trained
    rows: dict[str, NDArray[Any]]
    truth: NDArray[np.int64]


@pytest.fixture(scope="module")
def digits() -> Digits:
    """A network over the pixels of digits, and rows that it never saw."""
    pixels, truth = load_digits(return_X_y=True)
    frame = pd.DataFrame(pixels, columns=[f"p{place}" for place in range(64)])
    order = np.random.default_rng(0).permutation(len(frame))
    frame, truth = frame.iloc[order].reset_index(drop=True), truth[order].astype(np.int64)
    model = make_pipeline(StandardScaler(), MLPClassifier((256, 256), max_iter=12, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame[:LEARNED], truth[:LEARNED])
    trained = sklearn.ADAPTER.take(model, sample=frame[:LEARNED])
    return Digits(trained, pack(frame[LEARNED:], trained.signature), truth[LEARNED:])


def within(
    truth: NDArray[Any], most: float, metric: str = "accuracy", seen: list[Any] | None = None
) -> WithinLoss:
    """The gate over rows with this truth; tells ``seen`` which rows were measured."""

    def judge(places: Any, trained: Any, variant: Any) -> Loss:
        if seen is not None:
            seen.append(places)
        return gate(MaxLoss(metric, most), truth[places], trained, variant, classes=10)

    return WithinLoss(judge, len(truth))


def tried(digits: Digits, folder: Path, lossy: Any) -> Optimised:
    return optimise(digits.trained, digits.rows, folder, batches=(1, 32), lossy=lossy)


def named(found: Optimised) -> dict[str, Variant]:
    return {variant.name: variant for variant in (*found.variants, *found.refused)}


def test_int8_forms_that_lose_little_enough_pass_and_one_serves(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which form is faster depends on the machine.
    monkeypatch.setattr("servable.optimization.lossy.WORTH_LOSS", 0.0)
    monkeypatch.setattr("servable.optimization.choose.WORTH_LOSS", 0.0)
    found = tried(digits, tmp_path, within(digits.truth, 0.03))
    forms = named(found)
    for name in (INT8_DYNAMIC, INT8_STATIC, FP16):
        loss = forms[name].proof.loss
        assert loss.passed, forms[name].note
        assert loss.loss <= 0.03
        assert loss.rows == len(split(len(digits.truth)).measured)
        assert loss.trained > 0.9
    assert found.serving in (INT8_STATIC, FP16, INT8_DYNAMIC)
    assert forms[INT8_DYNAMIC].options[MIXES]
    assert MIXES not in forms[INT8_STATIC].options
    chosen = forms[found.serving]
    model = adapter("onnx").load(tmp_path, chosen, digits.trained.signature, trust=False)
    expected = adapter("sklearn").wrap(digits.trained).predict(digits.rows)[PREDICTION]
    right, before = (
        float((given == digits.truth).mean()) for given in (model.predict(digits.rows)[PREDICTION], expected)
    )
    assert right >= before - 0.03
    kinds = {node.op_type for node in onnx.load(tmp_path / "variants" / f"{INT8_STATIC}.onnx").graph.node}
    assert "QuantizeLinear" in kinds
    assert (tmp_path / "variants" / f"{INT8_STATIC}.onnx").stat().st_size < 200_000


def test_a_form_that_loses_too_much_is_refused_with_both_values(digits: Digits, tmp_path: Path) -> None:
    # Where the trained model is always right, another label is always a loss, and seven bits change some.
    truth = adapter("sklearn").wrap(digits.trained).predict(digits.rows)[PREDICTION]
    found = tried(digits, tmp_path, within(truth, 0.0))
    refused = {variant.name: variant for variant in found.refused}
    failed = [variant for variant in refused.values() if not variant.proof.loss.passed]
    assert {INT8_DYNAMIC, INT8_STATIC} & {variant.name for variant in failed}
    assert found.serving not in refused
    for variant in failed:
        loss = variant.proof.loss
        assert loss.trained == 1.0 > loss.variant
        assert variant.note.startswith("refused: accuracy gets worse by ")
        assert f"{loss.variant:.4f} instead of 1.0000" in variant.note
        assert not (tmp_path / "variants" / f"{variant.name}.onnx").exists()


def test_without_a_limit_nothing_lossy_is_made(digits: Digits, tmp_path: Path) -> None:
    found = tried(digits, tmp_path, EXACT_ONLY)
    assert not [name for name in named(found) if "int8" in name or "fp16" in name]
    files = sorted(path.name for path in (tmp_path / "variants").iterdir())
    assert files == ["onnx-fp32.onnx", "onnx-fp64.onnx"]


def test_no_row_is_calibrated_on_and_measured(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated: list[Any] = []
    make = quantized.forms

    def spied(base: Path, package: Path, source: Variant, calibration: Any) -> Any:
        calibrated.append(calibration)
        return make(base, package, source, calibration)

    monkeypatch.setattr(quantized, "forms", spied)
    # The number of a row stands in a column that no picture uses.
    rows = {name: array.copy() for name, array in digits.rows.items()}
    rows["numbers"][:, 0] = np.arange(len(digits.truth))
    measured: list[Any] = []
    tried(digits._replace(rows=rows), tmp_path, within(digits.truth, 1.0, seen=measured))
    (calibration,) = calibrated
    ids = calibration["numbers"][:, 0].astype(int)
    assert len(ids) == min(200, len(digits.truth) // 5)
    assert len(measured) >= 3
    for places in measured:
        assert not set(ids) & set(places)
        assert len(ids) + len(places) == len(digits.truth)


@given(st.integers(0, 5000), st.integers(0, 100))
def test_rows_are_split_into_two_that_share_none(rows: int, seed: int) -> None:
    parts = split(rows, seed)
    assert sorted([*parts.calibration, *parts.measured]) == list(range(rows))
    assert len(parts.calibration) <= min(200, rows / 5)
    assert all(np.array_equal(one, other) for one, other in zip(parts, split(rows, seed), strict=True))


@pytest.mark.parametrize(("name", "words"), [("light", "0 weights"), ("logistic-three", "weights")])
def test_trees_and_small_linear_models_have_nothing_to_gain(name: str, words: str, tmp_path: Path) -> None:
    model, given = fitted_models(name)
    truth = np.zeros(len(given.two), dtype=np.int64)
    found = optimise(model, given.arrays, tmp_path, batches=(1,), lossy=within(truth, 1.0))
    (note,) = [note for note in found.notes if note.startswith("lossy forms")]
    assert words in note
    assert "gains nothing" in note


def test_a_model_without_a_form_in_onnx_says_so(tmp_path: Path) -> None:
    given = fitted_models("logistic-three")[1]
    model = Trained(_Echo(), fitted_models("logistic-three")[0].signature, {}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("servable.optimization.choose.adapter", lambda name: _Adapter())
        held = Variant(name="trained", format="python", path="")
        found = optimise(
            model, given.arrays, tmp_path, fallback=held, batches=(1,), lossy=within(given.two, 1.0)
        )
    assert found.notes == (
        "lossy forms: not made, because the model has no form in ONNX that was proven equal.",
    )


@pytest.mark.parametrize(
    ("formats", "words"),
    [
        ({"trained": "recurrent", "text-fp32": "text"}, "a GRU, which onnxruntime computes in float32 only"),
        ({"trained": "recurrent"}, "a GRU, which onnxruntime computes in float32 only"),
        ({"trained": "sklearn", "text": "text"}, "what is equal is in the form 'text'"),
    ],
)
def test_forms_that_are_no_graph_say_why_nothing_is_made_of_them(formats: dict[str, str], words: str) -> None:
    with pytest.raises(Unconvertible, match=words):
        source_of([Variant(name=name, format=kind, path="") for name, kind in formats.items()])


class _Echo:
    concurrent = True

    def predict(self, arrays: Any) -> dict[str, Any]:
        return {PREDICTION: np.zeros(len(arrays["numbers"]), dtype=np.int64)}

    def close(self) -> None:
        """Nothing is held."""


class _Adapter:
    def wrap(self, trained: Trained) -> Any:
        return trained.model


def form(name: str, small: float, large: float, *, passed: bool | None = None, equal: bool = True) -> Variant:
    loss = None if passed is None else Loss(metric="accuracy", rows=100, passed=passed)
    proof = None if name == "trained" else Proof(equal=equal, rows=1, loss=loss)
    return Variant(
        name=name,
        format="onnx",
        path="",
        options={MIXES: True} if name == INT8_DYNAMIC else {},
        timings=(Timing(1, small), Timing(32, large)),
        proof=proof,
    )


def test_a_lossy_form_serves_only_when_it_passed_and_is_clearly_faster() -> None:
    slow, exact = form("trained", 9, 9), form("onnx-fp32", 1, 2)
    assert fastest([slow, exact, form(INT8_STATIC, 0.5, 1, passed=True, equal=False)]) == INT8_STATIC
    assert fastest([slow, exact, form(INT8_STATIC, 0.5, 1, passed=False, equal=False)]) == "onnx-fp32"
    assert fastest([slow, exact, form(INT8_STATIC, 0.95, 1.9, passed=True)]) == "onnx-fp32"
    assert fastest([slow, form("onnx-fp64", 1, 2), form(FP16, 0.85, 1.7, passed=True)]) == "onnx-fp64"


def test_scales_found_at_each_run_are_never_shared_so_a_batch_counts_as_single_rows() -> None:
    assert typical(form(INT8_DYNAMIC, 1, 2)) == pytest.approx(np.sqrt(32))
    assert typical(form(INT8_STATIC, 1, 2)) == pytest.approx(np.sqrt(2))
    assert typical(Variant(name="onnx-fp32", format="onnx", path="")) == np.inf


def test_a_form_that_is_not_faster_is_not_kept(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servable.optimization.lossy.WORTH_LOSS", 1e9)
    found = tried(digits, tmp_path, within(digits.truth, 0.03))
    assert found.serving in ("onnx-fp32", "onnx-fp64")
    assert {variant.name for variant in found.refused} == {INT8_DYNAMIC, INT8_STATIC, FP16}
    assert all("not kept: as served, it is not" in variant.note for variant in found.refused)
    assert all(variant.proof.loss.passed for variant in found.refused)
    files = sorted(path.name for path in (tmp_path / "variants").iterdir())
    assert files == ["onnx-fp32.onnx", "onnx-fp64.onnx"]


def doubles(tail: str = "") -> Any:
    """A scaler in double and a product with 40 x 40 weights; with ``tail`` an operator behind it."""
    random = np.random.default_rng(0)
    weights = {"mean": random.normal(size=40), "w": random.normal(size=(40, 40)), "b": random.normal(size=40)}
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"] if not tail else ["positive"]),
    ]
    if tail:
        nodes.append(helper.make_node(tail, ["positive"], ["y"], domain="ai.onnx.ml"))
    graph = helper.make_graph(
        nodes,
        "doubles",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", 40])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["rows", 40])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_only_what_stands_behind_the_weights_becomes_single() -> None:
    model = doubles()
    assert weight_count(model) == 1600
    made = single(model)
    onnx.checker.check_model(made, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert types == {"mean": TensorProto.DOUBLE, "w_single": TensorProto.FLOAT, "b_single": TensorProto.FLOAT}
    runs = [onnx.reference.ReferenceEvaluator(each) for each in (model, made)]
    # A large offset, as dates have it, is taken off before anything is rounded.
    rows = np.random.default_rng(1).normal(size=(5, 40))
    one, other = (run.run(None, {"x": rows})[0] for run in runs)
    assert one.dtype == other.dtype == np.float64
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert np.abs(one - other).max() > 0
    assert single(made) is made


def test_what_knows_no_single_precision_is_said() -> None:
    with pytest.raises(Unconvertible, match="Normalizer"):
        single(doubles("Normalizer"))


def convolution(folder: Path, *, external: bool) -> tuple[Variant, dict[str, Any]]:
    """A convolutional network in ONNX as a variant of a package, and rows for it."""
    path = graphs.convolution(folder / "net.onnx", channels=16)
    if external:
        onnx.save_model(
            onnx.load(path),
            folder / "model.onnx",
            save_as_external_data=True,
            location="weights.bin",
            size_threshold=0,
        )
        path.unlink()
    else:
        shutil.move(path, folder / "model.onnx")
    options = {
        "feeds": [{"input": "image", "source": "image", "dtype": "asis"}],
        "outputs": {"prediction": {"output": "scores", "form": "argmax"}},
    }
    rows = np.random.default_rng(0).normal(size=(40, 16, 8, 8)).astype(np.float32)
    return Variant(name="trained", format="onnx", path="model.onnx", options=options), {"image": rows}


@pytest.mark.parametrize("external", [False, True])
def test_convolutions_are_quantised_also_with_weights_in_a_file_beside_them(
    tmp_path: Path, external: bool
) -> None:
    package, work, made = tmp_path / "package", tmp_path / "work", tmp_path / "made"
    for folder in (package, work, made / "variants"):
        folder.mkdir(parents=True)
    source, rows = convolution(package, external=external)
    assert (package / "weights.bin").exists() == external
    base = quantized.prepared(package, source, work)
    variants = {each.name: each.make(made) for each in quantized.forms(base, package, source, rows)}
    assert set(variants) == {INT8_DYNAMIC, INT8_STATIC, FP16}
    assert all(each.lossy for each in quantized.forms(base, package, source, rows))
    signature = fitted_models("logistic-three")[0].signature
    whole = adapter("onnx").load(package, source, signature, trust=False).predict(rows)["prediction"]
    for variant in variants.values():
        given = adapter("onnx").load(made, variant, signature, trust=False).predict(rows)["prediction"]
        assert (given == whole).mean() > 0.8, variant.name
    size = {name: (made / each.path).stat().st_size for name, each in variants.items()}
    assert size[INT8_STATIC] < size[FP16] < 4 * 2 * 16 * 16 * 9


def test_operators_that_have_no_int8_are_named(tmp_path: Path) -> None:
    package, work, made = tmp_path / "package", tmp_path / "work", tmp_path / "made"
    for folder in (package, work, made / "variants"):
        folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sizes = {"w": (1, 48, 16), "r": (1, 48, 16)}
    graph = helper.make_graph(
        [helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=16)],
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", "rows", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["steps", 1, "rows", 16])],
        [
            numpy_helper.from_array(random.normal(size=size).astype(np.float32), name)
            for name, size in sizes.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, package / "model.onnx")
    source = Variant(
        name="trained",
        format="onnx",
        path="model.onnx",
        options={
            "feeds": [{"input": "x", "source": "x", "dtype": "asis"}],
            "outputs": {"y": {"output": "y", "form": "plain"}},
        },
    )
    base = quantized.prepared(package, source, work)
    rows = {"x": random.normal(size=(4, 3, 16)).astype(np.float32)}
    forms = {each.name: each for each in quantized.forms(base, package, source, rows)}
    for name in (INT8_DYNAMIC, INT8_STATIC):
        with pytest.raises(Unconvertible, match="GRU"):
            forms[name].make(made)


def test_linear_models_of_many_columns_may_gain(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(300, 200)), columns=[f"c{place}" for place in range(200)])
    truth = random.integers(0, 10, 300)
    model = LogisticRegression(max_iter=50).fit(frame, truth)
    trained = sklearn.ADAPTER.take(model, sample=frame)
    found = optimise(
        trained, pack(frame, trained.signature), tmp_path, batches=(1, 32), lossy=within(truth, 1.0)
    )
    assert INT8_STATIC in named(found), found.notes
