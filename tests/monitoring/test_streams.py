"""Errors and answers followed row by row."""

import numpy as np
import pytest

from monitoring.columns import observed, texts
from servable.errors import DependencyMissing
from servable.monitoring import streams
from servable.monitoring.drift_records import Limits
from servable.monitoring.reference import Key

ERROR = Key("quality", "error")


@pytest.fixture(autouse=True)
def _detectors() -> None:
    pytest.importorskip("river", reason="the detectors are river's, of the extra monitoring")


def verdicts(random: np.random.Generator, shares: list[tuple[int, float]]) -> np.ndarray:
    return texts(
        np.concatenate([np.where(random.random(rows) < wrong, "wrong", "right") for rows, wrong in shares])
    )


def test_errors_that_grow_are_seen_by_both_detectors_near_the_row() -> None:
    values = verdicts(np.random.default_rng(0), [(3000, 0.1), (3000, 0.4)])
    at = 1_700_000_000.0 + np.arange(6000)
    (stream,) = streams.follow(observed({ERROR: values}, at), Limits())
    assert {change.detector for change in stream.changes} == {"adwin", "page-hinkley"}
    for change in stream.changes:
        assert 2800 < change.row < 3300
        assert change.before == pytest.approx(0.1, abs=0.05)
        assert change.after == pytest.approx(0.4, abs=0.05)
        assert change.at.startswith("2023-11-14")


def test_steady_streams_stay_quiet() -> None:
    random = np.random.default_rng(1)
    for _ in range(10):
        rows = observed(
            {
                ERROR: verdicts(random, [(4000, 0.3)]),
                Key("output", "prediction"): random.normal(size=4000),
                Key("output", "probability"): random.random(4000),
            }
        )
        assert all(stream.changes == () for stream in streams.follow(rows, Limits()))


def test_labels_that_are_missing_are_passed_over() -> None:
    values = verdicts(np.random.default_rng(2), [(6000, 0.1), (6000, 0.5)])
    values[::2] = ""
    (stream,) = streams.follow(observed({ERROR: values}), Limits())
    assert stream.changes
    assert all(5700 < change.row < 6600 for change in stream.changes)


def test_labels_of_a_classifier_are_no_stream_and_few_rows_are_none_either() -> None:
    rows = observed({Key("output", "prediction"): texts(["a", "b"] * 500)})
    assert streams.follow(rows, Limits()) == ()
    assert streams.follow(observed({ERROR: texts(["right"] * 50)}), Limits()) == ()


def test_without_river_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(DependencyMissing, match=r"servable\[monitoring\]"):
        streams.follow(observed({ERROR: texts(["right", "wrong"] * 100)}), Limits())
