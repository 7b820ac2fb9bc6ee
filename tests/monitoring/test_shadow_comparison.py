"""A version beside its shadow: sums in any order, and estimates whose intervals hold what is true."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from servable.monitoring.agreement import AGREES, Differences, Sight
from servable.monitoring.intervals import Estimate
from servable.monitoring.metrics import Metrics
from servable.monitoring.shadow_comparison import (
    Compared,
    Ratio,
    all_merged,
    compared_from,
    error_difference,
    findings,
    mean_of,
    merged,
    quantile_with_bounds,
    share_of,
)
from servable.monitoring.shadow_counts import Comparing
from servable.monitoring.steps import step_of
from servable.monitoring.totals import merge, past
from servable.tensors import PREDICTION, PROBABILITIES

#: Binary fractions, whose sums are exact in any order.
FRACTIONS = st.integers(-(2**20), 2**20).map(lambda ticks: ticks / 1024)


@st.composite
def copies(draw: st.DrawFn) -> tuple[str, Any]:
    """One copy: how it ended, and what was seen."""
    kind = draw(st.sampled_from(["both", "blind", "failed", "both_failed", "alone", "dropped"]))
    if kind != "both":
        return kind, None
    scores = np.array(draw(st.lists(FRACTIONS, min_size=1, max_size=5)))
    agreed = draw(st.integers(0, len(scores)))
    seconds = st.integers(1, 2**12).map(lambda ticks: ticks / 1024)
    return kind, (Differences(len(scores), agreed, scores), draw(seconds), draw(seconds))


def counted(*many: tuple[str, Any]) -> Compared:
    comparing = Comparing("iris", 1, 2)
    for kind, seen in many:
        match kind:
            case "both":
                comparing.both(*seen)
            case "blind":
                comparing.both(None, 0.5, 0.25)
            case "failed":
                comparing.failed("model_failed", real_failed=False)
            case "both_failed":
                comparing.failed("model_died", real_failed=True)
            case "alone":
                comparing.alone()
            case "dropped":
                comparing.drop()
    return comparing.compared()


@given(st.lists(copies(), max_size=20), st.lists(copies(), max_size=20))
def test_counting_apart_and_adding_is_counting_together(one: list[Any], other: list[Any]) -> None:
    together = counted(*one, *other)
    apart = merged([counted(*one), counted(*other)])
    assert msgspec.to_builtins(together, order="deterministic") == msgspec.to_builtins(
        apart, order="deterministic"
    )
    assert together.requests + together.dropped == len(one) + len(other)
    assert sum(together.codes.values()) == together.requests


def test_records_of_other_versions_stay_apart() -> None:
    other = Comparing("iris", 1, 3)
    other.alone()
    found = all_merged([[counted(("alone", None))], [other.compared(), counted(("alone", None))]])
    assert [(each.shadow, each.real_failed) for each in found] == [(2, 2), (3, 1)]


def test_sums_travel_as_plain_values_and_add_up() -> None:
    record = counted(("both", (Differences(1, 1, np.array([0.5])), 0.25, 0.5)), ("dropped", None))
    sums = msgspec.json.decode(msgspec.json.encode(record.sums()))
    assert compared_from("iris", 1, 2, sums) == record

    def doubled(value: Any) -> Any:
        return {key: doubled(inner) for key, inner in value.items()} if isinstance(value, dict) else 2 * value

    assert compared_from("iris", 1, 2, doubled(sums)) == merged([record, record])


@given(st.lists(copies(), max_size=30))
def test_every_estimate_lies_within_its_interval(many: list[Any]) -> None:
    found = findings(counted(*many))
    for name, estimate in found.items():
        value, low, high = estimate.value, estimate.low, estimate.high
        assert low <= value <= high, name
    if "agreement" in found:
        assert 0 <= found["agreement"].low <= found["agreement"].high <= 1


def test_nothing_seen_says_nothing() -> None:
    assert findings(counted()) == {}
    assert set(findings(counted(("failed", None)))) == {"error_difference"}


@pytest.mark.parametrize(("share", "rows"), [(0.9, 1), (0.5, 1), (0.99, 1), (0.8, 20)])
def test_intervals_of_agreement_hold_the_truth(share: float, rows: int) -> None:
    # Rows of one request are alike: with 20 rows each request has a share of its own.
    draw, held = np.random.default_rng(7), 0
    for _ in range(400):
        comparing = Comparing("iris", 1, 2)
        for _ in range(150):
            mine = share if rows == 1 else float(draw.choice([share - 0.2, share + 0.2]))
            comparing.both(Differences(rows, int(draw.binomial(rows, mine))), 1.0, 1.0)
        found = share_of(comparing.compared().agreement)
        assert found is not None
        held += found.low <= share <= found.high
    assert held / 400 >= 0.92


def test_intervals_of_errors_hold_the_truth() -> None:
    draw, held = np.random.default_rng(8), 0
    for _ in range(400):
        more, less = draw.multinomial(200, [0.06, 0.02, 0.92])[:2]
        record = Compared(
            model="iris", version=1, shadow=2, shadow_failed=more, real_failed=less, both_ok=200 - more - less
        )
        found = error_difference(record)
        assert found is not None
        held += found.low <= 0.04 <= found.high
    assert held / 400 >= 0.92


def test_one_request_bounds_no_mean() -> None:
    found = mean_of(Ratio(requests=1, rows=1, total=2.0, rows_squared=1, total_squared=4.0, product=2.0))
    assert found is not None
    assert (found.value, found.high) == (2.0, math.inf)


def test_quantiles_come_from_narrow_steps() -> None:
    steps: dict[int, int] = {}
    for index in range(1, 1001):
        step = step_of(index / 1000)
        steps[step] = steps.get(step, 0) + 1
    for level in (0.5, 0.95, 0.99):
        found = quantile_with_bounds(steps, level)
        assert found is not None
        assert found.value == pytest.approx(level, rel=0.1)
        assert found.low <= found.value <= found.high
    assert quantile_with_bounds({step_of(0.0): 3}, 0.5) == Estimate(0.0, 0.0, 0.0)


# ---------------------------------------------------------------------- answers


def test_one_row_and_many_are_compared_alike() -> None:
    draw = np.random.default_rng(3)
    real, shadow = draw.dirichlet(np.ones(3), 50), draw.dirichlet(np.ones(3), 50)
    sight = Sight(("a", "b", "c"), ("a", "b", "c"))

    def answers(chances: Any) -> dict[str, Any]:
        return {PREDICTION: chances.argmax(axis=1), PROBABILITIES: chances}

    many = sight.differences(answers(real), answers(shadow))
    assert many is not None
    assert many.scores is not None
    singles = [
        sight.differences(answers(real[row : row + 1]), answers(shadow[row : row + 1])) for row in range(50)
    ]
    assert sum(one.agreed for one in singles if one) == many.agreed
    assert [one.scores.item() for one in singles if one and one.scores is not None] == many.scores.tolist()
    expected = [shadow[row, real[row].argmax()] - real[row].max() for row in range(50)]
    assert many.scores == pytest.approx(expected)


def test_classes_are_compared_by_their_labels() -> None:
    sight = Sight(("no", "yes"), ("yes", "maybe", "no"))
    real = {PREDICTION: np.array([1, 0]), PROBABILITIES: np.array([[0.2, 0.8], [0.6, 0.4]])}
    shadow = {PREDICTION: np.array([0, 1]), PROBABILITIES: np.array([[0.7, 0.1, 0.2], [0.1, 0.6, 0.3]])}
    found = sight.differences(real, shadow)
    assert found is not None
    assert (found.rows, found.agreed) == (2, 1)
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([-0.1, -0.3])
    assert Sight((True, False), (1, 0)).differences(real, real) is not None
    unknown = Sight((True, False), (1, 0)).differences(real, real)
    assert unknown is not None
    assert unknown.agreed == 0


def test_numbers_agree_when_they_are_near() -> None:
    real = {PREDICTION: np.array([100.0, 0.0, np.nan, -1.0])}
    shadow = {PREDICTION: np.array([100.0 * (1 + AGREES / 2), 0.0, np.nan, 1.0])}
    found = Sight().differences(real, shadow)
    assert found is not None
    assert (found.rows, found.agreed) == (4, 3)


def test_texts_and_outputs_of_other_names_are_compared_too() -> None:
    texts = np.array(["a", "b"], object)
    found = Sight().differences({PREDICTION: texts}, {PREDICTION: np.array(["a", "c"], object)})
    assert found == Differences(2, 1, None)
    one = {"x": np.array([[1.0, 2.0], [3.0, 4.0]]), "t": texts}
    other = {"x": np.array([[1.0, 2.0], [3.0, 9.0]]), "t": texts}
    assert Sight().differences(one, other) == Differences(2, 1, None)
    assert Sight().differences(one, {"x": one["x"]}) is None
    assert Sight().differences({PREDICTION: texts}, {PREDICTION: texts[:1]}) is None


def test_differences_without_a_number_are_left_out() -> None:
    record = counted(("both", (Differences(2, 1, np.array([np.nan, 0.5])), 1.0, 1.0)))
    assert (record.scores.rows, record.scores.total) == (1, 0.5)
    assert record.agreement.rows == 2


# ---------------------------------------------------------------------- figures


def test_figures_show_the_comparison_of_all_workers() -> None:
    metrics = [Metrics("test"), Metrics("test")]
    for each in metrics:
        comparing = each.comparing("iris", 1, 2)
        assert comparing is each.comparing("iris", 1, 2)
        comparing.both(Differences(1, 1, np.array([0.25])), 0.001, 0.002)
        comparing.both(Differences(1, 0, np.array([0.25])), 0.001, 0.002)
        comparing.drop()
    total = merge([past(metrics[0].snapshot()), metrics[1].snapshot()])
    samples = {
        (sample.name, sample.labels.get("outcome") or sample.labels.get("bound", "")): sample.value
        for family in text_string_to_metric_families(metrics[0].render(total).decode())
        for sample in family.samples
        if sample.labels.get("shadow") == "2" and "quantile" not in sample.labels
    }
    assert samples["servable_shadow_requests_total", "both_ok"] == 4
    assert samples["servable_shadow_dropped_requests_total", ""] == 2
    assert samples["servable_shadow_agreement", "value"] == 0.5
    assert 0 < samples["servable_shadow_agreement", "low"] < 0.5
    assert samples["servable_shadow_score_difference", "value"] == 0.25
    assert samples["servable_shadow_latency_difference_seconds", "value"] == pytest.approx(0.001)
    assert b"servable_shadow" not in Metrics("test").render()


def test_texts_that_are_drawn_by_lot_are_left_out_and_all_else_is_compared() -> None:
    one = {PREDICTION: np.array(["a b"], object), "length": np.array([3])}
    other = {PREDICTION: np.array(["c"], object), "length": np.array([3])}
    assert Sight().differences(one, other) == Differences(1, 0, None)
    assert Sight(texts=False).differences(one, other) == Differences(1, 1)
    alone = {PREDICTION: one[PREDICTION]}, {PREDICTION: other[PREDICTION]}
    assert Sight(texts=False).differences(*alone) is None
    # The class of a classifier is a place among its labels, and no text.
    named = {PREDICTION: np.array([1])}
    assert Sight(("no", "yes"), ("no", "yes"), texts=False).differences(named, named) == Differences(1, 1)
