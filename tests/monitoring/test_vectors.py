"""Whole arrays against those kept."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import binom

from monitoring.columns import observed
from servable.monitoring.drift_records import Limits
from servable.monitoring.reference import Key
from servable.monitoring.vector_drift import judge_arrays
from servable.monitoring.vectors import Vectors, compare_vectors, narrowed, same_width
from servable.monitoring.windows import Length, cut

PICTURE = Key("input", "picture")
#: The first numbers of the projection of 0, 1, 2 ... 299.
PROJECTED = [-5.375, -195.875, -315.625]


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
    kept = {PICTURE: random.normal(size=(150, 8, 8))}
    served = random.normal(size=(600, 8, 8))
    served[300:] += 0.8
    rows = observed({Key("output", "unrelated"): np.zeros(600)}, at=1_700_000_000.0 + np.arange(600))
    windows = cut(600, rows.at, Length(rows=100), 50)
    (column,) = judge_arrays({PICTURE: Vectors(np.arange(600), served)}, kept, rows, windows, Limits())
    assert (column.name, column.kind, column.state, column.since_row) == ("picture", "array", "drift", 300)
    assert [point.drift for point in column.points] == [False] * 3 + [True] * 3
    assert column.since == rows.when(300)


def walk(rows: int, width: int, likeness: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal rows, each of which resembles the one before."""
    noise = random.normal(size=(rows, width)) * np.sqrt(1 - likeness**2)
    noise[0] /= np.sqrt(1 - likeness**2)
    found: NDArray[np.float64] = lfilter([1.0], [1.0, -likeness], noise, axis=0)
    return found


@pytest.mark.parametrize(("width", "likeness"), [(4, 0.3), (64, 0.5), (400, 0.5)])
def test_rows_that_resemble_their_neighbours_are_no_drift(width: int, likeness: float) -> None:
    random = np.random.default_rng(7)
    rows = observed({Key("output", "unrelated"): np.zeros(1200)})
    windows = cut(1200, None, Length(rows=150), 50)
    kept = {PICTURE: random.normal(size=(120, width))}
    points = []
    for _ in range(2):
        served = Vectors(np.arange(1200), walk(1200, width, likeness, random))
        (column,) = judge_arrays({PICTURE: served}, kept, rows, windows, Limits())
        points += column.points
    # A window without enough rows that are independent is left out.
    assert len(points) >= 12
    assert sum(point.p_value <= 0.05 for point in points) <= binom.ppf(0.999, 16, 0.05)
    assert sum(point.drift for point in points) <= binom.ppf(0.999, 16, 0.01)
    moved = Vectors(np.arange(1200), walk(1200, width, likeness, random) + 0.8)
    (column,) = judge_arrays({PICTURE: moved}, kept, rows, windows, Limits())
    assert (column.state, column.since_row) == ("drift", 0)


def test_rows_that_hardly_move_are_not_judged() -> None:
    random = np.random.default_rng(8)
    rows = observed({Key("output", "unrelated"): np.zeros(400)})
    served = Vectors(np.arange(400), walk(400, 64, 0.97, random))
    kept = {PICTURE: random.normal(size=(120, 64))}
    (column,) = judge_arrays({PICTURE: served}, kept, rows, cut(400, None, Length(rows=200), 50), Limits())
    assert (column.state, column.points) == ("unknown", ())


def test_rows_that_were_kept_narrow_compare_as_whole_ones_do() -> None:
    random = np.random.default_rng(9)
    before, now = random.random((100, 3, 40, 40)), random.random((80, 3, 40, 40)) + 0.05
    whole, narrow = compare_vectors(before, now), compare_vectors(narrowed(before), now)
    assert whole == narrow
    assert whole.p_value == 0.001
    assert narrowed(before).shape == (100, 256)
    # Distances are about as they were.
    far = np.linalg.norm(before[0] - before[1]), np.linalg.norm(narrowed(before)[0] - narrowed(before)[1])
    assert far[0] == pytest.approx(far[1], rel=0.25)
    assert narrowed(np.array([[np.nan, np.inf, 1.0]])).tolist() == [[0.0, 0.0, 1.0]]
    # Packages that were made long ago hold what this gives, so it must never change.
    assert narrowed(np.arange(300.0)[None])[0, :3] == pytest.approx(PROJECTED)
    assert same_width(narrowed(before), now)
    assert same_width(before, now)
    assert not same_width(np.zeros((2, 8)), np.zeros((2, 9)))


def test_rows_without_an_array_leave_the_others_in_their_places() -> None:
    vectors = Vectors(np.array([1, 3, 4, 9]), np.arange(4.0)[:, None])
    assert vectors.between(2, 5).ravel().tolist() == [1.0, 2.0]
    assert vectors.between(5, 9).size == 0


def test_equal_rows_are_no_difference() -> None:
    rows = np.zeros((50, 4))
    found = compare_vectors(rows, rows)
    assert found.p_value == 1.0
    assert found.told_apart == 0.5
