"""The files of a compiled text model: damaged, hostile and foreign ones are refused in one sentence."""

import json
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from servable.errors import ArtifactUnreadable
from servable.frameworks.lookup import adapter
from servable.frameworks.sklearn import ADAPTER as SKLEARN
from servable.frameworks.text_program import write_compiled
from servable.frameworks.text_tokens import Analyzer, analyse, harmless
from servable.optimization.text_linear import compile_text

TEXTS = ["a good film", "a bad film", "good food", "bad food"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, ["+", "-", "+", "-"])
    write_compiled(compile_text(SKLEARN.take(model, sample=None)), tmp_path / "text")
    return tmp_path / "text"


def refused(folder: Path) -> str:
    with pytest.raises(ArtifactUnreadable) as error:
        adapter("text").read(folder, sample=None, trust=False)
    assert "\n" not in error.value.message
    return error.value.message


def change(folder: Path, **changes: object) -> None:
    """Set values of the one bag, or of its analyzer."""
    path = folder / "text.json"
    program = json.loads(path.read_text(encoding="utf-8"))
    bag = program["body"]["parts"][0]["bags"][0]
    for name, value in changes.items():
        (bag if name in ("column", "vocabulary") else bag["analyzer"])[name] = value
    path.write_text(json.dumps(program), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"column": 1}, "column that its signature does not have"),
        ({"column": -1}, "column that its signature does not have"),
        ({"vocabulary": ["good"]}, "does not fit"),
        ({"vocabulary": ["good"] * 4}, "same token twice"),
        ({"shortest": 0}, "0 to 1"),
        ({"shortest": 3, "longest": 2}, "3 to 2"),
        ({"pattern": "(a+)+b"}, "no pattern that is served"),
        ({"pattern": "("}, "no pattern that is served"),
        ({"unit": "sentence"}, "no text model"),
        ({"pattern": 5}, "no text model"),
    ],
)
def test_a_changed_description_is_refused(folder, changes, says):
    change(folder, **changes)
    assert says in refused(folder)


def test_arrays_that_would_execute_are_refused_without_executing(folder, tmp_path):
    marker = tmp_path / "marker"

    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    with np.load(folder / "arrays.npz") as held:
        arrays = {name: held[name] for name in held.files}
    out = BytesIO()
    np.savez(out, **(arrays | {"bias": np.array([Touch()], dtype=object)}), allow_pickle=True)
    (folder / "arrays.npz").write_bytes(out.getvalue())
    assert "holds no arrays" in refused(folder)
    (folder / "arrays.npz").write_bytes(pickle.dumps(Touch()))
    assert "holds no arrays" in refused(folder)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["bias", "weights_0", "idf_0"])
@pytest.mark.parametrize("form", ["absent", "float32", "longer", "text"])
def test_arrays_of_another_form_are_refused(folder, name, form):
    with np.load(folder / "arrays.npz") as held:
        arrays = {each: held[each] for each in held.files}
    array = arrays.pop(name)
    if form != "absent":
        longer = np.concatenate([array, array, array])
        made = {"float32": array.astype(np.float32), "longer": longer, "text": array.astype(str)}
        arrays[name] = made[form]
    np.savez(folder / "arrays.npz", **arrays)
    assert "text model" in refused(folder)


def test_every_truncation_of_the_arrays_is_found(folder):
    whole = (folder / "arrays.npz").read_bytes()
    for size in range(0, len(whole), 37):
        (folder / "arrays.npz").write_bytes(whole[:size])
        refused(folder)


def test_absent_files_are_named(folder):
    (folder / "arrays.npz").unlink()
    assert "arrays.npz" in refused(folder)
    (folder / "text.json").unlink()
    assert "text.json" in refused(folder)


@pytest.mark.parametrize(
    "pattern", [r"(?u)\b\w\w+\b", r"\b[a-z]+(?:'[a-z]+)?\b", r"\w+|[^\w\s]", r"(\w+)!", r"[A-Z]{2,5}"]
)
def test_usual_patterns_are_taken(pattern):
    assert harmless(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+)*",
        r"(a|aa)+$",
        r"(\w)\1",
        r"(?=\w+)\w",
        r"a+b+c+d",
        "(",
        "a" * 300,
        r"(a)(b)",
        "a{99999999999}",
    ],
)
def test_patterns_that_may_take_for_ever_are_not(pattern):
    assert not harmless(pattern)


def test_a_long_text_takes_time_in_proportion():
    tokens = analyse(Analyzer(unit="word", shortest=1, longest=2))
    assert len(tokens("word " * 200_000)) == 399_999
