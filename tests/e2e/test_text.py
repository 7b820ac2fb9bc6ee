"""Texts from a pipeline to an API: what is answered over HTTP and gRPC is what scikit-learn answers."""

import warnings
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import tritonclient.grpc as triton
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

import servable
from e2e.conftest import Serve
from optimization.texts import TEXTS, THREE

ASKED = ["a good café", "", "很好的酒店", "STRASSE of tears\n\tindeed", "😀", "never heard " * 500]


def over_grpc(url: str, name: str, column: str, texts: list[str]) -> Any:
    tensor = triton.InferInput(column, [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=object))
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        return client.infer(name, [tensor]).as_numpy("probabilities")


def test_a_pipeline_from_elsewhere_is_served_as_it_answers(tmp_path: Path, home: Path, serve: Serve) -> None:
    union = make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)))
    model = make_pipeline(union, LogisticRegression()).fit(TEXTS, THREE)
    joblib.dump(model, tmp_path / "reviews.joblib")
    added = servable.add(
        tmp_path / "reviews.joblib",
        name="reviews",
        sample=pd.DataFrame({"review": TEXTS}),
        trust=True,
        deploy=True,
        home=home,
    )
    assert added.serving == "text"
    url = serve(home)
    expected = model.predict_proba(ASKED)
    answer = httpx.post(f"{url}/models/reviews/predict", json={"inputs": [{"review": t} for t in ASKED]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == model.predict(ASKED).tolist()
    served = [[row[label] for label in model.classes_] for row in answer.json()["probabilities"]]
    np.testing.assert_allclose(served, expected, atol=1e-9)
    alone = httpx.post(f"{url}/models/reviews/predict", json={"input": ["a good café"]})
    assert alone.json()["prediction"] == model.predict(ASKED[:1])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        given = over_grpc(url, "reviews", "review", ASKED)
    np.testing.assert_allclose(given, expected, atol=1e-6)
