"""Shares of limits in the registry: taken by servers that live, and free again when one is gone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from servable.errors import StorageFailed
from servable.registry.home import Home, open_home
from servable.registry.shares import LASTING_S, ShareStore, open_shares
from servable.security.shares import Amounts, Wish

WHOLE = Amounts(100, 10)


@pytest.fixture
def place(home: Path) -> Iterator[Home]:
    with open_home(home) as found:
        yield found


@pytest.fixture(params=["file", "url"])
def store(request: pytest.FixtureRequest, place: Home, home: Path) -> Iterator[ShareStore]:
    url = f"sqlite:///{home / 'registry.db'}" if request.param == "url" else ""
    with closing(open_shares(home, url)) as opened:
        yield opened


def wish(held: Amounts | None = None, asked: int = 5, account: str = "ci") -> Wish:
    return Wish(account, WHOLE, held, 0, asked, 0.0)


def requests(store: ShareStore, server: str, wished: Wish, now: float) -> int:
    (share,) = store.settle(server, [wished], now)
    return share.held.requests


def test_a_share_that_becomes_smaller_is_free_with_the_next_time_alone(store: ShareStore) -> None:
    assert requests(store, "a", wish(), 1000) == 100
    assert requests(store, "b", wish(), 1000) == 50
    # What nobody knows yet of the one that came counts as even.
    assert requests(store, "a", wish(WHOLE, 0), 1001) == 50
    had = Amounts(50, 5)
    assert requests(store, "b", wish(had, 500), 1001) == 50
    less = requests(store, "a", wish(had, 0), 1002)
    assert less < 20
    # The first one counted with all of it until it was told.
    assert requests(store, "b", wish(had, 500), 1002) == 50
    assert requests(store, "a", wish(Amounts(less, 5), 0), 1003) <= less
    assert requests(store, "b", wish(had, 5000), 1003) == 100 - less


def test_the_share_of_a_server_that_is_gone_comes_back(store: ShareStore) -> None:
    requests(store, "a", wish(), 1000)
    requests(store, "b", wish(), 1000)
    assert requests(store, "b", wish(Amounts(50, 5)), 1000 + LASTING_S - 0.1) == 50
    assert requests(store, "b", wish(Amounts(50, 5)), 1000 + LASTING_S) == 100


def test_who_leaves_gives_back_at_once(store: ShareStore) -> None:
    for account in ("ci", "other"):
        requests(store, "a", wish(account=account), 1000)
    requests(store, "b", wish(), 1000)
    store.leave("a")
    assert requests(store, "b", wish(Amounts(50, 5)), 1000) == 100
    assert requests(store, "b", wish(account="other"), 1000) == 100


def test_idle_callers_are_given_back_and_others_kept(store: ShareStore) -> None:
    store.settle("a", [wish(), wish(account="other")], 1000)
    store.settle("a", [wish(WHOLE, account="other")], 1001, ["ci"])
    assert requests(store, "b", wish(), 1001) == 100
    assert requests(store, "b", wish(account="other"), 1001) == 50


def test_the_change_token_stays(store: ShareStore, place: Home) -> None:
    before = place.change_token()
    requests(store, "a", wish(), 1000)
    store.leave("a")
    assert place.change_token() == before


def test_a_home_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    with closing(open_shares(tmp_path / "none")) as store, pytest.raises(StorageFailed):
        store.settle("a", [wish()], 1000)
    assert not (tmp_path / "none").exists()


def test_servers_that_take_at_once_never_hold_more_than_there_is(place: Home, home: Path) -> None:
    def course(server: str) -> int:
        held: Amounts | None = None
        with closing(open_shares(home)) as store:
            for turn in range(20):
                (share,) = store.settle(server, [wish(held, asked=turn * ord(server))], 1000)
                held = share.held
        return held.requests if held else 0

    with ThreadPoolExecutor(3) as servers:
        held = dict(zip("abc", servers.map(course, "abc"), strict=True))
    # Each came once with an even share on top, and has given it up when everybody asked again.
    with closing(open_shares(home)) as store:
        for server in "abc" * 12:
            held[server] = store.settle(server, [wish(Amounts(held[server], 0))], 1000)[0].held.requests
    assert 90 <= sum(held.values()) <= 100
