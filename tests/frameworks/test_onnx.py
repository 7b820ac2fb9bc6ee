import json
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import skl2onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from servable.artifact.manifest import Variant
from servable.errors import ArtifactError, ArtifactUnreadable, DataError, ModelFailed
from servable.frameworks.frame import pack
from servable.frameworks.onnx import ADAPTER, OnnxPredictor, open_session

IRIS = load_iris()


def exported(path, model, types, **options):
    with warnings.catch_warnings():
        # The converter's own use of deprecated names is not ours to mend.
        warnings.simplefilter("ignore")
        made = skl2onnx.to_onnx(model, initial_types=types, target_opset=18, **options)
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("names", [["a", "b", "c"], [10, 20, 30]])
def test_a_foreign_classifier_gives_class_indexes_and_probabilities(tmp_path, zipmap, names):
    model = LogisticRegression(max_iter=500).fit(IRIS.data, np.array(names)[IRIS.target])
    options = {"options": {id(model): {"zipmap": zipmap}}}
    path = exported(tmp_path / "m.onnx", model, [("x", FloatTensorType([None, 4]))], **options)
    sample = pd.DataFrame(IRIS.data, columns=["sl", "sw", "pl", "pw"])

    bare = ADAPTER.read(path, sample=None, trust=False)
    assert bare.signature.classes == tuple(names)
    assert [(field.name, field.kind, field.shape) for field in bare.signature.inputs] == [
        ("x", "tensor", (4,))
    ]
    named = ADAPTER.read(path, sample=sample, trust=False)
    assert [field.name for field in named.signature.inputs] == ["sl", "sw", "pl", "pw"]
    assert named.signature.example["sl"] == 5.1

    package = tmp_path / "package"
    package.mkdir()
    variant = ADAPTER.write(named, package)
    predictor = ADAPTER.load(package, variant, named.signature, trust=False)
    for reader, arrays in (
        (predictor, pack(sample, named.signature)),
        (ADAPTER.wrap(bare), {"x": IRIS.data.astype(np.float32)}),
    ):
        answer = reader.predict(arrays)
        expected = model.predict(IRIS.data.astype(np.float32))
        assert [names[place] for place in answer["prediction"]] == expected.tolist()
        assert np.allclose(answer["probabilities"], model.predict_proba(IRIS.data), atol=1e-5)
    predictor.close()
    with pytest.raises(ModelFailed):
        predictor.predict(arrays)


def test_one_input_for_each_column_is_a_table(tmp_path):
    frame = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "town": ["a", "b", "a", "b"]})
    prepare = ColumnTransformer([("n", "passthrough", ["age"]), ("c", OneHotEncoder(), ["town"])])
    model = make_pipeline(prepare, LinearRegression()).fit(frame, [1.0, 2.0, 3.0, 4.0])
    types = [("age", FloatTensorType([None, 1])), ("town", StringTensorType([None, 1]))]
    path = exported(tmp_path / "m.onnx", model, types)
    trained = ADAPTER.read(path, sample=frame, trust=False)
    assert [(f.name, f.kind) for f in trained.signature.inputs] == [("age", "number"), ("town", "category")]
    assert trained.signature.task == "regression"
    answer = ADAPTER.wrap(trained).predict(pack(frame, trained.signature))
    assert np.allclose(answer["prediction"], model.predict(frame), atol=1e-4)
    with pytest.raises(DataError, match="no column 'town'"):
        ADAPTER.read(path, sample=frame[["age"]], trust=False)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x07\x12\x04junk"])
def test_damaged_files_are_unreadable(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactUnreadable):
        ADAPTER.read(path, sample=None, trust=False)


def scaled(path, location=None):
    """``y = x * w``, w kept in another file when a location is given."""
    weights = numpy_helper.from_array(np.array([2.0, 3.0], dtype=np.float32), "w")
    if location is not None:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", location
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_truncated_file_is_unreadable_and_a_whole_one_is_a_transform(tmp_path):
    path = scaled(tmp_path / "m.onnx")
    trained = ADAPTER.read(path, sample=None, trust=False)
    assert trained.signature.task == "transform"
    answer = ADAPTER.wrap(trained).predict({"x": np.ones((1, 2), dtype=np.float32)})
    assert answer["y"].tolist() == [[2.0, 3.0]]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ArtifactError):
        ADAPTER.read(path, sample=None, trust=False)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "absent.bin", "link.bin"])
def test_tensors_outside_the_folder_are_refused(tmp_path, location):
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactUnreadable, match="same folder"):
        ADAPTER.read(scaled(tmp_path / "m.onnx", location), sample=None, trust=False)


def test_tensors_beside_the_model_are_taken_along(tmp_path):
    (tmp_path / "w.bin").write_bytes(np.array([2.0, 3.0], dtype=np.float32).tobytes())
    trained = ADAPTER.read(scaled(tmp_path / "m.onnx", "w.bin"), sample=None, trust=False)
    package = tmp_path / "package"
    package.mkdir()
    variant = ADAPTER.write(trained, package)
    answer = ADAPTER.load(package, variant, trained.signature, trust=False).predict(
        {"x": np.ones((1, 2), dtype=np.float32)}
    )
    assert answer["y"].tolist() == [[2.0, 3.0]]


def test_a_failing_run_is_said_without_the_rows(tmp_path):
    trained = ADAPTER.read(scaled(tmp_path / "m.onnx"), sample=None, trust=False)
    with pytest.raises(ModelFailed) as caught:
        ADAPTER.wrap(trained).predict({"x": np.full((1, 5), 12345.0, dtype=np.float32)})
    assert "12345" not in caught.value.message


def test_damaged_options_are_said_so(tmp_path):
    scaled(tmp_path / "m.onnx")
    trained = ADAPTER.read(tmp_path / "m.onnx", sample=None, trust=False)
    with pytest.raises(ArtifactUnreadable, match="options"):
        ADAPTER.load(
            tmp_path, Variant(name="v", format="onnx", path="m.onnx"), trained.signature, trust=False
        )


def test_nothing_heavy_is_imported():
    code = (
        "import sys, json; import servable.frameworks.onnx; heavy = ('pandas', 'sklearn', 'onnx'); "
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_session_is_single_threaded(tmp_path):
    options = open_session(scaled(tmp_path / "m.onnx")).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


#: One output of a graph, from which two answers are read.
TWICE = {
    "feeds": [{"input": "x", "source": "x", "dtype": "asis"}],
    "outputs": {
        "prediction": {"output": "scores", "form": "argmax"},
        "probabilities": {"output": "scores"},
    },
}


class Session:
    """A session by its public names alone, which notes what it is asked for."""

    def __init__(self, *providers):
        self._providers = list(providers)
        self.asked = []

    def get_providers(self):
        return self._providers

    def get_provider_options(self):
        return {name: {} for name in self._providers}

    def run(self, names, feed, options):
        self.asked.append(names)
        return [feed["x"] for _ in names]


@pytest.mark.parametrize(
    "providers",
    [("CPUExecutionProvider",), ("CUDAExecutionProvider", "CPUExecutionProvider")],
)
def test_a_session_needs_its_public_names_only_and_each_output_is_asked_for_once(providers):
    session = Session(*providers)
    answer = OnnxPredictor(session, TWICE).predict({"x": np.array([[0.1, 0.9], [0.8, 0.2]])})
    assert answer["prediction"].tolist() == [1, 0]
    assert answer["probabilities"].tolist() == [[0.1, 0.9], [0.8, 0.2]]
    assert session.asked == [["scores"]]


def test_many_threads_run_one_session_with_the_same_options(tmp_path):
    model = LogisticRegression(max_iter=500).fit(IRIS.data, IRIS.target)
    path = exported(tmp_path / "m.onnx", model, [("x", FloatTensorType([None, 4]))])
    predictor = ADAPTER.wrap(ADAPTER.read(path, sample=None, trust=False))
    rows = IRIS.data.astype(np.float32)
    alone = predictor.predict({"x": rows})["probabilities"]

    def asked(place):
        return predictor.predict({"x": rows[place : place + 3]})["probabilities"]

    places = list(range(len(rows) - 3)) * 8
    with ThreadPoolExecutor(8) as threads:
        for place, found in zip(places, threads.map(asked, places), strict=True):
            np.testing.assert_allclose(found, alone[place : place + 3], rtol=1e-5)
