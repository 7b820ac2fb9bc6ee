"""The gate, over generated metrics and limits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid
from servable.training.gate import judge, parse_minimums
from servable.training.measures import HIGHER_IS_BETTER

names = st.sampled_from(sorted(HIGHER_IS_BETTER))
values = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.dictionaries(names, st.tuples(values, values), max_size=6))
def test_it_passes_exactly_when_every_limit_is_kept(pairs):
    metrics = {name: value for name, (value, _) in pairs.items()}
    limits = {name: limit for name, (_, limit) in pairs.items()}
    verdict = judge(metrics, limits)
    bad = [n for n in limits if (metrics[n] < limits[n] if HIGHER_IS_BETTER[n] else metrics[n] > limits[n])]
    assert verdict.passed == (not bad)
    assert len(verdict.failed) == len(bad)
    assert all(sentence.startswith(f"{name} is") for sentence, name in zip(verdict.failed, bad, strict=True))
    assert all((margin < 0) == (name in bad) for name, margin in verdict.margins.items())


@given(names, values)
def test_a_metric_passes_its_own_value_and_nothing_stricter(name, value):
    assert judge({name: value}, {name: value}).passed
    step = 1.0 if HIGHER_IS_BETTER[name] else -1.0
    assert not judge({name: value}, {name: value + step}).passed


def test_a_metric_that_is_not_a_number_passes_nothing():
    assert not judge({"accuracy": math.nan}, {"accuracy": 0.0}).passed


def test_metrics_that_were_not_measured_are_named_with_those_that_were():
    with pytest.raises(SettingInvalid, match="'r2' is not measured for this model; it has accuracy, f1"):
        judge({"f1": 1.0, "accuracy": 1.0}, {"r2": 0.5})
    with pytest.raises(SettingInvalid, match="is no metric"):
        judge({"f1": 1.0}, {"acuracy": 0.5})
    with pytest.raises(SettingInvalid, match="finite"):
        judge({"f1": 1.0}, {"f1": math.nan})


@given(st.dictionaries(names, values, max_size=5))
def test_what_is_written_is_parsed_back(limits):
    assert parse_minimums(f"{name} = {limit!r}" for name, limit in limits.items()) == limits


@pytest.mark.parametrize(
    "text", ["accuracy", "=0.5", "accuracy=", "accuracy=high", "accuracy=nan", "acc=0.5", "accuracy=inf"]
)
def test_a_limit_that_cannot_be_read_is_refused(text):
    with pytest.raises(SettingInvalid):
        parse_minimums([text])


def test_two_limits_of_one_metric_are_refused():
    with pytest.raises(SettingInvalid, match="two limits"):
        parse_minimums(["f1=0.5", "f1=0.6"])
