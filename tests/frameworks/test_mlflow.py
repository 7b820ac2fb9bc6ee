"""Model folders as MLflow writes them: handed to another adapter that reads them, else run as a pyfunc."""

import importlib
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import servable
from servable.artifact.signature import Field
from servable.engines.local import LocalServer
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, ArtifactUntrusted, SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.lookup import framework_of
from servable.frameworks.mlflow import ADAPTER
from servable.frameworks.mlflow_folder import read_folder
from servable.settings import ServerSettings
from servable.tensors import NUMBERS, PREDICTION
from servable.testing import check_adapter
from servable.testing.adapters import Specimen

LOADER = """
import pathlib

def _load_pyfunc(path):
    factor = float(pathlib.Path(path).read_text())
    pathlib.Path({marker!r}).touch()
    return Model(factor)

class Model:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, model_input, params=None):
        return self.factor * model_input.sum(axis=1).to_numpy()
"""
ROWS, TARGET = load_iris(return_X_y=True, as_frame=True)


def mlflow_part(name: str) -> Any:
    """A part of MLflow, whose own warnings at import are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"mlflow.{name}")


def save(flavour: str, folder: Path, model: Any, answers: Any, rows: Any = ROWS) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature = mlflow_part("models").infer_signature(rows, answers)
        mlflow_part(flavour).save_model(model, str(folder), signature=signature, pip_requirements=["numpy"])
    return folder


@pytest.fixture(scope="module")
def classifier() -> Any:
    return LogisticRegression(max_iter=500).fit(ROWS, TARGET)


@pytest.fixture(scope="module")
def sklearn_folder(classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("sklearn", tmp_path_factory.mktemp("saved") / "iris", classifier, classifier.predict(ROWS))


@pytest.fixture
def pyfunc(tmp_path: Path) -> Path:
    """A folder that runs code of its own, which leaves a file ``marker`` when it does."""
    name = f"loader_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(LOADER.format(marker=str(tmp_path / "marker")))
    (tmp_path / "factor").write_text("2.0")
    folder = tmp_path / "summing"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature = mlflow_part("models").infer_signature(ROWS, ROWS.sum(axis=1).to_numpy())
        mlflow_part("pyfunc").save_model(
            str(folder),
            loader_module=name,
            data_path=str(tmp_path / "factor"),
            code_paths=[str(tmp_path / f"{name}.py")],
            signature=signature,
            pip_requirements=["numpy"],
        )
    (tmp_path / "marker").unlink(missing_ok=True)
    sys.modules.pop(name, None)
    return folder


# ---------------------------------------------------------------------- handed on


def test_a_scikit_learn_model_is_one_like_any_other(
    sklearn_folder: Path, classifier: Any, tmp_path: Path
) -> None:
    assert framework_of(sklearn_folder) == "mlflow"
    outcome = servable.add(sklearn_folder, name="iris", home=tmp_path, deploy=True)
    assert (outcome.framework, outcome.task) == ("sklearn", "classification")
    assert outcome.inputs == tuple(ROWS.columns)
    assert outcome.serving.startswith("onnx")
    with (
        LocalServer(ServerSettings(home=str(tmp_path), port=0)) as server,
        servable.Client(server.url) as client,
    ):
        given = client.predict("iris", ROWS.iloc[:20].to_dict("records"))
    assert list(given.predictions) == classifier.predict(ROWS.iloc[:20]).tolist()


def test_a_boosted_model_in_skops(tmp_path: Path) -> None:
    fitted = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(ROWS, TARGET)
    folder = save("lightgbm", tmp_path / "boosted", fitted, fitted.predict(ROWS))
    found = ADAPTER.inside(folder, sample=None, hints=Hints())
    assert found is not None
    assert (found.framework, found.path.name) == ("sklearn", "model.skops")


def test_a_booster(tmp_path: Path) -> None:
    fitted = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(ROWS.to_numpy(), TARGET)
    booster = fitted.booster_
    folder = save("lightgbm", tmp_path / "booster", booster, fitted.predict(ROWS.to_numpy()))
    outcome = servable.add(folder, name="booster", home=tmp_path / "home")
    assert outcome.framework == "lightgbm"


def test_a_graph(classifier: Any, tmp_path: Path) -> None:
    rows = ROWS.to_numpy(dtype=np.float32)
    folder = save("onnx", tmp_path / "graph", to_onnx(classifier, rows[:1]), classifier.predict(ROWS), rows)
    outcome = servable.add(folder, name="graph", home=tmp_path / "home")
    assert outcome.framework == "onnx"


def test_the_example_gives_the_names(tmp_path: Path) -> None:
    fitted = LogisticRegression(max_iter=500).fit(ROWS.to_numpy(), TARGET)
    folder = save("sklearn", tmp_path / "plain", fitted, fitted.predict(ROWS.to_numpy()))
    with (folder / "MLmodel").open("a") as file:
        file.write("saved_input_example_info:\n  artifact_path: input_example.json\n  type: dataframe\n")
    (folder / "input_example.json").write_text(
        '{"columns": ["a", "b", "c", "d"], "data": [[1.5, 2.5, 3.5, 4.5], [0.5, 1.0, 2.0, 3.0]]}'
    )
    outcome = servable.add(folder, name="plain", home=tmp_path / "home")
    assert outcome.inputs == ("a", "b", "c", "d")


# ---------------------------------------------------------------------- pyfunc


def test_the_adapter_keeps_its_promises(pyfunc: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    rows = {NUMBERS: ROWS.to_numpy()[:7].copy()}
    check_adapter(ADAPTER, Specimen(pyfunc, rows, executes=True, breakable="MLmodel"), work)


def test_nothing_runs_without_trust(pyfunc: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactUntrusted, match="--trust"):
        servable.add(pyfunc, name="summing", home=tmp_path / "home")
    assert not (tmp_path / "marker").exists()


def test_a_pyfunc_is_served_in_a_process_of_its_own(pyfunc: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    outcome = servable.add(pyfunc, name="summing", home=home, trust=True, deploy=True)
    assert (outcome.framework, outcome.task, outcome.serving) == ("mlflow", "regression", "trained")
    shutil.rmtree(pyfunc)
    with (
        LocalServer(ServerSettings(home=str(home), port=0)) as server,
        servable.Client(server.url) as client,
    ):
        given = client.predict("summing", ROWS.iloc[:5].to_dict("records"))
        (about,) = client.models()
    assert np.allclose(given.predictions, 2 * ROWS.iloc[:5].sum(axis=1))
    assert "process" in str(about)


def test_labels_make_a_classifier(pyfunc: Path) -> None:
    hints = Hints(labels=(20.4, 19.0))
    trained = ADAPTER.read(pyfunc, sample=None, trust=True, hints=hints)
    assert trained.signature.task == "classification"
    predictor = ADAPTER.wrap(trained)
    answer = predictor.predict({NUMBERS: ROWS.to_numpy()[:2].copy()})
    assert answer[PREDICTION].tolist() == [0, 1]


# ---------------------------------------------------------------------- what is said


def described(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "MLmodel").write_text(text)
    return folder


PYFUNC = "flavors:\n  python_function:\n    loader_module: no_such_loader\nutc_time_created: x\n"


def test_a_folder_without_a_signature(tmp_path: Path, pyfunc: Path) -> None:
    lines = (pyfunc / "MLmodel").read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("signature:"))
    end = next(index for index in range(start + 1, len(lines)) if not lines[index].startswith(" "))
    (pyfunc / "MLmodel").write_text("\n".join(lines[:start] + lines[end:]))
    with pytest.raises(SettingInvalid, match="infer_signature"):
        ADAPTER.read(pyfunc, sample=None, trust=True)


def test_a_loader_that_is_not_there(tmp_path: Path) -> None:
    folder = described(tmp_path / "lost", PYFUNC)
    with pytest.raises(servable.ServableError, match="no_such_loader"):
        ADAPTER.read(folder, sample=None, trust=True)


def test_other_flavours_without_a_pyfunc(tmp_path: Path) -> None:
    folder = described(tmp_path / "odd", "flavors:\n  spark:\n    model_data: x\nutc_time_created: x\n")
    with pytest.raises(ArtifactUnsupported, match="spark"):
        ADAPTER.read(folder, sample=None, trust=True)


@pytest.mark.parametrize(
    "text", ["", "[1]", "flavors: 3\nutc_time_created: x", "a: [", "!!python/object/apply:os.system ['true']"]
)
def test_what_is_no_description(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactUnreadable):
        read_folder(described(tmp_path / "bad", text))


def test_files_outside_of_the_folder_are_not_looked_at(tmp_path: Path, sklearn_folder: Path) -> None:
    shutil.copytree(sklearn_folder, tmp_path / "copy")
    outside = tmp_path / "outside.skops"
    shutil.copyfile(sklearn_folder / "model.skops", outside)
    for place in ("../outside.skops", str(outside)):
        folder = described(
            tmp_path / f"to{len(place)}",
            f"flavors:\n  sklearn:\n    pickled_model: {place}\nutc_time_created: x\n",
        )
        assert ADAPTER.inside(folder, sample=None, hints=Hints()) is None


def test_columns_and_tensors_of_a_signature(tmp_path: Path) -> None:
    inputs = (
        '[{"type": "string", "name": "plan"}, {"type": "long", "name": "age", "required": false}, '
        '{"type": "boolean", "name": "new"}, {"type": "datetime", "name": "since"}]'
    )
    outputs = '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
    text = f"{PYFUNC}signature:\n  inputs: '{inputs}'\n  outputs: '{outputs}'\n"
    model = read_folder(described(tmp_path / "typed", text))
    assert model.inputs == (
        Field(name="plan", kind="text", dtype="str"),
        Field(name="age", kind="number", dtype="int64", missing=True),
        Field(name="new", kind="boolean", dtype="bool"),
        Field(name="since", kind="date", dtype="datetime"),
    )
    assert model.outputs == (Field(name="", kind="tensor", dtype="float32", shape=(3,)),)
    odd = text.replace('"string"', '"binary"')
    with pytest.raises(ArtifactUnsupported, match="binary"):
        read_folder(described(tmp_path / "odd", odd))
