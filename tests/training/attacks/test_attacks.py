"""Attacks on real models: what overfits gives its rows away, linear ones are copied."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bench.alarms import signature
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES
from servable.training.attacks import extraction, membership, page, telling, wording
from servable.training.attacks.membership import Side
from servable.training.attacks.records import PrivacyReport

ROWS = 500


def noisy() -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of which a fifth have the wrong label, which only who learned them by heart gets right."""
    return make_classification(2 * ROWS, 10, n_informative=4, flip_y=0.4, random_state=0)


def asking(model: Any) -> Callable[[Any], dict[str, Any]]:
    def ask(arrays: Any) -> dict[str, Any]:
        rows = arrays[NUMBERS]
        if not hasattr(model, "predict_proba"):
            return {PREDICTION: model.predict(rows)}
        chances = model.predict_proba(rows)
        return {PREDICTION: chances.argmax(axis=1), PROBABILITIES: chances}

    return ask


def attacked(model: Any, x: NDArray[Any], y: NDArray[Any]) -> membership.Found:
    """The attacks on a model that is fitted on the first half of the rows."""
    half = len(x) // 2
    ask = asking(model.fit(x[:half], y[:half]))
    sides = [Side({NUMBERS: rows}, truth, ask({NUMBERS: rows})) for rows, truth in
             ((x[:half], y[:half]), (x[half:], y[half:]))]  # fmt: skip
    return membership.attacked(signature(x.shape[1]), *sides, ask)


def test_a_forest_that_learned_by_heart_gives_its_rows_away() -> None:
    found = attacked(RandomForestClassifier(30, random_state=0), *noisy())
    by_name = {attack.name: attack for attack in found.attacks}
    assert found.attacks[0].auc > 0.8
    assert by_name["confidence"].sure
    assert max(attack.tpr_low for attack in found.attacks) > 0.01
    # To hide the probabilities does not help: labels alone give them away.
    assert by_name["label"].auc_low > 0.55
    assert by_name["robustness"].auc_low > 0.55
    said = wording.said_of_members(found.attacks, found.blind, ROWS, ROWS)
    assert "An attacker who has" in said[0]
    assert any("--privacy-epsilon" in sentence for sentence in said)


def test_a_model_that_is_held_back_does_not() -> None:
    found = attacked(LogisticRegression(C=0.01), *noisy())
    assert not any(attack.sure for attack in found.attacks)
    assert all(attack.auc < 0.58 for attack in found.attacks)
    assert wording.said_of_members(found.attacks, found.blind, ROWS, ROWS)[0].startswith("None of 6 attacks")


def test_files_that_differ_by_themselves_are_noticed() -> None:
    x, y = noisy()
    x[ROWS:] += 1.0
    found = attacked(LogisticRegression(C=0.01), x, y)
    assert found.blind is not None
    assert found.blind.sure
    assert any("differ by themselves" in said for said in wording.said_of_members(
        found.attacks, found.blind, ROWS, ROWS))  # fmt: skip


def test_a_linear_model_is_copied_by_as_many_questions_as_it_has_weights() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    model = LogisticRegression().fit(x, y)
    found, usual = extraction.extracted(signature(x.shape[1]), {NUMBERS: x}, asking(model), queries=400)
    equations, surrogate = found
    assert equations.points[0].queries < 100
    enough = next(point for point in equations.points if point.queries > x.shape[1])
    assert enough.queries <= 2 * x.shape[1] + 2
    assert enough.fidelity == 1.0
    # A copy that sees labels only needs more.
    assert usual < surrogate.points[-1].fidelity < 1.0
    assert surrogate.points[-1].fidelity > surrogate.points[0].fidelity
    assert "probabilities" in wording.said_of_copies(found, usual, numbers=False)[0]


def test_a_linear_model_of_numbers_is_copied_too() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 6))
    model = Ridge().fit(x, x @ np.arange(6) + random.normal(size=400))
    found, _ = extraction.extracted(signature(6, numbers=True), {NUMBERS: x}, asking(model), queries=60)
    assert found[0].points[0].queries <= 25
    assert found[0].points[-1].fidelity == pytest.approx(1.0, abs=1e-9)


SCORES = st.lists(st.integers(0, 20), min_size=10, max_size=80)


@given(SCORES, SCORES)
def test_the_auc_is_the_usual_one_and_its_interval_holds_it(members: list[int], others: list[int]) -> None:
    held = [np.asarray(side, float) for side in (members, others)]
    value, error = telling.auc(*held)
    truth = [1] * len(members) + [0] * len(others)
    assert value == pytest.approx(roc_auc_score(truth, [*members, *others]))
    assert error >= 0
    # At most the allowed share of the others is accused.
    shown = telling.found_at(*held, alarms=0.1)
    limits = np.sort(held[1])[::-1]
    limit = limits[int(0.1 * len(others))]
    assert (held[1] > limit).mean() <= 0.1
    assert shown == pytest.approx((held[0] > limit).mean())


@given(SCORES, SCORES, st.integers(1, 6), st.sampled_from([0.01, 0.1]))
def test_the_interval_of_what_is_found_holds_it(
    members: list[int], others: list[int], tried: int, alarms: float
) -> None:
    held = [np.asarray(side, float) for side in (members, others)]
    low, high = telling.found_between(*held, tried, alarms)
    assert 0 <= low <= telling.found_at(*held, alarms) <= high <= 1
    # With more attacks each has to be surer.
    assert telling.found_between(*held, tried + 1, alarms)[0] <= low


def test_intervals_of_what_is_found_hold_the_truth_as_often_as_they_say() -> None:
    random, truth, held, sure = np.random.default_rng(0), norm.sf(norm.isf(0.01) - 1.5), 0, 0
    for _ in range(200):
        low, high = telling.found_between(random.normal(1.5, size=400), random.normal(size=400))
        held += low <= truth <= high
        sure += low > telling.ALARMS
    assert held >= 190
    # Much more than guessing is seen to be so.
    assert sure >= 190


def test_an_attack_that_guesses_is_hardly_ever_called_sure() -> None:
    random = np.random.default_rng(0)
    sure = [
        telling.attack(
            "x", "x", "x", telling.Scores(random.normal(size=200), random.normal(size=200)), tried=5
        ).sure
        for _ in range(100)
    ]
    assert sum(sure) <= 5


def test_the_page_holds_everything_that_it_shows() -> None:
    x, y = noisy()
    found = attacked(LogisticRegression(), x, y)
    copies, usual = extraction.extracted(
        signature(10), {NUMBERS: x}, asking(LogisticRegression().fit(x, y)), queries=100
    )
    report = PrivacyReport(
        model="<b>noisy</b>", version=3, task="classification", asked="here", members=ROWS, others=ROWS,
        left_out=0, attacks=found.attacks, blind=found.blind, extractions=copies, usual=usual,
        verdict=("Said of members.",), copying=("Said of copies.",), privacy={"epsilon": 1.0},
    )  # fmt: skip
    text = page.render(report)
    assert text.count("<svg") == 2
    assert "&lt;b&gt;noisy" in text
    assert "Said of members." in text
    assert "://" not in text.replace("http://www.w3.org", "")
