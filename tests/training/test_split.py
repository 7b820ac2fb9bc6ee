"""Splits: shares, classes, order, repeatability, no overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid
from servable.training.split import folds, hold_out, thinned

classes = st.lists(st.integers(5, 30), min_size=2, max_size=4).map(
    lambda counts: np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
)


@given(classes, st.sampled_from([0.1, 0.2, 0.35, 0.5]), st.integers(0, 5))
def test_held_out_rows_are_never_learned_from_and_have_every_class(truth, share, seed):
    split = hold_out(len(truth), truth, "classification", share=share, seed=seed)
    assert sorted([*split.train, *split.holdout]) == list(range(len(truth)))
    assert set(truth[split.train]) == set(truth)
    assert (np.diff(split.train) > 0).all()
    again = hold_out(len(truth), truth, "classification", share=share, seed=seed)
    assert np.array_equal(split.holdout, again.holdout)


@given(st.integers(20, 500), st.floats(0.05, 0.5))
def test_in_time_order_everything_held_out_comes_after_everything_learned(size, share):
    split = hold_out(size, None, "regression", share=share, time_order=True)
    assert split.train.max() < split.holdout.min()
    assert len(split.train) + len(split.holdout) == size


@given(classes, st.integers(2, 6))
def test_folds_validate_every_row_once(truth, count):
    found = folds(truth, len(truth), "classification", count=count)
    assert sorted(np.concatenate([check for _, check in found])) == list(range(len(truth)))
    assert all(not set(fit) & set(check) for fit, check in found)


@given(st.integers(30, 300), st.integers(2, 6))
def test_folds_in_time_order_never_look_ahead(size, count):
    for fit, check in folds(None, size, "regression", count=count, time_order=True):
        assert fit.max() < check.min()


@given(classes, st.booleans())
def test_thinning_keeps_order_and_rows(truth, time_order):
    rows = np.arange(len(truth))[::1]
    most = max(len(truth) // 2, len(set(truth)))
    kept = thinned(rows, truth, "classification", most, time_order=time_order, seed=0)
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    assert set(kept) <= set(rows)


def test_impossible_shares_and_folds_are_refused():
    for share in (0, -0.1, 0.9):
        with pytest.raises(SettingInvalid, match="share"):
            hold_out(100, None, "regression", share=share)
    with pytest.raises(SettingInvalid, match="folds"):
        folds(None, 100, "regression", count=1)
