"""Whole arrays against those kept."""

import numpy as np
from scipy.stats import binom

from monitoring.columns import observed
from servable.monitoring.drift_records import Limits
from servable.monitoring.reference import Key
from servable.monitoring.vector_drift import judge_arrays
from servable.monitoring.vectors import compare_vectors
from servable.monitoring.windows import Length, cut


def test_rows_of_the_same_kind_differ_as_often_as_stated() -> None:
    random = np.random.default_rng(0)
    found = [compare_vectors(random.normal(size=(60, 6)), random.normal(size=(40, 6))) for _ in range(60)]
    assert sum(each.p_value <= 0.05 for each in found) < binom.ppf(0.999, 60, 0.05)


def test_pictures_that_became_brighter_are_told_apart() -> None:
    random = np.random.default_rng(1)
    before, now = random.random((200, 20, 20)), random.random((120, 20, 20)) + 0.3
    found = compare_vectors(before.astype(np.float32), now.astype(np.float32))
    assert found.p_value == 0.001
    assert found.told_apart > 0.95
    assert found.rows == 120


def test_a_dependence_between_numbers_is_seen_although_each_alone_is_as_before() -> None:
    random = np.random.default_rng(2)
    before = random.normal(size=(300, 2))
    shared = random.normal(size=300)
    now = np.stack([shared, shared], axis=1)
    assert compare_vectors(before, now).p_value <= 0.01


def test_the_window_in_which_arrays_changed_is_named() -> None:
    random = np.random.default_rng(3)
    kept = {"picture": random.normal(size=(150, 8, 8))}
    served = random.normal(size=(600, 8, 8))
    served[300:] += 0.8
    rows = observed({Key("output", "unrelated"): np.zeros(600)}, at=1_700_000_000.0 + np.arange(600))
    windows = cut(600, rows.at, Length(rows=100), 50)
    (column,) = judge_arrays({"picture": served}, kept, rows, windows, Limits())
    assert (column.name, column.kind, column.state, column.since_row) == ("picture", "array", "drift", 300)
    assert [point.drift for point in column.points] == [False] * 3 + [True] * 3
    assert column.since == rows.when(300)


def test_equal_rows_are_no_difference() -> None:
    rows = np.zeros((50, 4))
    found = compare_vectors(rows, rows)
    assert found.p_value == 1.0
    assert found.told_apart == 0.5
