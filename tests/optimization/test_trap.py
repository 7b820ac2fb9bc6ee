"""The proof must catch what a plain conversion does to real data, and let ours through."""

import warnings

import lightgbm
import numpy as np
import onnxmltools
import onnxruntime
import pandas as pd
import pytest
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from servable.artifact.signature import Field, Signature
from servable.frameworks.base import Trained
from servable.frameworks.frame import pack, to_frame
from servable.frameworks.lookup import adapter
from servable.optimization.choose import Questions, optimise
from servable.tensors import take


@pytest.fixture(scope="module")
def adult(shared_data):
    """A boosted pipeline on real people, its held-out rows, and the plain conversion of its trees."""
    frame = pd.read_csv(shared_data / "adult_income" / "adult.csv", nrows=12_000)
    target = (frame.pop("income") == ">50K").astype(int).to_numpy()
    texts = [name for name in frame.columns if frame[name].dtype == "str"]
    numbers = [name for name in frame.columns if name not in texts]
    inputs = tuple(
        Field(
            name=name,
            kind="category" if name in texts else "number",
            dtype="str" if name in texts else "float64",
            missing=bool(frame[name].isna().any()),
        )
        for name in frame.columns
    )
    answer = Field(name="prediction", kind="category", dtype="int64", values=(0, 1))
    signature = Signature(task="classification", inputs=inputs, outputs=(answer,), probabilities=True)
    arrays = pack(frame, signature)
    held = np.arange(len(frame)) % 4 == 0
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = ColumnTransformer([("numbers", "passthrough", numbers), ("texts", encoder, texts)])
    model = lightgbm.LGBMClassifier(n_estimators=100, verbose=-1, n_jobs=1, random_state=0)
    pipeline = Pipeline([("prepare", prepare), ("model", model)])
    pipeline.fit(to_frame(take(arrays, ~held), signature), target[~held])
    return Trained(pipeline, signature, {"style": "canonical"}, {}), take(arrays, held)


class Plain:
    """LightGBM through onnxmltools as its manual shows: float inputs and rounded thresholds."""

    concurrent = True

    def __init__(self, trained: Trained) -> None:
        self._prepare = trained.model.steps[0][1]
        self._signature = trained.signature
        model = trained.model.steps[1][1]
        with warnings.catch_warnings():
            # The converter's own use of deprecated names is not ours to mend.
            warnings.simplefilter("ignore")
            made = onnxmltools.convert_lightgbm(
                model,
                initial_types=[("x", FloatTensorType([None, model.n_features_in_]))],
                zipmap=False,
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(made.SerializeToString(), options)

    def predict(self, arrays):
        matrix = self._prepare.transform(to_frame(arrays, self._signature))
        with np.errstate(over="ignore"):
            matrix = matrix.astype(np.float32)
        label, probabilities = self._session.run(None, {"x": matrix})
        return {"prediction": label, "probabilities": probabilities}

    def close(self) -> None: ...


def test_the_plain_conversion_is_refused_and_ours_is_equal(adult, tmp_path):
    trained, rows = adult
    questions = Questions(trained, adapter("sklearn").wrap(trained), rows)
    plain = questions.prove(Plain(trained), 1e-4)
    assert not plain.equal
    assert plain.worst_difference > 1e-3

    chosen = optimise(trained, rows, tmp_path, batches=(1,))
    assert chosen.serving == "onnx-fp64"
    ours = chosen.variants[1].proof
    assert ours is not None
    assert ours.equal
    assert ours.worst_difference < 1e-12
