"""Public bounds of columns: read, applied, and all that a signature says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from servable.errors import DataError, FileMissing, SettingInvalid
from servable.training.bounds import bounded, check_classes, public_frame, read_bounds, signature_of
from servable.training.candidates import prepare
from servable.training.data import infer

TOML = """
age = {min = 17, max = 90}
job = ["nurse", "cook"]
smoker = [false, true]
grade = [1, 2, 3]
ill = ["no", "yes"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bounds.toml"
    path.write_text(TOML)
    return path


def rows(count: int = 60) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "name": [f"person {row}" for row in range(count)],
            "age": random.integers(20, 60, count).astype(float),
            "job": random.choice(["cook", "nurse"], count),
            "smoker": random.random(count) < 0.5,
            "grade": random.integers(1, 4, count),
            "ill": random.choice(["no", "yes"], count),
        }
    )
    frame.loc[0, "age"] = 119
    frame.loc[1, "job"] = "astronaut"
    return frame


def test_nothing_in_the_signature_comes_from_the_rows(file: Path) -> None:
    known = read_bounds(file)
    frame, kinds = bounded(rows(), known, "ill")
    # A column that is not bounded is not used.
    assert "name" not in frame
    assert frame["age"].max() == 90
    assert frame["job"].isna().sum() == 1
    problem = infer(frame, "ill", task="classification", kinds=kinds)
    signature = signature_of(problem.signature, known)
    assert [field.name for field in signature.inputs] == ["age", "job", "smoker", "grade"]
    age, job, smoker, grade = signature.inputs
    assert (age.minimum, age.maximum, age.example, age.dtype) == (17, 90, 53.5, "float64")
    assert (job.values, grade.values) == (("cook", "nurse"), (1, 2, 3))
    assert smoker.kind == "boolean"
    assert all(field.missing for field in signature.inputs)
    # Other people, the same signature.
    other, kinds = bounded(rows(80).assign(age=33.0), known, "ill")
    again = infer(other, "ill", task="classification", kinds=kinds)
    assert signature_of(again.signature, known) == signature


def test_pipelines_are_prepared_by_the_bounds_alone(file: Path) -> None:
    known = read_bounds(file)
    frame, kinds = bounded(rows(), known, "ill")
    problem = infer(frame, "ill", task="classification", kinds=kinds)
    signature = signature_of(problem.signature, known)
    step = prepare(signature, dense=True).fit(public_frame(signature, known))
    seen = step.transform(problem.frame())
    assert np.isfinite(seen).all()
    assert np.abs(seen).max() <= 1 + 1e-9
    # The astronaut is none of the values that are known.
    assert seen.shape[1] == 1 + 1 + 2 + 3


@pytest.mark.parametrize(
    "said",
    ["age = 3", "age = {min = 3, max = 3}", "age = []", 'age = ["a", "a"]', "age = [1, true]", "", "x"],
)
def test_what_is_no_bound_is_refused(said: str, tmp_path: Path) -> None:
    path = tmp_path / "bounds.toml"
    path.write_text(said)
    with pytest.raises(SettingInvalid, match="bound"):
        read_bounds(path)


def test_what_does_not_go_with_the_rows_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_bounds(tmp_path / "none.toml")
    known = read_bounds(file)
    with pytest.raises(DataError, match="'job', which the data does not have"):
        bounded(rows().drop(columns="job"), known, "ill")
    with pytest.raises(DataError, match="says nothing about 'name'"):
        bounded(rows(), known, "name")
    with pytest.raises(DataError, match="does not know"):
        bounded(rows().replace({"ill": {"yes": "perhaps"}}), known, "ill")
    frame, kinds = bounded(rows(), known, "ill")
    more = known._replace(columns={**known.columns, "ill": ("maybe", "no", "yes")})
    problem = infer(frame, "ill", task="classification", kinds=kinds)
    with pytest.raises(DataError, match="No row has the class 'maybe'"):
        check_classes(problem.signature, more)
