"""The registry on a real PostgreSQL, where one is named by SERVABLE_TEST_POSTGRESQL.

The variable holds an address such as ``postgresql+psycopg://user:password@127.0.0.1/name`` of a database that
may be changed; the driver is the extra ``postgresql``.
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from registry.adding import add
from servable.errors import ConflictError, VersionNotFound
from servable.registry.home import Home, open_home
from servable.registry.listening import ChangeToken
from servable.registry.quotas import open_quotas
from servable.registry.reader import open_reader
from servable.registry.shares import open_shares
from servable.security.limits import Limits, Rate
from servable.security.scopes import parse_scopes
from servable.security.shares import Amounts, Wish

URL = os.environ.get("SERVABLE_TEST_POSTGRESQL", "")


@pytest.fixture
def opened(home: Path) -> Iterator[Home]:
    if not URL:
        pytest.skip("no PostgreSQL is named by SERVABLE_TEST_POSTGRESQL")
    with open_home(home, database_url=URL) as opened:
        yield opened


def test_versions_aliases_deployments_and_the_reader(opened: Home) -> None:
    name = f"m-{uuid4().hex}"
    before = opened.change_token()
    first, second = add(opened, name, content=b"one"), add(opened, name, content=b"two")
    assert (first.version, second.version) == (1, 2)
    opened.models.set_alias(name, "champion", 1)
    assert opened.models.resolve(f"{name}@champion").package == first.package
    opened.deployments.deploy(name, 1)
    opened.deployments.deploy(name, 2)
    assert opened.deployments.rollback(name).version == 1
    assert opened.change_token() > before
    reader = open_reader(opened.path, database_url=URL)
    assert (name, 1, first.package) in [row[:3] for row in reader.deployments()]
    reader.close()
    opened.deployments.undeploy(name)
    with pytest.raises(ConflictError):
        opened.deployments.rollback(name)
    with pytest.raises(VersionNotFound):
        opened.models.resolve(f"{name}:9")


def test_writers_at_once_get_numbers_of_their_own(opened: Home) -> None:
    name = f"m-{uuid4().hex}"
    found: list[int] = []

    def write(number: int) -> None:
        with open_home(opened.path, database_url=URL) as mine:
            found.extend(add(mine, name, content=bytes([number, turn])).version for turn in range(5))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(found) == list(range(1, 21))


def test_a_reader_is_told_of_changes_and_asks_for_nothing_else(opened: Home) -> None:
    name = f"m-{uuid4().hex}"
    seconds = [0.0]
    asked: list[int] = []

    class Counting:
        """The database, with a count of the questions."""

        tells = opened.state.tells
        listen = staticmethod(opened.state.listen)

        @staticmethod
        def change_token() -> int:
            asked.append(opened.state.change_token())
            return asked[-1]

    token = ChangeToken(Counting, lambda: seconds[0])  # type: ignore[arg-type]  # what it needs of one
    before = token.read()
    assert [token.read() for _ in range(3)] == [before] * 3
    assert len(asked) == 1
    add(opened, name, content=b"one")
    assert token.read() > before
    assert len(asked) == 2
    # Without being told it asks now and then.
    seconds[0] = 60.0
    token.read()
    assert len(asked) == 3
    token.close()
    add(opened, name, content=b"two")
    assert token.read() > before
    token.close()


def test_a_reader_whose_connection_breaks_listens_again(opened: Home) -> None:
    name = f"m-{uuid4().hex}"
    token = ChangeToken(opened.state, lambda: 0.0)
    token.read()
    with opened.state.reading() as connection:
        ended = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
        )
        connection.execute(text(ended))
    for content in (b"one", b"two"):
        add(opened, name, content=content)
        # The end of the connection takes its way through the database and the system.
        deadline = time.monotonic() + 30
        while token.read() != opened.change_token():
            assert time.monotonic() < deadline
    token.close()


def test_servers_that_take_from_a_quota_at_once_take_all_and_no_more(opened: Home) -> None:
    name = f"k-{uuid4().hex}"

    def take_all(_: int) -> int:
        with closing(open_quotas(opened.path, URL)) as store:
            return sum(iter(lambda: store.take(name, 20_000, 200), 0))

    with ThreadPoolExecutor(4) as servers:
        assert sum(servers.map(take_all, range(4))) == 200
    opened.quotas.give_back(name, 20_000, 50)
    assert opened.quotas.used(20_000)[name] == 150
    limits = Limits(Rate(5, 1), 200, 3)
    assert opened.keys.create(name, parse_scopes(["read"]), limits=limits).record in opened.keys.all()


def test_servers_that_take_shares_at_once_never_hold_more_than_there_is(opened: Home) -> None:
    account, whole = f"k-{uuid4().hex}", Amounts(100, 0)
    held: dict[str, Amounts] = {}

    def course(server: str) -> None:
        with closing(open_shares(opened.path, URL)) as store:
            for turn in range(20):
                wish = Wish(account, whole, held.get(server), 0, turn * len(server), 0.0)
                held[server] = store.settle(server, [wish], 1000)[0].held

    servers = [f"{account}{'x' * at}"[-32:] for at in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(course, servers))
    with closing(open_shares(opened.path, URL)) as store:
        for server in servers * 12:
            wish = Wish(account, whole, held[server], 0, 5, 0.0)
            held[server] = store.settle(server, [wish], 1000)[0].held
        assert 90 <= sum(each.requests for each in held.values()) <= 100
        # One that is gone leaves everything to the others.
        (share,) = store.settle(servers[0], [Wish(account, whole, held[servers[0]], 0, 5, 0.0)], 1006)
        assert share.held == whole


def test_the_audit_log_shows_what_was_done_to_it(opened: Home) -> None:
    name = f"m-{uuid4().hex}"
    writers = [threading.Thread(target=add, args=(opened, f"{name}-{at}")) for at in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    opened.audit.checkpoint()
    kept = opened.audit.own_checkpoints()
    assert opened.audit.examine(kept).faults == ()
    last = opened.audit.head().size
    change = "UPDATE audit SET record = {} WHERE number = :last"
    with opened.state.aside() as connection:
        before = connection.execute(
            text("SELECT record FROM audit WHERE number = :last"), {"last": last}
        ).scalar_one()
        connection.execute(text(change.format("replace(record, '\"at\"', '\"as\"')")), {"last": last})
    try:
        (fault,) = opened.audit.examine(kept).faults
        assert (fault.kind, fault.first) == ("edited", last)
    finally:
        with opened.state.aside() as connection:
            connection.execute(text(change.format(":before")), {"last": last, "before": before})
    assert opened.audit.examine(kept).faults == ()
