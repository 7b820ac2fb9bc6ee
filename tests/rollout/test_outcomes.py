import pyarrow as pa

from servable.rollout.outcomes import by_version
from servable.rollout.sequential import Moments


def test_labels_rewards_and_answers_by_version() -> None:
    table = pa.table(
        {
            "version": pa.array([1, 1, 1, 2, 2], pa.int32()),
            "out.prediction": ["a", "b", "a", "a", "a"],
            "outcome": ["a", "a", None, "b", "a"],
            "reward": [1.0, None, 0.5, None, float("nan")],
        }
    )
    found = by_version(table, numbers=False)
    assert (found[1].labels, found[1].right, found[1].outputs) == (2, 1, {"a": 2, "b": 1})
    assert found[1].rewards == Moments(2, 1.5, 1.25)
    assert (found[2].labels, found[2].right, found[2].rewards) == (2, 1, Moments())


def test_numbers_have_losses() -> None:
    table = pa.table(
        {
            "version": [1, 1, 1, 1],
            "out.prediction": [1.0, 2.0, 3.0, None],
            "outcome": ["1.5", "soon", None, "4"],
            "reward": pa.nulls(4, pa.float64()),
        }
    )
    found = by_version(table, numbers=True)[1]
    assert (found.losses, found.labels, found.outputs) == (Moments(1, 0.25, 0.0625), 0, {})


def test_a_table_without_labels_has_none() -> None:
    assert by_version(pa.table({"version": [3]}), numbers=False)[3].labels == 0
