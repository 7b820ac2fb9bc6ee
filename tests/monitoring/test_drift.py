"""Drift: what is named, since when, and that nothing is cried while nothing changes."""

import numpy as np
import pytest
from scipy.stats import binom

from monitoring.columns import category, number, observed, one, quality, texts
from servable.artifact.profile import of_numbers
from servable.monitoring.drift import judge
from servable.monitoring.drift_records import Limits
from servable.monitoring.reference import Key, Reference, of_profile
from servable.monitoring.windows import Length, cut

DAY = 86_400.0
LIMITS = Limits()
WORDS = np.array(["red", "green", "blue", "black", "white"])


class World:
    """Eight columns of several kinds, and rows drawn from them."""

    def __init__(self, seed: int, reference_rows: int = 8000) -> None:
        self.random = np.random.default_rng(seed)
        drawn = self.rows(reference_rows)
        self.references: list[Reference] = [
            number("normal", drawn["normal"]),
            number("skewed", drawn["skewed"]),
            number("count", drawn["count"]),
            number("mostly zero", drawn["mostly zero"]),
            number("with gaps", drawn["with gaps"]),
            category("colour", _counted(drawn["colour"])),
            category("rare", _counted(drawn["rare"])),
            category("flag", _counted(drawn["flag"])),
        ]

    def rows(self, size: int) -> dict[str, np.ndarray]:
        random = self.random
        gaps = random.normal(size=size)
        gaps[random.random(size) < 0.2] = np.nan
        zero = np.where(random.random(size) < 0.8, 0.0, random.exponential(size=size))
        return {
            "normal": random.normal(size=size),
            "skewed": random.lognormal(size=size),
            "count": random.poisson(3, size=size).astype(float),
            "mostly zero": zero,
            "with gaps": gaps,
            "colour": texts(random.choice(WORDS, size=size, p=[0.4, 0.3, 0.2, 0.07, 0.03])),
            "rare": texts([f"v{place}" for place in random.zipf(1.7, size=size).clip(max=300)]),
            "flag": texts(random.choice(["true", "false"], size=size, p=[0.9, 0.1])),
        }

    def observed(self, rows: dict[str, np.ndarray], at: np.ndarray | None = None):
        return observed({Key("input", name): values for name, values in rows.items()}, at)


def judged(reference: Reference, values: np.ndarray, window: int):
    """What became of one column, in windows of so many rows."""
    windows = cut(len(values), None, Length(rows=window), LIMITS.least_rows)
    (column,) = judge([reference], one(reference, values), windows, LIMITS)
    return column


def _counted(values: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("rows", [60, 200, 2000])
def test_windows_drawn_from_the_reference_alarm_in_no_more_than_the_stated_share(rows: int) -> None:
    world = World(seed=rows)
    drawn = world.rows(200 * rows)
    found = judge(
        world.references, world.observed(drawn), cut(200 * rows, None, Length(rows=rows), 50), LIMITS
    )
    alarmed = {place for column in found for place, point in enumerate(column.points) if point.drift}
    # So many or more would be seen in one of a thousand runs if the share were just as stated.
    assert len(alarmed) < binom.ppf(0.999, 200, LIMITS.alpha)


def test_the_tests_alone_keep_the_share_when_every_effect_counts() -> None:
    world = World(seed=5)
    loose = Limits(alpha=0.05, effect=0.0, missing=0.0)
    drawn = world.rows(300 * 300)
    windows = cut(300 * 300, None, Length(rows=300), 50)
    found = judge(world.references, world.observed(drawn), windows, loose)
    alarmed = {place for column in found for place, point in enumerate(column.points) if point.drift}
    assert len(alarmed) < binom.ppf(0.999, 300, 0.05)


def test_rows_that_resemble_their_neighbours_do_not_cry_wolf() -> None:
    random = np.random.default_rng(3)

    def walk(size: int) -> np.ndarray:
        # Each value keeps 0.95 of the one before, so a window of 100 rows is worth about three.
        noise = random.normal(scale=np.sqrt(1 - 0.95**2), size=size)
        values = np.empty(size)
        values[0] = random.normal()
        for place in range(1, size):
            values[place] = 0.95 * values[place - 1] + noise[place]
        return values

    reference = number("slow", walk(50_000))
    rows = one(reference, walk(200 * 100))
    (column,) = judge([reference], rows, cut(20_000, None, Length(rows=100), 50), LIMITS)
    assert sum(point.drift for point in column.points) < binom.ppf(0.999, 200, LIMITS.alpha)


def test_a_shift_is_named_with_the_day_on_which_it_began() -> None:
    world = World(seed=1)
    rows = world.rows(20 * 300)
    rows["skewed"][12 * 300 + 100 :] *= 3
    at = 1_700_000_000.0 // DAY * DAY + np.arange(6000) * (DAY / 300)
    found = judge(world.references, world.observed(rows, at), cut(6000, at, Length(seconds=DAY), 50), LIMITS)
    first = found[0]
    assert (first.name, first.state, first.kind) == ("skewed", "drift", "number")
    assert [column.name for column in found if column.state != "steady"] == ["skewed"]
    assert first.since_row is not None
    assert abs(first.since_row - 3700) < 15
    assert first.since.startswith("2023-11-26")
    assert first.until == ""
    assert first.strongest is not None
    assert first.strongest.wasserstein > 0.5
    assert first.picture is not None
    assert abs(sum(first.picture.now) - 1) < 1e-9
    assert abs(sum(first.picture.before) - 1) < 1e-9


def test_a_drift_that_ended_is_over() -> None:
    world = World(seed=2)
    rows = world.rows(20 * 300)
    rows["normal"][5 * 300 : 9 * 300] += 2
    found = judge(world.references, world.observed(rows), cut(6000, None, Length(rows=300), 50), LIMITS)
    first = found[0]
    assert (first.name, first.state, first.since_row) == ("normal", "over", pytest.approx(1500, abs=5))
    assert first.until == "row 2,700"


def test_a_constant_that_begins_to_vary_is_found_at_the_very_row() -> None:
    random = np.random.default_rng(4)
    constant = np.full(10_000, 0.414912)
    reference = number("transfer", constant)
    values = constant[:5000].copy()
    values[3217:] = random.normal(0.414912, 0.2, 5000 - 3217)
    (column,) = judge([reference], one(reference, values), cut(5000, None, Length(rows=250), 50), LIMITS)
    assert column.state == "drift"
    assert column.since_row == 3217
    assert column.strongest is not None
    assert column.strongest.unseen == 1.0
    assert column.strongest.wasserstein is None


def test_values_below_what_a_constant_was_are_not_taken_for_it() -> None:
    reference = number("floor", np.full(1000, 5.0))
    (column,) = judge(
        [reference], one(reference, np.full(400, 1.0)), cut(400, None, Length(rows=200), 50), LIMITS
    )
    assert (column.state, column.since_row) == ("drift", 0)


def test_new_categories_are_named_most_frequent_first() -> None:
    reference = category("plan", {"basic": 500, "pro": 500})
    values = texts((["basic", "pro"] * 300) + (["basic", "gold", "gold", "trial"] * 75))
    (column,) = judge([reference], one(reference, values), cut(900, None, Length(rows=300), 50), LIMITS)
    assert column.state == "drift"
    assert column.new_values == ("gold", "trial")
    assert column.since_row == pytest.approx(600, abs=3)


def test_missing_values_are_a_reason_of_their_own() -> None:
    random = np.random.default_rng(6)
    reference = number("income", random.normal(size=5000))
    values = random.normal(size=2000)
    values[1000:][random.random(1000) < 0.3] = np.nan
    (column,) = judge([reference], one(reference, values), cut(2000, None, Length(rows=250), 50), LIMITS)
    assert column.state == "drift"
    assert column.strongest is not None
    assert column.strongest.reasons == ("missing",)
    assert column.since_row == pytest.approx(1000, abs=10)


def test_a_large_sample_alone_is_no_drift() -> None:
    random = np.random.default_rng(7)
    reference = number("many", random.normal(size=100_000))
    values = random.normal(0.05, 1, size=200_000)
    (column,) = judge(
        [reference], one(reference, values), cut(200_000, None, Length(rows=100_000), 50), LIMITS
    )
    assert column.points[0].p_value < 1e-9
    assert column.state == "steady"


def test_answers_that_get_better_are_no_drift_and_worse_ones_are() -> None:
    random = np.random.default_rng(8)
    reference = quality(800, 200)

    def verdicts(wrong: float) -> str:
        values = texts(np.where(random.random(1500) < wrong, "wrong", "right"))
        windows = cut(1500, None, Length(rows=500), 50)
        return judge([reference], one(reference, values), windows, LIMITS)[0].state

    assert verdicts(0.05) == "steady"
    assert verdicts(0.2) == "steady"
    assert verdicts(0.4) == "drift"


def test_labels_that_did_not_come_say_nothing() -> None:
    reference = quality(800, 200)
    (column,) = judge(
        [reference], one(reference, texts([""] * 400)), cut(400, None, Length(rows=200), 50), LIMITS
    )
    assert column.state in ("unknown", "steady")
    assert not any(point.drift for point in column.points)


def test_a_season_shorter_than_what_was_looked_at_is_noted() -> None:
    random = np.random.default_rng(9)
    reference = number("demand", random.normal(size=10_000))
    weeks = np.arange(60 * 200) // 200 % 7
    values = random.normal(size=60 * 200) + np.where(weeks >= 5, 2.0, 0.0)
    (column,) = judge([reference], one(reference, values), cut(12_000, None, Length(rows=200), 50), LIMITS)
    assert column.season == 7
    assert column.episodes > 2


def test_lengths_of_texts_are_compared() -> None:
    column = of_profile("input", of_numbers("note", np.arange(20, 60, dtype=float), kind="text"))
    assert column is not None
    assert column.text
    values = texts(["x" * 300] * 200)
    (found,) = judge([column], one(column, values), cut(200, None, Length(rows=100), 50), LIMITS)
    assert found.state == "drift"


def test_no_rows_and_no_columns_give_nothing() -> None:
    reference = number("n", np.arange(100.0))
    assert judge([reference], one(reference, np.empty(0)), (), LIMITS)[0].state == "unknown"
    assert judge([], one(reference, np.arange(5.0)), (), LIMITS) == ()
