"""What of a lead may be chance."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from servable.training.chance import at_least, surely_better

BITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(st.integers(1, 10_000), st.data())
def test_an_accuracy_is_surely_less_than_it_looks(rows: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(1, rows))
    share = right / rows
    assert 0 <= at_least(share, rows) < share
    # More rows say it more surely.
    assert at_least(share, rows) < at_least(share, 4 * rows)


@given(BITS)
def test_a_lead_is_one_sided_and_nothing_that_both_share_counts(pairs: list[tuple[bool, bool]]) -> None:
    one, other = (np.array(side, bool) for side in zip(*pairs, strict=True))
    assert not (surely_better(one, other) and surely_better(other, one))
    both = np.ones(50, bool)
    assert surely_better(one, other) == surely_better(np.append(one, both), np.append(other, both))


def test_a_lead_of_chance_is_none() -> None:
    # Of 16 rows on which only one of two is right, 10 to 6 is chance, and 11 to 5 is more than one sigma.
    won = np.arange(16)
    assert not surely_better(won < 10, won >= 10)
    assert surely_better(won < 11, won >= 11)
    assert not surely_better(np.ones(9, bool), np.ones(9, bool))
