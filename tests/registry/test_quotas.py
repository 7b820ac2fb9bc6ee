"""Quotas of a day in the registry: taken in blocks by many, never more than there is."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from servable.errors import StorageFailed
from servable.registry.home import Home, open_home
from servable.registry.quotas import QuotaStore, open_quotas


@pytest.fixture
def place(home: Path) -> Iterator[Home]:
    with open_home(home) as found:
        yield found


@pytest.fixture(params=["file", "url", "home"])
def store(request: pytest.FixtureRequest, place: Home, home: Path) -> Iterator[QuotaStore]:
    """What a server opens, by its file or its address, and what commands have."""
    if request.param == "home":
        yield place.quotas
        return
    url = f"sqlite:///{home / 'registry.db'}" if request.param == "url" else ""
    with closing(open_quotas(home, url)) as opened:
        yield opened


def test_blocks_until_nothing_is_left(store: QuotaStore, place: Home) -> None:
    assert [store.take("ci", 20_000, 50) for _ in range(3)] == [12, 12, 12]
    assert place.quotas.used(20_000) == {"ci": 36}
    store.give_back("ci", 20_000, 2)
    assert place.quotas.used(20_000) == {"ci": 34}
    assert [store.take("ci", 20_000, 50) for _ in range(3)] == [12, 4, 0]
    assert place.quotas.used(20_000) == {"ci": 50}


def test_days_and_names_are_apart(store: QuotaStore, place: Home) -> None:
    assert store.take("ci", 20_000, 1) == 1
    assert store.take("ci", 20_000, 1) == 0
    assert store.take("ci", 20_001, 1) == 1
    assert store.take("other", 20_000, 1) == 1
    assert place.quotas.used(20_000) == {"ci": 1, "other": 1}


def test_a_quota_may_be_raised_or_lowered_within_a_day(store: QuotaStore) -> None:
    assert store.take("ci", 20_000, 1) == 1
    assert store.take("ci", 20_000, 2) == 1
    assert store.take("ci", 20_000, 1) == 0


def test_what_was_never_taken_is_not_given_back(store: QuotaStore, place: Home) -> None:
    store.take("ci", 20_000, 1)
    store.give_back("ci", 20_000, 5)
    assert place.quotas.used(20_000) == {"ci": 1}


def test_old_days_are_forgotten(store: QuotaStore, place: Home) -> None:
    store.take("ci", 20_000, 1)
    store.take("ci", 20_041, 1)
    assert place.quotas.used(20_000) == {}


def test_the_change_token_stays(store: QuotaStore, place: Home) -> None:
    before = place.change_token()
    store.take("ci", 20_000, 5)
    store.give_back("ci", 20_000, 1)
    assert place.change_token() == before


def test_a_home_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    with closing(open_quotas(tmp_path / "none")) as store, pytest.raises(StorageFailed):
        store.take("ci", 20_000, 5)
    assert not (tmp_path / "none").exists()


def test_servers_that_take_at_once_take_all_and_no_more(place: Home, home: Path) -> None:
    def take_all(_: int) -> int:
        with closing(open_quotas(home)) as store:
            return sum(iter(lambda: store.take("ci", 20_000, 60), 0))

    with ThreadPoolExecutor(3) as servers:
        assert sum(servers.map(take_all, range(3))) == 60
    assert place.quotas.used(20_000) == {"ci": 60}
