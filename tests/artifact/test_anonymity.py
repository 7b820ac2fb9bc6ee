"""What few rows have is not named, and what is compared with it later stays right."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from servable.artifact.anonymity import example_text, usual_range
from servable.artifact.profile import of_numbers, profile
from servable.monitoring.differences import compare
from servable.monitoring.reference import of_profile
from servable.training.data import infer

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


@given(VALUES, st.integers(1, 20))
def test_enough_rows_are_at_or_beyond_each_extreme(values: list[float], least: int) -> None:
    held = np.asarray(values)
    low, high = usual_range(held, least)
    assert low <= high
    enough = min(least, (len(values) + 1) // 2)
    assert (held <= low).sum() >= enough
    assert (held >= high).sum() >= enough


@given(VALUES, st.integers(1, 20))
def test_no_number_beyond_them_is_in_a_profile_and_no_row_is_lost(values: list[float], least: int) -> None:
    held = np.asarray(values)
    low, high = usual_range(held, least)
    found = of_numbers("x", held, least=least)
    assert all(low <= each <= high for each in (*found.edges, *found.quantiles))
    assert sum(found.counts) == len(values)
    assert (found.below, found.above) == ((held < low).sum(), (held > high).sum())
    reference = of_profile("input", found)
    assert reference is not None
    assert (reference.counts >= 0).all()
    # The rows themselves fall into the bins as they were counted.
    codes = reference.codes(held)
    assert np.bincount(codes, minlength=len(reference.counts)).tolist() == reference.counts.tolist()


def test_rare_categories_and_extremes_of_a_table_are_nowhere_in_its_profile() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "job": ["cook", "nurse"] * 100 + ["astronaut"] * 4,
            "salary": [*random.integers(20, 90, 203).tolist(), 9_876_543],
            "y": [0, 1] * 102,
        }
    )
    problem = infer(frame, "y")
    found = profile(problem.signature, problem.arrays, problem.truth)
    job, salary = found.columns
    assert job.categories == {"cook": 100, "nurse": 100}
    assert job.others == 4
    assert job.distinct == 3
    assert salary.quantiles[-1] < 100
    assert salary.above > 0
    assert problem.signature.input("salary").maximum is not None
    assert problem.signature.input("salary").maximum < 100
    reference = of_profile("input", job)
    assert reference is not None
    now = np.asarray(["cook"] * 50 + ["clown"] * 50, object)
    assert compare(reference, reference.codes(now)).unseen == pytest.approx(0.5, abs=0.03)


def test_free_text_is_not_quoted() -> None:
    frame = pd.DataFrame(
        {"note": [f"the patient number {row} said that it hurts" for row in range(60)], "y": [0, 1] * 30}
    )
    field = infer(frame, "y").signature.input("note")
    assert field.kind == "text"
    assert field.example
    assert "patient" not in field.example
    assert abs(len(field.example) - 40) < 10
    assert example_text(0) == ""


def test_drift_of_real_data_is_found_as_before() -> None:
    frame = load_diabetes(as_frame=True).data
    random = np.random.default_rng(0)
    for name in frame.columns:
        values = frame[name].to_numpy()
        pair = [of_profile("input", of_numbers(name, values, least=least)) for least in (1, 5)]
        for now in (random.choice(values, 300), values[:200] + values.std(), values * 1.5):
            found = [compare(one, one.codes(now), now) for one in pair if one is not None]
            assert found[0].psi == pytest.approx(found[1].psi, rel=0.3, abs=0.03)
            assert (found[0].psi > 0.1) == (found[1].psi > 0.1)
            assert found[0].statistic == pytest.approx(found[1].statistic, abs=0.02)
            assert (found[0].p_value < 0.01) == (found[1].p_value < 0.01)
            # What is beyond the usual range counts, and that is a little narrower.
            assert found[0].unseen <= found[1].unseen + 0.01
