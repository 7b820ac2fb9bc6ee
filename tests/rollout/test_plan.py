import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid, StorageFailed
from servable.rollout.evidence import SPENDING, Evidence, Pair, Seen, compare
from servable.rollout.plan import Advance, Hold, Promote, RollBack, Step, plan
from servable.rollout.sequential import Moments
from servable.rollout.spec import Margins, made_spec, read_spec, seconds_of_text, steps_of

SPEC = made_spec((1, 5, 25, 100), every_s=600, min_requests=200)


def seen(ok: int, failed: int = 0, step: int = -50, **more: object) -> Seen:
    return Seen(codes={"ok": ok, "model_failed": failed}, latencies={step: ok}, **more)


def evidence(champion: Seen, challenger: Seen, **more: object) -> Evidence:
    pair = Pair(champion, challenger)
    return Evidence(step=pair, whole=pair, **{"loaded": 1, **more})


EQUAL = evidence(seen(9900, 100), seen(990, 10))
seens = st.builds(
    Seen,
    codes=st.dictionaries(
        st.sampled_from(["ok", "model_failed", "overloaded", "client_gone"]), st.integers(0, 10**5)
    ),
    latencies=st.dictionaries(st.integers(-100, 30), st.integers(1, 10**4), max_size=20),
    labels=st.integers(100, 1000),
    right=st.integers(0, 100),
    rewards=st.builds(Moments, st.integers(0, 1000), st.floats(0, 1000), st.floats(0, 1e6)),
    outputs=st.dictionaries(st.sampled_from("abc"), st.integers(0, 1000)),
)


@given(seens, seens, st.integers(0, 3), st.floats(0, 1e5), st.booleans())
def test_a_decision_has_a_reason_and_changes_nothing_when_taken_again(
    champion: Seen, challenger: Seen, number: int, now: float, held: bool
) -> None:
    given = (SPEC, Step(number, 0.0, held), evidence(champion, challenger), now)
    decision = plan(*given)
    assert decision.reason.endswith(".")
    assert plan(*given) == decision
    if held:
        assert isinstance(decision, Hold | RollBack)
    if isinstance(decision, Promote):
        assert number == 3
    if isinstance(decision, Advance | Promote):
        assert now >= SPEC.every_s
        assert challenger.requests >= SPEC.min_requests


@given(seens)
def test_a_version_is_never_worse_than_itself(version: Seen) -> None:
    assert not any(each.worse or each.doubtful for each in compare(SPEC, evidence(version, version)))


@given(st.integers(200, 5000), st.integers(0, 5000), st.integers(1, 5000))
def test_more_failures_never_turn_a_roll_back_into_anything_else(ok: int, failed: int, more: int) -> None:
    before = plan(SPEC, Step(0, 0), evidence(seen(10_000), seen(ok, failed)), 700)
    after = plan(SPEC, Step(0, 0), evidence(seen(10_000), seen(ok, failed + more)), 700)
    if isinstance(before, RollBack):
        assert isinstance(after, RollBack)


def test_a_step_goes_on_when_it_lasted_and_saw_enough() -> None:
    early = plan(SPEC, Step(0, 0), EQUAL, 599)
    assert isinstance(early, Hold)
    assert early.cause == "time"
    few = plan(SPEC, Step(0, 0), evidence(seen(9900), seen(199)), 601)
    assert isinstance(few, Hold)
    assert (few.cause, "199 of the 200" in few.reason) == ("sample", True)
    silent = plan(SPEC, Step(0, 0), evidence(seen(5), seen(900)), 601)
    assert isinstance(silent, Hold)
    assert "champion got 5" in silent.reason
    assert isinstance(plan(SPEC, Step(0, 0), EQUAL, 601), Advance)
    assert isinstance(plan(SPEC, Step(3, 0), EQUAL, 601), Promote)


def test_nobody_asks_the_champion_in_the_step_of_all_requests() -> None:
    assert isinstance(plan(SPEC, Step(3, 0), evidence(seen(5), seen(900)), 601), Promote)


def test_what_looks_worse_and_is_not_certain_waits() -> None:
    decision = plan(SPEC, Step(0, 0), evidence(seen(9900, 100), seen(388, 12)), 601)
    assert isinstance(decision, Hold)
    assert decision.cause == "doubt"
    assert "error rate 3 %" in decision.reason.lower()


def test_a_step_that_cannot_be_passed_waits_for_a_person_and_says_why() -> None:
    decision = plan(SPEC, Step(0, 0), evidence(seen(9900), seen(20)), SPEC.patience_s)
    assert isinstance(decision, Hold)
    assert decision.cause == "patience"
    assert "20 of the 200" in decision.reason
    held = plan(SPEC, Step(0, 0, held=True), evidence(seen(9900), seen(20)), SPEC.patience_s * 2)
    assert isinstance(held, Hold)
    assert held.cause == "held"


def test_a_held_version_that_turns_out_worse_still_goes_back() -> None:
    assert isinstance(plan(SPEC, Step(0, 0, held=True), evidence(seen(9900), seen(0, 50)), 1), RollBack)


@pytest.mark.parametrize(
    ("challenger", "measure"),
    [
        (seen(500, 500), "Error rate"),
        (seen(1000, step=-30), "latency"),
        (seen(1000, labels=1000, right=700), "Accuracy"),
        (seen(1000, losses=Moments(1000, 2000.0, 5000.0)), "Loss"),
        (seen(1000, rewards=Moments(1000, 300.0, 300.0)), "Reward"),
        (seen(1000, outputs={"yes": 900, "no": 100}), "Outputs 'no'"),
    ],
)
def test_each_measure_can_send_a_version_back(challenger: Seen, measure: str) -> None:
    champion = seen(
        10_000,
        100,
        labels=2000,
        right=1800,
        losses=Moments(2000, 2000.0, 4000.0),
        rewards=Moments(2000, 1200.0, 1200.0),
        outputs={"yes": 500, "no": 1500},
    )
    decision = plan(SPEC, Step(1, 0), evidence(champion, challenger), 5)
    assert isinstance(decision, RollBack)
    assert measure.lower() in decision.reason.lower()


def test_more_failures_than_were_allowed_send_it_back_although_the_champion_fails_as_often() -> None:
    spec = msgspec.structs.replace(SPEC, max_error_rate=0.05)
    bad = evidence(seen(9000, 1000), seen(900, 100))
    assert isinstance(plan(SPEC, Step(0, 0), bad, 5), Hold)
    decision = plan(spec, Step(0, 0), bad, 5)
    assert isinstance(decision, RollBack)
    assert "against 5 %" in decision.reason


def test_a_version_that_could_be_loaded_nowhere_goes_back_with_that_reason() -> None:
    nowhere = evidence(seen(100), Seen(), loaded=0, failures={"a": "The file is damaged."})
    decision = plan(SPEC, Step(0, 0), nowhere, 1)
    assert isinstance(decision, RollBack)
    assert decision.reason == "The challenger could not be loaded anywhere: The file is damaged."
    elsewhere = EQUAL._replace(failures={"a": "No memory."})
    waits = plan(SPEC, Step(0, 0), elsewhere, 700)
    assert isinstance(waits, Hold)
    assert (waits.cause, waits.reason) == ("load", "It could not be loaded by a: No memory.")


def test_callers_who_leave_are_no_errors() -> None:
    gone = Seen(codes={"ok": 1000, "client_gone": 5000}, latencies={-50: 1000})
    assert gone.errors == 0
    assert isinstance(plan(SPEC, Step(0, 0), evidence(seen(10_000), gone), 700), Advance)


def test_without_steps_versions_are_only_compared() -> None:
    compared = made_spec(())
    decision = plan(compared, Step(0, 0), evidence(seen(9000), seen(0, 900)), 1e6)
    assert isinstance(decision, Hold)
    assert decision.cause == "compared"
    assert any(each.worse for each in decision.comparisons)


def test_the_rate_of_false_roll_backs_is_spent_once() -> None:
    assert sum(SPENDING.values()) == pytest.approx(1.0)
    assert all(part > 0 for part in SPENDING.values())


def test_a_spec_is_kept_as_json() -> None:
    spec = made_spec((5, 50), every_s=30, max_error_rate=0.1, margins=Margins(latency=1.5))
    assert read_spec(msgspec.json.decode(msgspec.json.encode(spec))) == spec
    with pytest.raises(StorageFailed, match="damaged spec"):
        read_spec({"steps": "many"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": (5, 1)}, "rising"),
        ({"steps": (0, 1)}, "rising"),
        ({"steps": (1, 101)}, "rising"),
        ({"steps": (float("nan"),)}, "rising"),
        ({"steps": tuple(range(1, 30))}, "at most 20 steps"),
        ({"every_s": 0}, "above 0 seconds"),
        ({"min_requests": 0}, "1 to 1,000,000,000"),
        ({"patience_s": 5.0}, "shorter than a step"),
        ({"alpha": 0.0}, "false roll-backs"),
        ({"max_error_rate": 1.0}, "between|below 1"),
    ],
)
def test_a_spec_that_cannot_be_followed_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(SettingInvalid, match=said):
        made_spec(**{"steps": (5, 50), **wrong})


def test_texts_are_read() -> None:
    assert steps_of("1, 5%,25,100") == (1, 5, 25, 100)
    assert [seconds_of_text(text) for text in ("90", "500ms", "30s", "10m", "1.5h", "1d", 7)] == [
        90, 0.5, 30, 600, 5400, 86_400, 7,
    ]  # fmt: skip
    with pytest.raises(SettingInvalid, match="rising shares"):
        steps_of("1,many")
    with pytest.raises(SettingInvalid, match="30s, 10m"):
        seconds_of_text("soon")
