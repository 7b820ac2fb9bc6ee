"""An open home with three versions of a model, the first one deployed, and a clock that moves when told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.adding import add
from servable.registry.home import Home, open_home
from servable.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def opened(home: Path, clock: FakeClock) -> Iterator[Home]:
    with open_home(home, clock=clock) as opened:
        for number in range(3):
            add(opened, content=bytes([number]))
        opened.deployments.deploy("churn", 1)
        yield opened
