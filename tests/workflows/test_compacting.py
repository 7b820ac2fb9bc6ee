"""The watcher puts segments together, and stands back while somebody is erased."""

from datetime import timedelta
from pathlib import Path

from monitoring.traffic import START, predictions
from servable.monitoring.segments import TrafficStore
from servable.registry.home import open_home
from servable.testing import FakeClock
from servable.workflows.compacting import compact_segments, stand_alone
from servable.workflows.watch import Watcher, jobs


def written(home: Path) -> TrafficStore:
    store = TrafficStore(home)
    for number in range(5):
        rows = predictions([(f"r{number}", 0, 1, number, "x")])
        store.write("churn", "predictions", f"p-{number}", rows, START + timedelta(seconds=number))
    return store


def clock_at(days: int) -> FakeClock:
    clock = FakeClock()
    clock.jump((START + timedelta(days=days) - clock.now()).total_seconds())
    return clock


def test_who_keeps_retention_puts_segments_together(home: Path) -> None:
    with open_home(home, create=True, clock=clock_at(2)) as place:
        store, clock = written(home), clock_at(2)
        (job,) = [job for job in jobs() if job.name == "compaction"]
        watcher = Watcher(place, clock, (job,))
        assert watcher.once().acted
        watcher.close()
        assert len(store.segments("churn", "predictions")) == 1
        assert compact_segments(place, clock) == 0


def test_nothing_is_put_together_while_somebody_is_erased(home: Path) -> None:
    clock = clock_at(2)
    with open_home(home, create=True, clock=clock) as place:
        store = written(home)
        assert stand_alone(place)
        # Two who erase do not wait for each other.
        assert stand_alone(place)
        assert compact_segments(place, clock) == 0
        assert len(store.segments("churn", "predictions")) == 5
        clock.jump(3600)
        assert compact_segments(place, clock) == 5
