"""From a table to a problem: task, kinds, signature, and refusals."""

import numpy as np
import pandas as pd
import pytest

from servable.errors import DataError, SettingInvalid
from servable.training.data import infer, truth_of

ROWS = 60


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS),
            "income": np.where(np.arange(ROWS) % 7 == 0, np.nan, rng.normal(30_000, 5_000, ROWS).round()),
            "job": rng.choice(["cook", "nurse", "pilot"], ROWS),
            "smoker": rng.choice([True, False], ROWS),
            "joined": pd.date_range("2020-01-01", periods=ROWS).strftime("%Y-%m-%d").tolist(),
            "customer_id": rng.permutation(ROWS) + 1000,
            "note": [f"free text number {place}" for place in range(ROWS)],
            "constant": 1,
            "empty": None,
            "left": rng.choice(["yes", "no"], ROWS),
        }
    )


def test_kinds_are_inferred_with_reasons(frame):
    problem = infer(frame, "left")
    assert problem.task == "classification"
    assert {info.name: info.kind for info in problem.columns} == {
        "age": "number", "income": "number", "job": "category", "smoker": "boolean", "joined": "date",
    }  # fmt: skip
    reasons = {info.name: info.note for info in problem.dropped}
    assert set(reasons) == {"customer_id", "note", "constant", "empty"}
    assert "id" in reasons["customer_id"]
    assert "same value" in reasons["constant"]


def test_the_signature_says_what_the_data_holds(frame):
    signature = infer(frame, "left").signature
    assert signature.classes == ("no", "yes")
    assert signature.probabilities
    assert signature.input("age").dtype == "int64"
    # As many as the setting says are at most as old; one alone would be known by it.
    assert signature.input("age").minimum == frame["age"].sort_values().iloc[4]
    assert signature.input("income").missing
    assert not signature.input("age").missing
    assert signature.input("job").values == ("cook", "nurse", "pilot")
    assert signature.example["job"] in ("cook", "nurse", "pilot")
    assert set(signature.example) == {field.name for field in signature.inputs}
    assert infer(frame, "left", unknown="refuse").signature.input("job").unknown == "refuse"


def test_arrays_and_canonical_frame_go_together(frame):
    problem = infer(frame, "left")
    assert problem.arrays["numbers"].shape == (ROWS, 4)
    assert problem.arrays["strings"].shape == (ROWS, 1)
    canonical = problem.frame(np.array([3, 5]))
    assert canonical["age"].tolist() == frame["age"].iloc[[3, 5]].tolist()
    assert problem.truth_at(np.array([0]))[0] == ["no", "yes"].index(frame["left"].iloc[0])


def test_kinds_can_be_overridden(frame):
    problem = infer(frame, "left", kinds={"age": "category", "note": "category", "job": "drop"})
    assert problem.signature.input("age").kind == "category"
    assert problem.signature.input("age").dtype == "int64"
    assert problem.signature.input("age").values == tuple(sorted(set(frame["age"].tolist())))
    assert "job" in {info.name for info in problem.dropped}
    assert len(problem.signature.input("note").values) == ROWS


@pytest.mark.parametrize(
    ("kinds", "error", "says"),
    [
        ({"agee": "number"}, DataError, "did you mean 'age'"),
        ({"age": "colour"}, SettingInvalid, "number, category"),
        ({"job": "number"}, DataError, "data row 1 holds"),
        ({"job": "date"}, DataError, "no dates"),
        ({"job": "boolean"}, DataError, "boolean"),
        ({"empty": "category"}, DataError, "no value at all"),
    ],
)
def test_impossible_kinds_are_refused(frame, kinds, error, says):
    with pytest.raises(error, match=says):
        infer(frame, "left", kinds=kinds)


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (["a", "b"] * 30, "classification"),
        ([True, False] * 30, "classification"),
        ([0, 1] * 30, "classification"),
        ([0.0, 1.0] * 30, "classification"),
        ([1, 2, 3] * 20, "classification"),
        ([0.5, 1.25, 2.75] * 20, "regression"),
        (list(range(60)), "regression"),
    ],
)
def test_the_task_follows_from_the_target(target, task):
    problem = infer(pd.DataFrame({"x": np.linspace(0, 1, 60), "y": target}), "y")
    assert problem.task == task
    if task == "classification":
        assert len(problem.signature.classes) == len(set(target))
        assert {type(label) for label in problem.signature.classes} <= {str, bool, int}


def test_the_task_can_be_overridden(frame):
    assert infer(frame.assign(left=[1, 2] * 30), "left", task="regression").task == "regression"
    with pytest.raises(SettingInvalid, match="text"):
        infer(frame, "left", task="regression")
    with pytest.raises(SettingInvalid, match="needs a target"):
        infer(frame, None, task="regression")
    with pytest.raises(SettingInvalid, match="no target"):
        infer(frame, "left", task="clustering")
    with pytest.raises(SettingInvalid, match="no task"):
        infer(frame, "left", task="guessing")


def test_without_a_target_it_is_clustering(frame):
    problem = infer(frame, None)
    assert problem.task == "clustering"
    assert problem.truth is None


def test_rows_without_target_are_left_out_and_counted(frame):
    frame.loc[[2, 9], "left"] = None
    problem = infer(frame, "left")
    assert problem.size == ROWS - 2
    assert any("2 rows without" in note for note in problem.notes)
    assert 2 not in problem.rows


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.rename(columns={"left": "Left_"}), "did you mean"),
        (lambda f: f.assign(left="yes"), "one class only"),
        (lambda f: f.assign(left=None), "no value in any row"),
        (lambda f: f.assign(left=["yes"] * 58 + ["no"] * 2), "only 2 rows"),
        (lambda f: f.head(10), "rows"),
        (lambda f: f[["constant", "empty", "left"]], "No column is left"),
        (lambda f: f.assign(age=[np.inf] + [1.5, 2.5, 3.5] * 19 + [4.0, 5.0]), "infinite"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(frame, change, says):
    with pytest.raises(DataError, match=says):
        infer(change(frame), "left")


def test_too_many_labels_are_refused():
    frame = pd.DataFrame({"x": np.arange(2000) % 17 + 0.5, "y": [f"name {place}" for place in range(2000)]})
    with pytest.raises(DataError, match="too many"):
        infer(frame, "y")


def test_a_constant_or_infinite_number_is_no_target():
    x = np.linspace(0, 1, 60)
    with pytest.raises(DataError, match="same value"):
        infer(pd.DataFrame({"x": x, "y": 1.5}), "y", task="regression")
    with pytest.raises(DataError, match="infinite"):
        infer(pd.DataFrame({"x": x, "y": np.where(x > 0.9, np.inf, x)}), "y")


def test_a_time_column_orders_the_rows(frame):
    shuffled = frame.sample(frac=1, random_state=1)
    problem = infer(shuffled, "left", time_order="joined")
    assert problem.time_order
    seconds = problem.frame()["joined"].to_numpy()
    assert (np.diff(seconds) > 0).all()
    assert shuffled["joined"].iloc[problem.rows[0]] == "2020-01-01"
    with pytest.raises(DataError, match="cannot give the order"):
        infer(frame, "left", time_order="job")
    with pytest.raises(DataError, match="order by"):
        infer(frame, "left", time_order="nowhere")


def test_imbalance_is_seen(frame):
    assert not infer(frame, "left").imbalanced
    assert infer(frame.assign(left=["no"] * 54 + ["yes"] * 6), "left").imbalanced


def test_truth_of_new_rows(frame):
    signature = infer(frame, "left").signature
    assert truth_of(pd.DataFrame({"left": ["yes", "no"]}), signature).tolist() == [1, 0]
    with pytest.raises(DataError, match="none of the model's classes"):
        truth_of(pd.DataFrame({"left": ["maybe"]}), signature)
    with pytest.raises(DataError, match="is empty in data row 2"):
        truth_of(pd.DataFrame({"left": ["yes", None]}), signature)
    with pytest.raises(DataError, match="no column 'left'"):
        truth_of(pd.DataFrame({"age": [1]}), signature)


def test_truth_of_numbers_and_codes(frame):
    codes = infer(frame.assign(left=[0, 1] * 30), "left").signature
    assert truth_of(pd.DataFrame({"left": [1.0, 0.0]}), codes).tolist() == [1, 0]
    assert truth_of(pd.DataFrame({"left": ["1", "0"]}), codes).tolist() == [1, 0]
    flags = infer(frame, "smoker").signature
    assert truth_of(pd.DataFrame({"smoker": ["true", "FALSE"]}), flags).tolist() == [1, 0]
    value = infer(frame, "income").signature
    assert truth_of(pd.DataFrame({"income": ["1.5", 2]}), value).tolist() == [1.5, 2.0]
    with pytest.raises(DataError, match="expected a number"):
        truth_of(pd.DataFrame({"income": ["much"]}), value)
    assert truth_of(frame, infer(frame, None).signature) is None


def test_a_data_frame_of_any_dtypes_is_understood():
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3, 4] * 25, dtype="Int64"),
            "flag": [True, None, False, True] * 25,
            "nullable": pd.array([True, None, False, True] * 25, dtype="boolean"),
            "label": pd.Categorical(["a", "b", None, "a"] * 25),
            "when": pd.date_range("2024-01-01", periods=100, tz="Europe/Paris"),
            "codes": pd.Categorical([1, 2, 2, 1] * 25),
            "text": pd.array(["u", "v", None, "u"] * 25, dtype="string"),
            "y": pd.Categorical(["p", "q"] * 50),
        },
        index=range(500, 600),
    )
    problem = infer(frame, "y")
    kinds = [info.kind for info in problem.columns]
    assert kinds == ["number", "boolean", "boolean", "category", "date", "number", "category"]
    assert problem.rows.tolist() == list(range(100))
    assert problem.frame()["when"].iloc[0] == pd.Timestamp("2023-12-31T23:00:00").timestamp()
    assert problem.frame()["flag"].isna().sum() == 25
