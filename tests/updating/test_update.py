"""Turns from start to end: what is promoted, refused and failed, and what becomes of one that was cut off."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import servable
from servable.artifact.bundles import make_keys
from servable.artifact.recipe import read_recipe
from servable.artifact.sample import read_sample
from servable.clock import SystemClock
from servable.errors import ConflictError, DataError, ModelNotFound, SettingInvalid, SignatureRefused
from servable.frameworks.frame import pack
from servable.progress import NoProgress
from servable.registry.home import open_home
from servable.registry.leases import Leases
from servable.registry.records import Share, Traffic
from servable.registry.turns import Turns
from servable.serving.desired import source_of
from servable.settings import load_settings
from servable.tensors import NUMBERS
from servable.testing import RecordedProgress
from servable.updating.gate import GateRules
from servable.updating.options import UpdateOptions
from servable.updating.plan import STEPS, Triggers
from servable.updating.update import UpdateOutcome, history, update
from servable.updating.window import Window
from servable.workflows.rollouts import change_rollout
from servable.workflows.signing import sign
from updating.making import rows, write_traffic

#: What makes a turn quick: nothing is searched.
QUICK = UpdateOptions(tune=False, window=Window(half_life=100))


def versions(home: Path) -> tuple[int, ...]:
    return servable.describe("shops", home=home).versions


def served(home: Path) -> int:
    with open_home(home) as place:
        record = place.deployments.get("shops")
        assert record is not None
        return record.version


@pytest.fixture
def turned(shops: Path) -> Path:
    """A home whose model's world has changed, with labels that show it."""
    write_traffic(shops, "shops", rows(400, seed=2, turned=True), first=0)
    return shops


def test_a_better_version_takes_over(turned: Path) -> None:
    progress = RecordedProgress()
    outcome = update("shops", QUICK, home=turned, progress=progress)
    assert outcome.turn is not None
    assert outcome.turn.state == "promoted"
    assert outcome.said == "shops:2 took over"
    assert served(turned) == 2
    record = outcome.turn.record
    assert [step for step in STEPS if step in record] == list(STEPS)
    assert record["collect"]["original"] == 300
    assert record["collect"]["traffic"] == 400
    assert record["collect"]["held"] == 200
    whole = record["evaluate"]["whole"]
    assert whole["champion"] < 0.65
    assert whole["challenger"] > 0.75
    # It was fitted once more with the rows that it was measured on.
    found = servable.describe("shops:2", home=turned)
    assert found.recipe["rows_train"] == 700
    assert found.metrics["accuracy"] == pytest.approx(whole["challenger"])
    assert found.source["traffic"]["rows"] == 400
    with open_home(turned) as place:
        recipe = read_recipe(place.package(place.models.resolve("shops:2")).folder)
        assert place.models.resolve("shops:2").note == "Turn 1: asked for"
    assert recipe is not None
    assert recipe.traffic_rows == 400
    assert recipe.traffic_until == record["collect"]["until"]
    assert not list((turned / "updates" / "shops").iterdir())
    assert "Compare with the present version" in progress.titles


@pytest.fixture
def required(turned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which only signed versions are served, as the present one is; the private key."""
    private = tmp_path / "release.pem"
    public = make_keys(private)
    monkeypatch.setenv("SERVABLE_SIGNATURES", "require")
    monkeypatch.setenv("SERVABLE_TRUSTED_KEYS", str(public))
    sign("shops:1", key=private, home=turned)
    return private


def test_the_loop_promotes_what_it_signed_where_signatures_are_required(
    turned: Path, required: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVABLE_SIGN_KEY", str(required))
    outcome = update("shops", QUICK, home=turned)
    assert outcome.said == "shops:2 took over"
    source = source_of(load_settings({"home": turned}))
    try:
        (wanted,) = source.wanted()
        # What a server does before it loads the version.
        assert wanted.reference == "shops:2"
        source.open(wanted)
        assert source.refusals.take() == []
        # Compiling it anew gives it another package, which is signed as well.
        servable.optimize("shops:2", home=turned)
        (wanted,) = source.wanted()
        source.open(wanted)
    finally:
        source.close()


def test_without_a_key_the_turn_says_what_to_do_and_learns_nothing(turned: Path, required: Path) -> None:
    with pytest.raises(SignatureRefused, match="SERVABLE_SIGN_KEY"):
        update("shops", QUICK, home=turned)
    assert versions(turned) == (1,)
    assert history("shops", home=turned)[0].state == "failed"
    assert "sign_key" in history("shops", home=turned)[0].record["said"]
    with pytest.raises(SignatureRefused, match="SERVABLE_SIGN_KEY"):
        servable.optimize("shops:1", home=turned)


def test_a_key_that_nobody_trusts_is_refused_before_anything_is_learned(
    turned: Path, required: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_keys(tmp_path / "other.pem")
    monkeypatch.setenv("SERVABLE_SIGN_KEY", str(tmp_path / "other.pem"))
    with pytest.raises(SignatureRefused, match="not among trusted_keys"):
        update("shops", QUICK, home=turned)
    assert versions(turned) == (1,)


def test_what_is_only_registered_needs_no_signature(turned: Path, required: Path) -> None:
    outcome = update("shops", UpdateOptions(tune=False, deploy="never", refit=False), home=turned)
    assert outcome.turn is not None
    assert outcome.turn.state == "registered"


def test_a_package_keeps_no_row_of_the_traffic(turned: Path) -> None:
    update("shops", QUICK, home=turned)
    with open_home(turned) as place:
        packages = [place.package(place.models.resolve(f"shops:{number}")) for number in (1, 2)]
    file, traffic = rows(300, seed=1), rows(400, seed=2, turned=True)
    kept = read_sample(packages[1].folder)
    assert kept is not None
    known = [
        {tuple(row) for row in pack(frame, packages[1].signature)[NUMBERS].tolist()}
        for frame in (file, traffic)
    ]
    found = {tuple(row) for row in kept[NUMBERS].tolist()}
    assert found <= known[0]
    assert not found & known[1]


def test_the_next_turn_needs_rows_that_the_new_version_never_saw(turned: Path) -> None:
    update("shops", QUICK, home=turned)
    with pytest.raises(DataError, match="0 labelled rows"):
        update("shops", QUICK, home=turned)
    failed = history("shops", home=turned)[0]
    assert failed.state == "failed"
    assert "wait for more labels" in failed.record["said"]
    assert served(turned) == 2
    write_traffic(turned, "shops", rows(150, seed=5, turned=True), first=1_000)
    outcome = update("shops", QUICK, home=turned)
    assert outcome.turn is not None
    assert outcome.turn.record["collect"]["unseen"] == 150


def test_one_that_is_no_better_is_refused_and_nothing_changes(shops: Path) -> None:
    write_traffic(shops, "shops", rows(300, seed=3), first=0)
    outcome = update("shops", QUICK, home=shops)
    assert outcome.turn is not None
    assert outcome.turn.state == "refused"
    assert "is not shown with 90% confidence" in outcome.said
    assert versions(shops) == (1,)
    assert served(shops) == 1


def test_one_that_is_no_better_takes_over_where_newer_is_favoured(shops: Path) -> None:
    write_traffic(shops, "shops", rows(300, seed=3), first=0)
    outcome = update("shops", UpdateOptions(tune=False, gate=GateRules(favour="newer")), home=shops)
    assert outcome.turn is not None
    assert outcome.turn.state == "promoted"
    (reason,) = outcome.turn.record["gate"]["reasons"]
    assert reason.endswith("so the newer version is favoured")


def test_never_registers_and_leaves_the_rest_to_a_person(turned: Path) -> None:
    outcome = update("shops", UpdateOptions(tune=False, deploy="never", refit=False), home=turned)
    assert outcome.turn is not None
    assert outcome.turn.state == "registered"
    assert versions(turned) == (1, 2)
    assert served(turned) == 1
    assert servable.describe("shops:2", home=turned).recipe["rows_train"] == 500


def test_triggers_wait(shops: Path) -> None:
    asked = UpdateOptions(triggers=Triggers(labels=200), tune=False)
    assert update("shops", asked, home=shops) == UpdateOutcome(
        model="shops", due=False, reason="0 rows were labelled since the last turn; 100 are needed"
    )
    write_traffic(shops, "shops", rows(200, seed=2, turned=True), first=0)
    outcome = update("shops", asked, home=shops)
    assert outcome.due
    assert outcome.reason == "200 rows were labelled since the last turn"
    assert not update("shops", asked, home=shops).due


def test_a_new_class_is_learned(shops: Path) -> None:
    frame = rows(400, seed=2)
    write_traffic(shops, "shops", frame.assign(label=frame["label"].where(frame["x"] < 0.7, "very")), first=0)
    outcome = update("shops", QUICK, home=shops)
    assert outcome.turn is not None
    assert outcome.turn.state == "promoted"
    assert servable.describe("shops:2", home=shops).signature.classes == ("no", "very", "yes")


class CutOff(NoProgress):
    """Ends the process's work in the middle of a stage, as a signal from the keyboard does."""

    def __init__(self, title: str) -> None:
        self._title = title

    def begin(self, title: str, total: float | None = None) -> None:
        if title.startswith(self._title):
            raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["Compare", "Fit logistic with", "Package", "Deploy"])
def test_a_turn_that_was_cut_off_is_gone_on_with(stage: str, turned: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        update("shops", QUICK, home=turned, progress=CutOff(stage))
    before = history("shops", home=turned)[0]
    assert before.state == "running"
    # What is asked now does not matter: the turn goes on as it began.
    outcome = update("shops", UpdateOptions(deploy="never", triggers=Triggers(labels=9_999)), home=turned)
    assert outcome.turn is not None
    assert outcome.turn.id == before.id
    assert outcome.turn.state == "promoted"
    assert versions(turned) == (1, 2)
    assert served(turned) == 2
    assert len(history("shops", home=turned)) == 1


@pytest.mark.parametrize("stage", ["Compare", "Package"])
def test_a_turn_goes_on_on_a_machine_without_its_folder(stage: str, turned: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        update("shops", QUICK, home=turned, progress=CutOff(stage))
    shutil.rmtree(turned / "updates")
    outcome = update("shops", QUICK, home=turned)
    assert outcome.turn is not None
    assert outcome.turn.state == "promoted"
    assert versions(turned) == (1, 2)


def test_a_version_deployed_by_hand_meanwhile_stays(turned: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        update("shops", QUICK, home=turned, progress=CutOff("Deploy"))
    with open_home(turned) as place:
        record = place.models.resolve("shops:1")
        package = place.package(record)
        other = place.models.create_version(record.package, package.manifest, "classification")
        place.deployments.deploy("shops", other.version)
    with pytest.raises(ConflictError, match="shops:3 was deployed while turn 1"):
        update("shops", QUICK, home=turned)
    assert served(turned) == 3
    assert history("shops", home=turned)[0].state == "failed"


@pytest.mark.parametrize(("decision", "state"), [("advance", "promoted"), ("abort", "rolled_back")])
def test_a_canary_decides_how_the_turn_ends(decision: Any, state: str, turned: Path) -> None:
    asked = UpdateOptions(tune=False, window=Window(half_life=100), deploy="canary", steps="50,100")
    outcome = update("shops", asked, home=turned)
    assert outcome.turn is not None
    assert outcome.turn.state == "waiting"
    assert served(turned) == 1
    assert update("shops", asked, home=turned).reason == "the rollout of shops:2 goes on"
    while servable.show_rollout("shops", home=turned).ended_at == "":
        change_rollout("shops", decision, home=turned)
    ended = update("shops", asked, home=turned)
    assert ended.turn is not None
    assert ended.turn.state == state
    assert served(turned) == (2 if state == "promoted" else 1)
    assert len(history("shops", home=turned)) == 1


def test_no_turn_is_made_while_requests_are_divided(turned: Path) -> None:
    with open_home(turned) as place:
        record = place.models.resolve("shops:1")
        other = place.models.create_version(record.package, place.package(record).manifest, "classification")
        shares = (Share(version=1, weight=1), Share(version=other.version, weight=1))
        place.deployments.divide("shops", Traffic(shares=shares))
    outcome = update("shops", QUICK, home=turned)
    assert not outcome.due
    assert "divided" in outcome.reason
    assert history("shops", home=turned) == ()


def test_another_machine_that_has_the_lease_is_respected(turned: Path) -> None:
    with open_home(turned) as place:
        assert Leases(place.state, SystemClock()).take("update shops", "elsewhere", 60)
    with pytest.raises(ConflictError, match="another machine"):
        update("shops", QUICK, home=turned)
    assert history("shops", home=turned) == ()


def test_what_cannot_be_updated_is_said(shops: Path) -> None:
    with pytest.raises(ModelNotFound):
        update("nothing", home=shops)
    with pytest.raises(SettingInvalid, match="no metric"):
        update("shops", UpdateOptions(gate=GateRules(metric="goodness")), home=shops)


def test_a_slice_that_does_not_exist_fails_the_turn(turned: Path) -> None:
    with pytest.raises(SettingInvalid, match="no column 'city'"):
        update("shops", UpdateOptions(gate=GateRules(slices=("city",))), home=turned)
    assert history("shops", home=turned)[0].state == "failed"


def test_turns_are_kept_one_at_a_time(shops: Path) -> None:
    with open_home(shops) as place:
        turns = Turns(place.state, SystemClock())
        turn = turns.begin("shops", {"reason": "test"})
        with pytest.raises(ConflictError, match="Turn 1 of shops is not over"):
            turns.begin("shops", {})
        after = turns.advance(turn, {"reason": "test", "collect": {}}, step="collect")
        with pytest.raises(ConflictError, match="taken over"):
            turns.advance(turn, {}, step="collect")
        turns.advance(after, after.record, state="refused")
        assert turns.unfinished("shops") is None
        assert turns.newest("shops")[0].over
        with pytest.raises(ModelNotFound):
            turns.begin("nothing", {})


@pytest.mark.parametrize("slices", [("shop",), ("shop=a", "x")])
def test_slices_are_compared(slices: Any, turned: Path) -> None:
    asked = UpdateOptions(tune=False, gate=GateRules(slices=slices), window=Window(half_life=100))
    outcome = update("shops", asked, home=turned)
    assert outcome.turn is not None
    names = [each["name"] for each in outcome.turn.record["evaluate"]["slices"]]
    expected = {"shop=a", "shop=b"} if slices == ("shop",) else {"shop=a"}
    assert expected <= set(names)
    assert outcome.turn.state == "promoted"


def test_a_model_learns_on_from_where_it_is(shops_csv: Path, home: Path) -> None:
    servable.train(
        shops_csv, target="label", name="shops", model="sgd", time_budget_s=0.1, deploy=True, home=home
    )
    write_traffic(home, "shops", rows(600, seed=2, turned=True), first=0)
    outcome = update("shops", UpdateOptions(tune=False, online=True), home=home)
    assert outcome.turn is not None
    assert outcome.turn.record["train"] == outcome.turn.record["train"] | {"online": True, "rows": 300}
    assert outcome.turn.state == "promoted"
    assert outcome.turn.record["evaluate"]["whole"]["challenger"] > 0.75
    assert served(home) == 2


def test_a_model_that_cannot_learn_on_is_refused(turned: Path) -> None:
    with pytest.raises(SettingInvalid, match="cannot learn on from where it is"):
        update("shops", UpdateOptions(online=True), home=turned)
    assert served(turned) == 1
