"""The watch makes a turn when one is due, goes on after failures, and ends when nothing can come of it."""

import threading
from datetime import datetime
from pathlib import Path

import pytest

import servable
from servable.errors import ModelNotFound, SettingInvalid
from servable.registry.home import open_home
from servable.testing import FakeClock
from servable.updating.gate import GateRules
from servable.updating.options import UpdateOptions
from servable.updating.plan import Triggers
from servable.updating.update import UpdateOutcome, history
from servable.updating.watch import watch
from updating.making import rows, write_traffic


def test_a_turn_is_made_when_labels_come(shops: Path) -> None:
    over, seen = threading.Event(), []

    def told(outcome: UpdateOutcome) -> None:
        seen.append(outcome)
        over.set()

    write_traffic(shops, "shops", rows(400, seed=2, turned=True), first=0)
    asked = UpdateOptions(triggers=Triggers(labels=400), tune=False)
    watch("shops", asked, home=shops, poll_s=0.01, ended=over, told=told)
    assert [outcome.turn.state for outcome in seen if outcome.turn is not None] == ["promoted"]


def test_a_failed_turn_does_not_end_it(shops: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Once(threading.Event):
        """Ends after so many looks."""

        looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.looks += 1
            if self.looks == 2:
                self.set()
            return self.is_set()

    write_traffic(shops, "shops", rows(400, seed=2, turned=True), first=0)
    (shops.parent / "other.csv").write_text("x,y\n1,2\n")
    asked = UpdateOptions(triggers=Triggers(labels=400), data=str(shops.parent / "other.csv"))
    over = Once()
    watch("shops", asked, home=shops, ended=over)
    assert over.looks == 2
    # The second look is within the pause after a failure.
    assert [turn.state for turn in history("shops", home=shops)] == ["failed"]


def test_the_next_moment_stands_in_status_while_it_watches(shops: Path) -> None:
    clock, seen = FakeClock(), []

    class Twice(threading.Event):
        """Ends after two looks, between which the clock moves past the moment."""

        def wait(self, timeout: float | None = None) -> bool:
            seen.append(servable.status(home=shops).deployments[0].schedule)
            clock.advance(86_400)
            if len(seen) == 2:
                self.set()
            return self.is_set()

    with open_home(shops) as place:
        made = datetime.fromisoformat(place.models.resolve("shops").created_at)
    clock.jump((made - clock.now()).total_seconds())
    asked = UpdateOptions(triggers=Triggers(cron="30 2 * * *", timezone="Asia/Tokyo"), tune=False)
    write_traffic(shops, "shops", rows(400, seed=2, turned=True), first=0)
    watch("shops", asked, home=shops, ended=Twice(), clock=clock)
    first, second = seen
    assert first is not None
    assert second is not None
    assert first.next_at.endswith("T17:30:00Z")
    assert (first.cron, first.timezone) == ("30 2 * * *", "Asia/Tokyo")
    (turn,) = history("shops", home=shops)
    assert turn.record["reason"].endswith("02:30 Asia/Tokyo")
    assert second.next_at > first.next_at
    # It ended, and nobody is told to wait for it.
    assert servable.status(home=shops).deployments[0].schedule is None


def test_what_can_never_succeed_ends_it(shops: Path) -> None:
    with pytest.raises(ModelNotFound):
        watch("nothing", UpdateOptions(), home=shops)
    with pytest.raises(SettingInvalid):
        watch("shops", UpdateOptions(gate=GateRules(metric="goodness")), home=shops)
