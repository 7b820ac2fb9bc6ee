"""Models of scikit-learn, MLflow and ONNX from elsewhere behind a real server, over HTTP and gRPC."""

import importlib
import pickle
import warnings
from collections.abc import Iterator
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
from e2e.conftest import running_server

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


MODELS = {"pipeline": a_pipeline, "flower": an_mlflow_folder, "network": a_graph_with_weights_beside_it}


class Served(NamedTuple):
    """A server of all models, each in both forms.

    Attributes:
        url: its address.
        wanted: what each answers.
    """

    url: str
    wanted: dict[str, Wanted]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("foreign")
    home, wanted = folder / "home", {}
    for name, make in MODELS.items():
        (folder / name).mkdir()
        given = make(folder / name)
        wanted[name] = given.wanted
        for form in ("compiled", "trained"):
            outcome = servable.add(
                given.path,
                name=f"{name}-{form}",
                sample=pd.DataFrame(ROWS),
                home=home,
                trust=True,
                deploy=True,
            )
            assert outcome.serving.startswith("onnx") or outcome.framework == "onnx"
        let_the_trained_form_serve(home, f"{name}-trained")
    with running_server(home) as url:
        yield Served(url, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["compiled", "trained"])
@pytest.mark.parametrize("name", MODELS)
def test_both_forms_answer_as_the_library_does(served: Served, name: str, form: str) -> None:
    columns = {column: ASKED[column].to_numpy() for column in ASKED}
    check_served(served.url, f"{name}-{form}", columns, served.wanted[name], 1e-6)
