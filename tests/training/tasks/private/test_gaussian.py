"""Gaussian noise: how much a budget asks for, and that it is as it should be."""

import random

import numpy as np
import pytest
from scipy.stats import kstest

from servable.training.tasks.private.gaussian import delta_of, multiplier, noise


def test_the_noise_is_what_others_have_worked_out() -> None:
    # Of the analytic Gaussian mechanism, as its authors' program gives it.
    assert multiplier(1.0, 1e-5, 1) == pytest.approx(3.7304, abs=1e-3)
    assert multiplier(1.0, 1e-5, 16) == pytest.approx(4 * multiplier(1.0, 1e-5, 1))


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.01])
def test_no_more_is_spent_than_is_asked_and_hardly_less(epsilon: float, delta: float) -> None:
    looks = 1 / multiplier(epsilon, delta, 1)
    assert delta_of(epsilon, looks) <= delta
    assert delta_of(epsilon, looks * 1.001) > delta


@pytest.mark.parametrize("epsilon", [0.3, 2.0])
def test_the_delta_is_that_of_the_definition(epsilon: float) -> None:
    """Of two Gaussians one look apart: the most by which one is likelier beyond the factor, by adding up."""
    looks = 0.8
    at = np.linspace(-12, 12, 200_001)
    one, other = (np.exp(-((at - middle) ** 2) / 2) / np.sqrt(2 * np.pi) for middle in (looks, 0.0))
    more = np.maximum(one - np.exp(epsilon) * other, 0).sum() * (at[1] - at[0])
    assert delta_of(epsilon, looks) == pytest.approx(more, rel=1e-3)


def test_noise_is_gaussian_and_the_systems_own() -> None:
    seeded = noise((200, 100), 3.0, random.Random(5).randbytes).ravel()
    assert kstest(seeded / 3.0, "norm").pvalue > 0.01
    assert abs(np.corrcoef(seeded[:-1], seeded[1:])[0, 1]) < 0.03
    np.random.seed(0)
    first = noise((4,), 1.0)
    np.random.seed(0)
    assert not np.array_equal(first, noise((4,), 1.0))


def test_noise_is_finite_and_symmetric_at_the_ends_of_what_can_be_drawn() -> None:
    least = noise((3,), 1.0, lambda count: b"\x00" * count)
    most = noise((3,), 1.0, lambda count: b"\xff" * count)
    assert np.isfinite(most).all()
    assert np.allclose(least, -most)
