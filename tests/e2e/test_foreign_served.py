"""Models of scikit-learn, MLflow and ONNX from elsewhere behind a real server, over HTTP and gRPC."""

import importlib
import pickle
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import skl2onnx
from onnx import numpy_helper
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable
from e2e.asking import Wanted, check_served, let_the_trained_form_serve
from e2e.conftest import Serve

ROWS, TARGET = load_iris(return_X_y=True, as_frame=True)
#: One row for each class, and one in between.
ASKED = ROWS.iloc[[0, 60, 120, 77]]


class Given(NamedTuple):
    """A model as somebody else left it, and what its own library answers to ``ASKED``."""

    path: Path
    wanted: Wanted


def a_pipeline(folder: Path) -> Given:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(ROWS, TARGET)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    return Given(folder / "model.pkl", Wanted(model.predict(ASKED).tolist(), model.predict_proba(ASKED)))


def an_mlflow_folder(folder: Path) -> Given:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(ROWS, TARGET)
    with warnings.catch_warnings():
        # MLflow's own warnings are not ours to mend.
        warnings.simplefilter("ignore")
        signature = importlib.import_module("mlflow.models").infer_signature(ROWS, model.predict(ROWS))
        importlib.import_module("mlflow.sklearn").save_model(
            model, str(folder / "flower"), signature=signature, pip_requirements=["numpy"]
        )
    return Given(folder / "flower", Wanted(model.predict(ASKED).tolist(), model.predict_proba(ASKED)))


def a_graph_with_weights_beside_it(folder: Path) -> Given:
    model = MLPClassifier((64,), max_iter=60, random_state=0)
    with warnings.catch_warnings():
        # It need not learn to its end, and the converter uses deprecated names.
        warnings.simplefilter("ignore")
        model.fit(ROWS.to_numpy(), TARGET)
        made: Any = skl2onnx.to_onnx(
            model,
            initial_types=[("x", FloatTensorType([None, 4]))],
            target_opset=18,
            options={id(model): {"zipmap": False}},
        )
    for held in made.graph.initializer:
        # Only tensors that are held as bytes can be written beside the graph.
        held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held), held.name))
    path = folder / "network.onnx"
    onnx.save(made, path, save_as_external_data=True, location="network.bin", size_threshold=64)
    assert (folder / "network.bin").stat().st_size > 64 * 4 * 4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    labels, shares = session.run(None, {"x": ASKED.to_numpy(dtype=np.float32)})
    return Given(path, Wanted(labels.tolist(), shares))


@pytest.mark.slow
@pytest.mark.parametrize("make", [a_pipeline, an_mlflow_folder, a_graph_with_weights_beside_it])
def test_both_forms_answer_as_the_library_does(make: Any, tmp_path: Path, home: Path, serve: Serve) -> None:
    given = make(tmp_path)
    sample = pd.DataFrame(ROWS)
    for name in ("compiled", "trained"):
        outcome = servable.add(given.path, name=name, sample=sample, home=home, trust=True, deploy=True)
        assert outcome.serving.startswith("onnx") or outcome.framework == "onnx"
    let_the_trained_form_serve(home, "trained")
    url = serve(home)
    columns = {name: ASKED[name].to_numpy() for name in ASKED}
    for name in ("compiled", "trained"):
        check_served(url, name, columns, given.wanted, 1e-6)
