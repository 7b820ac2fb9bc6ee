import pytest

from servable.engines.local import LocalServer
from servable.settings import load_settings
from servable.testing import FakeEngine, check_engine


def test_the_fake():
    check_engine(FakeEngine)


def test_local(home):
    settings = load_settings({"home": home, "port": 0}, environment={})
    check_engine(lambda: LocalServer(settings))


def test_local_with_several_workers(home):
    settings = load_settings({"home": home, "port": 0, "workers": 2}, environment={})
    check_engine(lambda: LocalServer(settings))


def test_the_check_notices_an_engine_that_stays():
    class Staying(FakeEngine):
        stops = 0

        def stop(self) -> None:
            self.stops += 1
            if self.stops > 3:
                super().stop()

    made = []

    def make() -> FakeEngine:
        made.append(Staying())
        return made[-1]

    with pytest.raises(AssertionError, match="nobody listens"):
        check_engine(make)
    made[-1].stop()
    made[-1].stop()
