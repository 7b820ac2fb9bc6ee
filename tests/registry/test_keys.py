"""Keys in a registry: made, rotated, revoked, read by servers."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from servable.errors import ConflictError, InputError, NotFoundError
from servable.registry.home import Home, open_home
from servable.registry.keys_reader import open_keys_reader
from servable.security.scopes import parse_scopes
from servable.testing import FakeClock

SCOPES = parse_scopes(["predict:income", "read"])
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def place(home: Path, clock: FakeClock) -> Iterator[Home]:
    with open_home(home, clock=clock) as found:
        yield found


def test_a_key_is_kept_without_its_secret(place: Home, home: Path) -> None:
    made = place.keys.create("ci", SCOPES, 90 * DAY)
    assert place.keys.all() == (made.record,)
    assert (made.record.scopes, made.record.expires_at) == (SCOPES, "2026-05-01T12:00:00Z")
    secret = made.text.split("_", 2)[2][:43].encode()
    for file in home.rglob("*"):
        assert not file.is_file() or secret not in file.read_bytes()


def test_one_active_key_has_a_name(place: Home, clock: FakeClock) -> None:
    place.keys.create("ci", SCOPES, DAY)
    with pytest.raises(ConflictError, match="servable keys rotate ci"):
        place.keys.create("ci", SCOPES)
    clock.advance(86_400)
    place.keys.create("ci", SCOPES)
    place.keys.revoke("ci")
    place.keys.create("ci", SCOPES)
    for name in ("", " ", "a b", "x" * 129, "-a"):
        with pytest.raises(InputError, match="no name of a key"):
            place.keys.create(name, SCOPES)


def test_a_rotated_key_lasts_for_the_overlap(place: Home, clock: FakeClock) -> None:
    place.keys.create("ci", SCOPES, 10 * DAY)
    clock.advance(5 * 86_400)
    new = place.keys.rotate("ci", DAY)
    old, kept = place.keys.all()
    assert (old.expires_at, kept) == ("2026-02-06T12:00:00Z", new.record)
    assert (kept.name, kept.scopes, kept.expires_at) == ("ci", SCOPES, "2026-02-15T12:00:00Z")
    # Never longer than it had.
    clock.advance(3600)
    place.keys.rotate("ci", 30 * DAY, 60 * DAY)
    states = [(key.expires_at, key.state(clock.now())) for key in place.keys.all()]
    assert states == [
        ("2026-02-06T12:00:00Z", "active"),
        ("2026-02-15T12:00:00Z", "active"),
        ("2026-04-06T13:00:00Z", "active"),
    ]
    place.keys.rotate(kept.id, timedelta(0))
    assert place.keys.all()[1].state(clock.now()) == "expired"
    with pytest.raises(NotFoundError, match="no active key 'other'"):
        place.keys.rotate("other", DAY)


def test_a_key_whose_time_was_cut_is_replaced_by_one_that_lasts_as_long_as_it_was_made_for(
    place: Home, clock: FakeClock
) -> None:
    first = place.keys.create("ci", SCOPES, 10 * DAY).record
    place.keys.rotate("ci", DAY)
    clock.advance(3600)
    again = place.keys.rotate(first.id, DAY).record
    assert again.expires_at == "2026-02-10T13:00:00Z"
    # Also when the key that took its place is not valid any more.
    place.keys.revoke(again.id)
    assert place.keys.rotate(first.id, DAY).record.expires_at == "2026-02-10T13:00:00Z"


def test_revoked_keys(place: Home, clock: FakeClock) -> None:
    first = place.keys.create("ci", SCOPES).record
    second = place.keys.rotate("ci", DAY).record
    assert [key.id for key in place.keys.revoke(first.id)] == [first.id]
    assert [key.id for key in place.keys.revoke("ci")] == [second.id]
    assert place.keys.revoke("ci") == ()
    assert {key.state(clock.now()) for key in place.keys.all()} == {"revoked"}
    with pytest.raises(NotFoundError, match="There is no key 'nobody'"):
        place.keys.revoke("nobody")


@pytest.mark.parametrize("kind", ["file", "url"])
def test_a_server_reads_keys_and_sees_changes(place: Home, home: Path, kind: str) -> None:
    url = f"sqlite:///{home / 'registry.db'}" if kind == "url" else ""
    with closing(open_keys_reader(home, url)) as reader:
        before = reader.token()
        assert reader.keys() == ()
        made = place.keys.create("ci", SCOPES)
        assert reader.token() != before
        assert reader.keys() == (made.record,)


def test_a_home_that_is_not_there_has_no_keys(tmp_path: Path) -> None:
    with closing(open_keys_reader(tmp_path / "none")) as reader:
        assert reader.keys() == ()
        assert not (tmp_path / "none").exists()
        with open_home(tmp_path / "none") as place:
            place.keys.create("ci", SCOPES)
        assert len(reader.keys()) == 1


def test_a_home_of_an_older_form_is_brought_to_todays(home: Path) -> None:
    with open_home(home):
        pass
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        later = ("audit", "audit_checkpoints", "subject_keys", "erasures", "limit_shares")
        for table in ("keys", "quota_use", *later):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
    with closing(open_keys_reader(home)) as reader:
        assert reader.keys() == ()
