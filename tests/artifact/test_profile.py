"""The reference profile."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.profile import decode, encode, of_numbers, profile
from servable.training.data import infer
from thoroughness import examples


@settings(deadline=None, max_examples=examples(50))
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(-1e9, 1e9), st.integers(0, 3).map(float)),
            st.sampled_from(["a", "b", None]),
        ),
        min_size=25,
        max_size=80,
    )
)
def test_counts_add_up_to_the_rows_that_have_a_value(rows):
    frame = pd.DataFrame(
        {
            "n": [1.5, 2.5, *[number for number, _ in rows]],
            "t": ["a", "b", *[text for _, text in rows]],
            "y": np.arange(len(rows) + 2) % 2,
        }
    )
    problem = infer(frame, "y", kinds={"n": "number"})
    found = profile(problem.signature, problem.arrays, problem.truth)
    assert decode(encode(found)) == found
    number = found.columns[0]
    there = int(frame["n"].notna().sum())
    assert sum(number.counts) == there
    assert sum(number.histogram_counts) == there
    assert len(number.counts) == len(number.edges) + 1
    assert abs(number.missing - frame["n"].isna().mean()) < 1e-9
    text = next(column for column in found.columns if column.name == "t")
    assert sum(text.categories.values()) + text.others == int(frame["t"].notna().sum())
    assert found.target is not None
    assert sum(found.target.categories.values()) == len(frame)


@given(st.sampled_from([1.0, -1e9, 1e17, 5e-324]), st.integers(1, 3))
def test_values_too_near_for_bins_are_profiled(first: float, steps: int):
    last = first
    for _ in range(steps):
        last = float(np.nextafter(last, np.inf))
    found = of_numbers("n", np.asarray([first] * 50 + [last] * 50))
    assert sum(found.histogram_counts) == sum(found.counts) == 100
    assert found.histogram_edges == sorted(set(found.histogram_edges))
    assert sum(of_numbers("n", np.full(9, first)).histogram_counts) == 9


def test_many_categories_are_counted_together():
    frame = pd.DataFrame({"t": [f"v{place % 150}" for place in range(600)], "y": [0, 1] * 300})
    problem = infer(frame, "y")
    column = profile(problem.signature, problem.arrays, least=4).columns[0]
    assert len(column.categories) == 100
    assert column.others == 200
    assert column.distinct == 150
