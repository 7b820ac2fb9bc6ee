"""The private forest: splits that know no row, counts hidden by noise, and a model that learns."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from servable.errors import SettingInvalid
from servable.training.tasks.private import forest
from servable.training.tasks.private.budget import Budget

DOMAIN = forest.Domain(
    np.asarray([-1.0, -1.0, -1.0]), np.asarray([1.0, 1.0, 3.0]), np.asarray([False, False, True])
)


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    seen = np.column_stack([random.uniform(-1, 1, (count, 2)), random.integers(0, 4, count)])
    return seen, (seen[:, 0] + 0.5 * (seen[:, 2] > 1) > 0.2).astype(np.int64)


def fitted(seen: np.ndarray, truth: np.ndarray, epsilon: float, seed: int = 0) -> RandomForestClassifier:
    return forest.fit(seen, truth, 2, DOMAIN, Budget(epsilon), seed=seed)[0]


def test_it_learns_and_more_budget_is_better() -> None:
    seen, truth = rows(4000, 0)
    asked, right = rows(2000, 1)
    found = {epsilon: fitted(seen, truth, epsilon).score(asked, right) for epsilon in (0.001, 2.0)}
    assert found[2.0] > 0.85
    assert found[2.0] > found[0.001] + 0.1


def test_splits_know_nothing_of_the_rows_and_stay_within_the_bounds() -> None:
    one, other = (fitted(*rows(count, count), 1.0, seed=7) for count in (1000, 1001))
    for tree, twin in zip(one.estimators_, other.estimators_, strict=True):
        np.testing.assert_array_equal(tree.tree_.threshold, twin.tree_.threshold)
        np.testing.assert_array_equal(tree.tree_.feature, twin.tree_.feature)
        inner = tree.tree_.children_left >= 0
        assert (np.abs(tree.tree_.threshold[inner]) <= 3).all()
        # How many rows were where is in no node.
        assert set(tree.tree_.n_node_samples) == {1}
    # The noise is another each time, with the same seed.
    again = fitted(*rows(1000, 1000), 1.0, seed=7)
    assert not np.array_equal(one.estimators_[0].tree_.value, again.estimators_[0].tree_.value)


@pytest.mark.soak
def test_one_row_more_makes_no_answer_of_its_leaf_much_likelier() -> None:
    """The whole mechanism on neighbouring tables, judged by what it answers for the row they differ in."""
    seen, truth = rows(40, 2)
    person = np.asarray([[0.9, 0.9, 3.0]])
    runs, epsilon = 700, 0.5
    without = [fitted(seen, 0 * truth, epsilon).predict_proba(person)[0, 1] for _ in range(runs)]
    more = np.vstack([seen, person]), np.append(0 * truth, 1)
    having = [fitted(*more, epsilon).predict_proba(person)[0, 1] for _ in range(runs)]
    for bound in np.quantile(without + having, np.linspace(0.05, 0.95, 10)):
        for one, other in ((without, having), (having, without)):
            for sign in (1, -1):
                share = np.mean(sign * np.asarray(one) <= sign * bound)
                against = np.mean(sign * np.asarray(other) <= sign * bound)
                assert share <= np.exp(epsilon) * against + 5 * np.sqrt(0.25 / runs)


def test_columns_that_allow_no_split_are_left_alone() -> None:
    domain = forest.Domain(np.asarray([1.0]), np.asarray([1.0]), np.asarray([False]))
    made, _ = forest.fit(np.ones((50, 1)), np.zeros(50, np.int64), 2, domain, Budget(1.0), seed=0)
    assert {member.tree_.node_count for member in made.estimators_} == {1}
    assert made.predict_proba(np.ones((1, 1)))[0].sum() == pytest.approx(1)


def test_a_budget_too_small_to_be_kept_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="at least"):
        fitted(*rows(50, 0), 1e-8)
