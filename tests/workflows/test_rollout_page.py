"""The page of a rollout: what it says in each state, and that its pictures hold what was seen."""

import math
from pathlib import Path

import pytest

import servable
from registry.adding import add
from servable.errors import NotFoundError, StorageFailed
from servable.registry.home import Home, open_home
from servable.registry.rollout_records import Counts, Event, Look
from servable.rollout.controller import follow, steer
from servable.rollout.evidence import Comparison
from servable.rollout.outcomes import Outcomes, nothing
from servable.rollout.sequential import Interval, Moments
from servable.rollout.spec import made_spec
from servable.rollout.starting import start_bandit, start_canary, start_shadow
from servable.testing import FakeClock
from servable.workflows.rollout_outcomes import RolloutOutcome
from servable.workflows.rollout_page import measures, render, section, span_text, verdict
from training.reading import read, words

WORSE = Comparison(
    measure="error rate", unit="share", champion=0.01, champion_interval=Interval(0.005, 0.02),
    challenger=0.2, challenger_interval=Interval(0.1, 0.3), worse=True,
)  # fmt: skip


def outcome(state: str = "running", **more: object) -> RolloutOutcome:
    """A canary in its second step."""
    known: dict[str, object] = {
        "id": 1, "model": "churn", "kind": "canary", "champion": 3, "challenger": 4, "state": state,
        "started_at": "2026-01-01T00:00:00Z",
        "ended_at": "" if state == "running" else "2026-01-01T02:05:00Z",
        "steps": (5.0, 50.0), "step": 1, "weights": {"3": 50.0, "4": 50.0},
        "requests": {"3": (9500, 10), "4": (500, 100)}, "reason": "The reason.", "comparisons": (WORSE,),
        "events": (
            Event(at="2026-01-01T00:00:00Z", decision="start", step=0, reason="Version 4 gets 5 %."),
            Event(at="2026-01-01T01:00:00Z", decision="advance", step=0, reason="Nothing speaks against it.",
                  evidence={"champion_requests": 9500, "champion_errors": 10, "challenger_requests": 400,
                            "challenger_errors": 0, "comparisons": [
                                {"measure": "95 % latency", "unit": "seconds", "champion": 0.01,
                                 "champion_interval": [0.009, 0.011], "challenger": 0.012,
                                 "challenger_interval": [0.01, None]}]}),
        ),
    }  # fmt: skip
    return RolloutOutcome(**{**known, **more})  # type: ignore[arg-type]


def test_a_step_shows_the_evidence_on_which_it_was_passed() -> None:
    passed, present = section(outcome())["stages"]
    assert (passed.share, passed.state, passed.lasted) == ("5 %", "passed", "1 h")
    assert (passed.challenger, passed.champion) == ("400", "9,500 (10 failed)")
    (latency,) = passed.measures
    assert (latency.name, latency.verdict) == ("95 % latency", "no worse")
    assert [bar.span for bar in latency.bars] == ["9 ms to 11 ms", "10 ms to ∞"]
    assert latency.bars[1].left + latency.bars[1].width == 100
    assert (present.share, present.state, present.reason) == ("50 %", "goes on", "The reason.")
    assert [each.verdict for each in present.measures] == ["worse"]


def test_bars_lie_on_one_scale() -> None:
    (measure,) = measures((WORSE,), 3, 4)
    champion, challenger = measure.bars
    assert (champion.who, champion.left, champion.new) == ("v3", 0.0, False)
    assert (challenger.who, challenger.left + challenger.width, challenger.new) == ("v4", 100.0, True)
    assert champion.left + champion.width < challenger.left < (challenger.at or 0) < 100
    alone = Comparison(measure="reward", champion=1.0, challenger=1.0)
    assert [bar.at for bar in measures((alone,), 3, 4)[0].bars] == [50.0, 50.0]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (outcome(), "Version 4 answers 50 % of the requests, version 3 the others. It answered 500 requests, "
         "of which 100 failed. The reason."),
        (outcome(weights={"4": 100.0}), "Version 4 answers all requests, as a trial."),
        (outcome(weights={"4": 100.0}, requests={}), "It has answered nothing."),
        (outcome("promoted"), "Version 4 took over from version 3."),
        (outcome("rolled_back"), "Version 4 was sent back, and version 3 answers everything."),
        (outcome("cancelled"), "The canary of version 4 was ended from outside."),
        (outcome("held"), "Version 4 waits for a person."),
        (outcome(kind="shadow", weights={}, steps=()), "Version 4 gets copies of what version 3 answers."),
    ],
)  # fmt: skip
def test_the_first_sentences_say_how_it_stands(found: RolloutOutcome, said: str) -> None:
    assert said in verdict(found)
    assert said in words(render(found, ()))


def test_a_bandit_tells_which_of_its_versions_was_deployed() -> None:
    found = outcome("promoted", kind="bandit", steps=(), reason="A person deploys version 3.")
    assert "took over" not in verdict(found)
    assert "A person deploys version 3." in verdict(found)


def test_every_measure_has_a_picture_of_how_it_grew() -> None:
    share = (0.5, 0.4, 0.6, 0.5, 0.4, 0.6)
    looks = []
    for number in range(5):
        rate = (0.01, 0.0, 0.1, None if number < 2 else 0.2, 0.1, None)
        other = {"outputs of 'b'": share} if number == 3 else {}
        seen = {"error rate": rate, "outputs of 'a'": share, **other}
        looks.append(Look(1767225600.0 + 60 * number, 0, seen))
    page = render(outcome(), looks)
    assert read(page).seen.count("svg") == 2
    assert 'aria-label="error rate over time"' in page
    # Of the shares of answers the one that differed most at last.
    assert "outputs of &#39;a&#39; over time" in page or "outputs of 'a' over time" in page
    assert "'b'" not in words(page)


def test_what_answers_are_called_is_escaped() -> None:
    named = Comparison(measure="outputs", of="<script>", champion=0.5, challenger=0.5)
    looks = [Look(1767225600.0, 0, {"outputs of '<script>'": (0.5, 0.4, 0.6, 0.5, 0.4, 0.6)})]
    page = render(outcome(comparisons=(named,), reason="<script>"), looks)
    read(page)
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (59.4, "59 s"), (3600, "1 h"), (12_060, "3 h 21 min"), (190_000, "2 d 4 h"),
     (86_460, "1 d 1 min"), (-5, "0 s")],
)  # fmt: skip
def test_spans_of_time_are_said_in_two_units(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def filled(home: Path, clock: FakeClock) -> Home:
    with open_home(home, clock=clock) as opened:
        for number in range(3):
            add(opened, content=bytes([number]))
        opened.deployments.deploy("churn", 1)
    return opened


def test_a_real_rollout_is_written_as_a_page(home: Path, filled: Home, clock: FakeClock) -> None:
    with open_home(home, clock=clock) as opened:
        record = start_canary(opened, clock, "churn", 2, made_spec((5, 100), every_s=60, min_requests=100))
        for part in range(1, 13):
            clock.advance(5.5)
            counts = {
                number: Counts(codes={"ok": 100 * part, "model_failed": part}, latencies={-50: 100 * part})
                for number in (1, 2)
            }
            opened.rollouts.count(record.id, "a", counts)
            follow(opened, clock, nothing)
        looks = opened.rollouts.of("churn")[0].course.looks
        assert len(looks) > 5
        assert set(looks[0].measures) >= {"error rate", "median latency"}
    found = servable.show_rollout("churn", report=home / "page.html", home=home)
    page = (home / "page.html").read_text(encoding="utf-8")
    assert read(page).seen.count("svg") == len({name for look in looks for name in look.measures})
    said = words(page)
    assert verdict(found) in said
    assert "Step 1: 5 % passed Nothing speaks against it after" in said
    assert "Step 2: 100 % goes on" in said


def test_a_bandit_shows_how_its_shares_changed(home: Path, filled: Home, clock: FakeClock) -> None:
    with open_home(home, clock=clock) as opened:
        start_bandit(opened, clock, "churn", (2, 3), made_spec((), every_s=60))
        clock.advance(61)
        rewards = {
            version: Outcomes(rewards=Moments(500, 500 * share, 500 * share))
            for version, share in ((1, 0.1), (2, 0.2), (3, 0.9))
        }
        follow(opened, clock, lambda *_: rewards)
        course = opened.rollouts.of("churn")[0].course
        assert course.events[-1].evidence["shares"]["3"] == course.weights[3]
    servable.show_rollout("churn", report=home / "page.html", home=home)
    page = (home / "page.html").read_text(encoding="utf-8")
    assert read(page).seen.count("svg") == 1
    assert "share of the requests" in words(page).lower()
    assert "3 500 0.9" in words(page)


def test_a_shadow_has_a_page_and_one_that_a_person_ended_too(
    home: Path, filled: Home, clock: FakeClock
) -> None:
    with open_home(home, clock=clock) as opened:
        start_shadow(opened, clock, "churn", 2, 1.0, made_spec(()))
        steer(opened, clock, "churn", "abort")
    servable.show_rollout("churn", report=home / "page.html", home=home)
    page = (home / "page.html").read_text(encoding="utf-8")
    read(page)
    assert "A person ended it." in words(page)


def test_what_cannot_be_written_is_said(home: Path, filled: Home, clock: FakeClock) -> None:
    with pytest.raises(NotFoundError, match="There was no rollout"):
        servable.show_rollout("churn", report=home / "page.html", home=home)
    assert not (home / "page.html").exists()
    with open_home(home, clock=clock) as opened:
        start_shadow(opened, clock, "churn", 2, 1.0, made_spec(()))
    with pytest.raises(StorageFailed, match="writing the report"):
        servable.show_rollout("churn", report=home / "nowhere" / "page.html", home=home)


def test_an_interval_without_end_is_no_number() -> None:
    span = Interval(0.1, math.inf)
    assert (
        measures((Comparison(measure="x", champion=0.2, champion_interval=span),), 1, 2)[0].bars[0].width > 0
    )
