"""How many examples a property is tried on: some of them in every run, many times as many in the long one."""

import os

#: ``make soak`` sets it to more than 1.
SHARE = float(os.environ.get("SERVABLE_TEST_EXAMPLES", "0.25"))


def examples(count: int) -> int:
    """The number of examples of this run.

    Args:
        count: how many make one confident.
    """
    return max(10, round(count * SHARE))
