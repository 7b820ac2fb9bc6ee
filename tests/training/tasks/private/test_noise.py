"""Noise of counts: its distribution, and what it hides of one row."""

import random
from fractions import Fraction

import numpy as np
import pytest

from servable.training.tasks.private.noise import as_fraction, noisy_counts


def seeded(seed: int) -> "random.Random":
    return random.Random(seed)


def drawn(count: int, epsilon: Fraction, seed: int, rows: int = 20_000) -> np.ndarray:
    return noisy_counts(np.full(rows, count, np.int64), epsilon, seeded(seed).randrange)


@pytest.mark.parametrize("epsilon", [Fraction(1, 2), Fraction(1), Fraction(5, 2)])
def test_sizes_are_as_likely_as_the_distribution_says(epsilon: Fraction) -> None:
    noise = drawn(0, epsilon, 1)
    falls = float(np.exp(-float(epsilon)))
    for size in (-2, -1, 0, 1, 2):
        wanted = (1 - falls) / (1 + falls) * falls ** abs(size)
        error = 5 * np.sqrt(wanted * (1 - wanted) / len(noise))
        assert abs(np.mean(noise == size) - wanted) < error


def test_one_row_more_makes_no_answer_much_likelier() -> None:
    epsilon, most = Fraction(1, 2), float(np.exp(0.5))
    fewer, more = drawn(7, epsilon, 2), drawn(8, epsilon, 3)
    for bound in range(3, 13):
        for one, other in ((fewer, more), (more, fewer)):
            for said in (lambda found, at=bound: found <= at, lambda found, at=bound: found == at):
                share, against = np.mean(said(one)), np.mean(said(other))
                assert share <= most * against + 5 * np.sqrt(max(share, 1e-4) / len(one))
    # Were there half of the noise, this would find it.
    sure, surer = drawn(7, 4 * epsilon, 2), drawn(8, 4 * epsilon, 3)
    assert np.mean(sure <= 7) > most * np.mean(surer <= 7) + 0.05


def test_never_more_is_spent_than_was_asked() -> None:
    for epsilon in (0.1, 0.3, 1.0, 3.14159265, 8):
        assert 0 <= Fraction(epsilon) - as_fraction(epsilon) < Fraction(1, 10**6)
    assert as_fraction(1e-9) == 0
