"""An open home that dates its records by a clock of the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servable.registry.home import Home, open_home
from servable.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def opened(home: Path, clock: FakeClock) -> Iterator[Home]:
    with open_home(home, clock=clock) as opened:
        yield opened
