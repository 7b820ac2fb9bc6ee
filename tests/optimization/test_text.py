"""Text pipelines compiled whole: equal to scikit-learn on every text, or refused with the reason."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from optimization.texts import TEXTS, THREE, TWO, packed, pipelines
from servable.frameworks.base import Trained
from servable.frameworks.frame import pack
from servable.frameworks.lookup import adapter
from servable.frameworks.sklearn import ADAPTER as SKLEARN
from servable.frameworks.text_program import write_compiled
from servable.optimization import nasty, parity
from servable.optimization.choose import optimise
from servable.optimization.graph import Unconvertible
from servable.optimization.text_linear import compile_text

KINDS = pipelines()
TOLERANCE = 1e-9


def trained(model: Any, labels: list[Any]) -> Trained:
    return SKLEARN.take(model.fit(TEXTS, labels), sample=None)


def compiled(model: Trained) -> Any:
    return adapter("text").wrap(Trained(compile_text(model), model.signature, {}, {}))


@pytest.fixture(scope="module")
def both() -> dict[str, tuple[Any, Any]]:
    """Each kind of pipeline: as trained, and compiled."""
    fitted = {name: trained(model, labels) for name, (model, labels) in KINDS.items()}
    return {name: (SKLEARN.wrap(model), compiled(model)) for name, model in fitted.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_answers_nasty_texts_as_scikit_learn_does(kind, both):
    model = trained(*KINDS[kind])
    before, after = both[kind]
    groups = nasty.make(model, packed(TEXTS))
    assert any("Straße" in text for text in groups["texts of text"]["strings"].ravel())
    for rows in (packed(TEXTS), packed(["", "a", " "]), *groups.values()):
        proof = parity.compare(before.predict(rows), after.predict(rows), tolerance=TOLERANCE)
        assert proof.equal, proof.reason


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.text() | st.text(st.sampled_from("gGoOdDbB aıİIß café\u0301\t\n很好酒店0١²'_-😀")),
        min_size=1,
        max_size=6,
    ),
    kind=st.sampled_from(sorted(KINDS)),
)
def test_no_text_is_answered_otherwise(texts, kind, both):
    before, after = both[kind]
    rows = packed(texts)
    proof = parity.compare(before.predict(rows), after.predict(rows), tolerance=TOLERANCE)
    assert proof.equal, proof.reason


def table() -> pd.DataFrame:
    source = ["shop" if place % 3 else "hotel" for place in range(len(TEXTS))]
    size = [float(len(text)) if place % 7 else np.nan for place, text in enumerate(TEXTS)]
    title = [text[:6] for text in TEXTS]
    return pd.DataFrame({"title": title, "size": size, "review": TEXTS, "source": source})


def test_texts_beside_other_columns_compile_together(tmp_path):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    prepare = ColumnTransformer(
        [
            ("review", make_union(TfidfVectorizer(), CountVectorizer(analyzer="char")), "review"),
            ("number", numbers, ["size"]),
            ("title", TfidfVectorizer(), "title"),
            ("source", OneHotEncoder(handle_unknown="ignore"), ["source"]),
        ]
    )
    frame = table()
    model = SKLEARN.take(make_pipeline(prepare, LogisticRegression()).fit(frame, THREE), sample=frame)
    kinds = {field.name: field.kind for field in model.signature.inputs}
    assert kinds == {"title": "text", "size": "number", "review": "text", "source": "category"}
    found = optimise(model, pack(frame, model.signature), tmp_path, batches=(1, 8))
    assert found.serving == "text", found.refused or found.notes
    proof = next(variant.proof for variant in found.variants if variant.name == "text")
    assert proof.equal
    assert proof.worst_difference < TOLERANCE
    assert (tmp_path / "variants/text/rest.onnx").is_file()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            make_pipeline(TfidfVectorizer(tokenizer=str.split, token_pattern=None), LogisticRegression()),
            "tokenizer of its own",
        ),
        (make_pipeline(CountVectorizer(analyzer=str.split), LogisticRegression()), "analyzer of its own"),
        (make_pipeline(CountVectorizer(preprocessor=str.strip), LogisticRegression()), "Python code"),
        (make_pipeline(CountVectorizer(token_pattern=r"(?:\w+\s?)+"), LogisticRegression()), "for ever"),
        (make_pipeline(HashingVectorizer(n_features=64), LogisticRegression()), "no vocabulary"),
        (make_pipeline(TfidfVectorizer(), RandomForestClassifier(2)), "only linear models and naive Bayes"),
    ],
    ids=["tokenizer", "analyzer", "preprocessor", "pattern", "hashing", "forest"],
)
def test_what_is_not_compiled_is_said_in_one_sentence(model, says):
    with pytest.raises(Unconvertible, match=says) as refused:
        compile_text(trained(model, TWO))
    assert "\n" not in str(refused.value)


def test_the_compiled_form_serves_and_is_faster(tmp_path):
    model = trained(make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()), TWO)
    found = optimise(model, packed(TEXTS), tmp_path, batches=(1, 32), tune=True)
    assert found.serving == "text"
    times = {variant.name: variant.timings[0].seconds for variant in found.variants}
    assert times["text"] * 2 < times["trained"]


def test_it_runs_without_a_training_library(tmp_path):
    model = trained(*KINDS["union"])
    write_compiled(compile_text(model), tmp_path / "text")
    expected = SKLEARN.wrap(model).predict(packed(["a good café"]))["probabilities"][0].tolist()
    code = f"""
        import sys
        import numpy as np
        from pathlib import Path
        from servable.frameworks.lookup import adapter
        model = adapter("text").read(Path({str(tmp_path / "text")!r}), sample=None, trust=False)
        rows = {{"strings": np.array([["a good café"]], dtype=object)}}
        print(adapter("text").wrap(model).predict(rows)["probabilities"][0].tolist())
        heavy = {{"sklearn", "scipy", "pandas", "torch", "onnxruntime"}} & set(sys.modules)
        assert not heavy, heavy
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    given_there = [float(number) for number in re.findall(r"[\d.e-]+", done.stdout)]
    np.testing.assert_allclose(given_there, expected, rtol=1e-9)


def test_a_pipeline_that_was_never_fitted_is_refused():
    from servable.errors import ArtifactUnreadable

    with pytest.raises(ArtifactUnreadable, match="never fitted"):
        SKLEARN.take(make_pipeline(TfidfVectorizer(), LogisticRegression()), sample=None)


def test_the_text_column_takes_the_name_that_the_sample_gives(tmp_path: Path):
    model = KINDS["words"][0].fit(TEXTS, TWO)
    sample = pd.DataFrame({"review": TEXTS})
    (field,) = SKLEARN.take(model, sample=sample).signature.inputs
    assert (field.name, field.kind, field.missing) == ("review", "text", True)
    assert field.example in TEXTS
