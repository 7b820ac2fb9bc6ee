"""Alerts: when they fire, are told again and are over."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid
from servable.monitoring.alert_rules import rules_are_written, rules_of
from servable.monitoring.alerts import DEFAULT_RULES, AlertState, Rule, Subject, decide, measures_of

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CHURN = Subject("churn", 3)
RULE = Rule(name="slow", measure="quality.accuracy", operator="<", threshold=0.8, for_s=600, again_s=3600)


def follow(rule: Rule, values: list[float | None], step: float = 300) -> list[tuple[float, str]]:
    """Every event over a course of values, with the seconds at which it happened."""
    states: tuple[AlertState, ...] = ()
    events = []
    for place, value in enumerate(values):
        known = {} if value is None else {rule.measure: value}
        now = START + timedelta(seconds=place * step)
        decision = decide([rule], {CHURN: known}, states, now)
        states = decision.states
        events += [(place * step, event.happening) for event in decision.events]
    return events


def test_an_alert_fires_after_its_time_and_is_over_once() -> None:
    assert follow(RULE, [0.9, 0.7, 0.7, 0.7, 0.7, 0.9, 0.9]) == [(900, "fired"), (1500, "resolved")]


def test_a_break_begins_the_time_anew() -> None:
    assert follow(RULE, [0.7, 0.7, 0.9, 0.7, 0.7, 0.7]) == [(1500, "fired")]


def test_what_goes_on_is_told_again_at_its_intervals_only() -> None:
    events = follow(RULE, [0.7] * 40)
    assert events == [(600, "fired"), (4200, "again"), (7800, "again"), (11_400, "again")]
    assert follow(Rule(name="a", measure="m", again_s=0), [1.0] * 500) == [(0, "fired")]


def test_a_measure_that_is_not_known_passes_no_limit() -> None:
    assert follow(RULE, [0.7, 0.7, 0.7, None]) == [(600, "fired"), (900, "resolved")]


def test_what_fired_for_a_version_that_is_gone_is_resolved() -> None:
    rule = Rule(name="a", measure="m")
    fired = decide([rule], {CHURN: {"m": 1.0}}, (), START)
    later = decide([rule], {Subject("churn", 4): {"m": 0.0}}, fired.states, START + timedelta(hours=1))
    assert [(event.happening, event.version) for event in later.events] == [("resolved", 3)]
    assert [state.version for state in later.states] == [4]
    dropped = decide([], {CHURN: {"m": 1.0}}, fired.states, START)
    assert [event.happening for event in dropped.events] == ["resolved"]


def test_a_rule_is_about_its_model_alone() -> None:
    rule = Rule(name="a", measure="m", model="other")
    assert decide([rule], {CHURN: {"m": 1.0}}, (), START).states == ()


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=40), st.floats(0, 2000), st.floats(0, 5000))
def test_events_take_turns(values, for_s, again_s) -> None:
    rule = Rule(name="r", measure="m", operator=">=", threshold=0.5, for_s=for_s, again_s=again_s)
    happened = [happening for _, happening in follow(rule, values)]
    firing = False
    for happening in happened:
        assert firing == (happening != "fired")
        firing = happening != "resolved"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_looking_twice_at_once_says_nothing_more(values) -> None:
    states: tuple[AlertState, ...] = ()
    for place, value in enumerate(values):
        now = START + timedelta(seconds=place * 300)
        decision = decide([RULE], {CHURN: {RULE.measure: value}}, states, now)
        again = decide([RULE], {CHURN: {RULE.measure: value}}, decision.states, now)
        assert again.events == ()
        assert again.states == decision.states
        states = decision.states


def test_an_event_says_what_a_person_must_know_and_has_an_id_of_its_own() -> None:
    decision = decide([Rule(name="a", measure="drift.inputs")], {CHURN: {"drift.inputs": 2}}, (), START)
    (event,) = decision.events
    assert event.text == "a fires for churn:3: drift.inputs > 0, it is 2 (since 2026-03-01T12:00:00Z)."
    other = decide(
        [Rule(name="a", measure="drift.inputs")], {Subject("churn", 4): {"drift.inputs": 2}}, (), START
    )
    assert other.events[0].id != event.id


def test_measures_are_numbers_by_their_path() -> None:
    age = {"name": "age", "psi": 0.3, "drift": True, "since": "x"}
    findings = {"drift": {"inputs": 1, "columns": [age], "notes": ["a"], "odd": [[1], {"psi": 2}]}}
    assert measures_of(findings) == {
        "drift.inputs": 1.0,
        "drift.columns.age.psi": 0.3,
        "drift.columns.age.drift": 1.0,
    }


def test_rules_are_read_as_a_person_writes_them() -> None:
    table = {
        "name": "low",
        "model": "churn",
        "measure": "quality.accuracy",
        "operator": "<",
        "threshold": 0.8,
        "for": "30min",
        "again": 0,
    }
    assert rules_of({"alerts": [table]}, "servable.toml") == (
        Rule(
            name="low",
            model="churn",
            measure="quality.accuracy",
            operator="<",
            threshold=0.8,
            for_s=1800,
            again_s=0,
        ),
    )
    assert rules_of({}, "servable.toml") == DEFAULT_RULES
    assert rules_of({"alerts": []}, "servable.toml") == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"alerts": {"name": "a"}}, "tables"),
        ({"alerts": [{"measure": "m"}]}, "name"),
        ({"alerts": [{"name": "a"}]}, "measure"),
        ({"alerts": [{"name": "a", "measure": "m", "limit": 3}]}, "'limit'"),
        ({"alerts": [{"name": "a", "measure": "m", "operator": "=="}]}, "operator"),
        ({"alerts": [{"name": "a", "measure": "m", "threshold": True}]}, "threshold"),
        ({"alerts": [{"name": "a", "measure": "m", "for": "soon"}]}, "for"),
        ({"alerts": [{"name": "a", "measure": "m", "for": "20"}]}, "for"),
        ({"alerts": [{"name": "a", "measure": "m", "again": -1}]}, "again"),
        ({"alerts": [{"name": "a", "measure": "m"}, {"name": "a", "measure": "n"}]}, "two alerts"),
    ],
)
def test_rules_that_cannot_be_used_are_named(content, said: str) -> None:
    with pytest.raises(SettingInvalid, match=said):
        rules_of(content, "servable.toml")


def test_whether_a_file_speaks_of_alerts(tmp_path: Path) -> None:
    file = tmp_path / "servable.toml"
    assert not rules_are_written(file)
    file.write_text("[server]\nport = 1\n")
    assert not rules_are_written(file)
    file.write_text("no toml")
    assert not rules_are_written(file)
    file.write_text("alerts = []\n")
    assert rules_are_written(file)
