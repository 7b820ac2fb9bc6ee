"""The audit log of a home: every change is in it, in the transaction of the change; tampering is found."""

import json
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from registry.adding import add
from servable.errors import ConflictError, InputError, StorageFailed
from servable.registry.audit_file import OpenAuditLog
from servable.registry.audit_log import AuditLog
from servable.registry.audit_ship import ship, shipped
from servable.registry.home import Home, open_home
from servable.registry.records import Share, Traffic
from servable.registry.schedules import ScheduleRecord, keep_schedule
from servable.security.actors import Actor, acting
from servable.security.audit_chain import ORIGIN, Entry, Examined, Seen, canonical, content_of, hash_of
from servable.security.checkpoints import notes_in
from servable.security.checkpoints import opened as opened_note
from servable.security.scopes import parse_scopes
from servable.testing import FakeClock

SCOPES = parse_scopes(["read"])
Tamper = Callable[[sqlite3.Connection], None]


def said(home: Home, after: int = 0) -> list[tuple[str, str]]:
    """What was done, and who did it."""
    contents = [content_of(row) or {} for row in home.audit.rows(after)]
    return [(content["what"], content["who"]) for content in contents]


def details(home: Home) -> dict[str, object]:
    """Of the newest record."""
    found: dict[str, object] = (content_of(list(home.audit.rows())[-1]) or {})["details"]
    return found


def outside(home: Home, *notes: str) -> tuple[Seen, ...]:
    """Checkpoints as an auditor who kept them sees them."""
    keys = [home.audit.key.private().public]
    return tuple(filter(None, (opened_note(note, keys) for text in notes for note in notes_in(text))))


def refused(model: str, version: int, reason: str = "not signed", where: str = "host:a") -> Entry:
    told = {"model": model, "version": version, "package": "ab" * 32, "reason": reason}
    return Entry("2026-01-31T12:00:00Z", "version.refuse", "service:server", where, told)


def test_what_several_processes_find_is_said_once_until_something_is_decided(
    opened: Home, home: Path
) -> None:
    def count() -> int:
        return [what for what, _ in said(opened)].count("version.refuse")

    add(opened), add(opened, content=b"another")
    opened.deployments.deploy("churn", 2)
    other = OpenAuditLog(home, "", FakeClock())
    writers = [opened.audit, other.log]
    both = threading.Barrier(2)

    def write(log: AuditLog) -> None:
        both.wait()
        for _ in range(5):
            log.add([], [refused("churn", 2)])

    # A connection of a home belongs to the thread that uses it; each writer has its own.
    threads = [threading.Thread(target=write, args=(log,)) for log in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count() == 1
    # What is no decision about this model changes nothing, whether it is a request or about another one.
    other.log.add([Entry("2026-01-31T12:00:00Z", "denied", "unknown", "", {"model": "churn"})])
    add(opened, "churn2", content=b"x")
    other.log.add([], [refused("churn", 2), refused("churn2", 1)])
    assert count() == 2
    # Another version, reason or machine is another refusal.
    other.log.add(
        [], [refused("churn", 1), refused("churn", 2, "older"), refused("churn", 2, where="host:b")]
    )
    other.log.add(
        [], [refused("churn", 1), refused("churn", 2, "older"), refused("churn", 2, where="host:b")]
    )
    assert count() == 5
    opened.deployments.deploy("churn", 1)
    opened.deployments.deploy("churn", 2)
    other.log.add([], [refused("churn", 2)])
    other.log.add([], [refused("churn", 2, "a reason that is longer than is kept " * 20)])
    other.log.add([], [refused("churn", 2, "a reason that is longer than is kept " * 20)])
    assert count() == 7
    other.close()


def test_a_damaged_record_keeps_no_refusal_from_being_said(opened: Home, home: Path) -> None:
    add(opened)
    opened.audit.add([], [refused("churn", 1)])
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("""UPDATE audit SET record = '["churn"' WHERE number = 2""")
    opened.audit.add([], [refused("churn", 1)])
    assert [row.number for row in opened.audit.rows()] == [1, 2, 3]


@pytest.fixture
def place(home: Path) -> Iterator[Home]:
    clock = FakeClock()
    with open_home(home, clock=clock) as found, acting(Actor("user:anna", "host:box")):
        yield found


def test_every_change_of_a_home_is_recorded(opened: Home) -> None:
    with acting(Actor("user:anna", "host:box")):
        add(opened), add(opened, content=b"another"), add(opened, content=b"third")
        opened.models.set_alias("churn", "champion", 1)
        opened.models.remove_alias("churn", "champion")
        opened.deployments.deploy("churn", 1, policy={"pinned": True})
        opened.deployments.deploy("churn", 2)
        opened.deployments.rollback("churn")
        opened.deployments.divide(
            "churn", Traffic(shares=(Share(version=1, weight=1), Share(version=2, weight=3)))
        )
        opened.deployments.rollback("churn")
        opened.deployments.set_default("churn")
        opened.deployments.undeploy("churn")
        opened.keys.create("ci", SCOPES)
        opened.keys.rotate("ci", timedelta(days=1))
        opened.keys.revoke("ci")
        opened.audit.record("privacy.erase", subject="0123")
    assert [what for what, who in said(opened) if who == "user:anna"] == [
        *["version.create"] * 3, "alias.set", "alias.remove", "deploy", "deploy", "rollback",
        "traffic.divide", "rollback", "default.set", "undeploy",
        "keys.create", "keys.rotate", "keys.revoke", "privacy.erase",
    ]  # fmt: skip
    assert opened.audit.examine(()).faults == ()


def test_what_is_recorded_of_a_deployment_and_a_key(place: Home) -> None:
    add(place), add(place, content=b"another")
    place.deployments.deploy("churn", 1)
    place.deployments.deploy("churn", 2, policy={"pinned": True})
    assert details(place) == {
        "model": "churn", "version": 2, "default": True, "policy": {"pinned": True}, "before": 1
    }  # fmt: skip
    made = place.keys.create("ci", SCOPES, timedelta(days=1))
    assert details(place) == {
        "key": "ci", "id": made.record.id, "scopes": ["read:*"], "expires_at": "2026-02-01T12:00:00Z"
    }  # fmt: skip
    assert made.text.split("_", 2)[2][:20] not in "".join(row.record for row in place.audit.rows())


def test_a_schedule_is_recorded_when_it_is_decided_and_not_when_it_moves(place: Home) -> None:
    add(place)
    keep_schedule(place.findings, "churn", ScheduleRecord(next_at="2026-02-01T00:00:00Z", every_s=60.0))
    keep_schedule(place.findings, "churn", ScheduleRecord(next_at="2026-02-02T00:00:00Z", every_s=60.0))
    keep_schedule(place.findings, "churn", ScheduleRecord(next_at="2026-02-02T00:00:00Z", cron="0 3 * * *"))
    keep_schedule(place.findings, "churn", None)
    assert [what for what, _ in said(place)] == ["version.create", *["schedule.set"] * 3]


def test_what_fails_is_not_recorded_and_what_cannot_be_recorded_is_not_done(place: Home, home: Path) -> None:
    place.keys.create("ci", SCOPES)
    with pytest.raises(ConflictError):
        place.keys.create("ci", SCOPES)
    with pytest.raises(InputError):
        place.keys.create("a b", SCOPES)
    assert len(list(place.audit.rows())) == 1
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(StorageFailed):
        place.keys.revoke("ci")
    with pytest.raises(StorageFailed):
        add(place)
    assert [key.revoked_at for key in place.keys.all()] == [""]
    assert place.models.all() == ()


def test_writers_of_several_kinds_take_turns(place: Home, home: Path, clock: FakeClock) -> None:
    def change(number: int) -> None:
        with open_home(home) as mine:
            for each in range(5):
                mine.keys.create(f"k{number}.{each}", SCOPES)

    def refuse() -> None:
        writer = OpenAuditLog(home, "", clock)
        for _ in range(5):
            writer.log.add([writer.log.entry("denied"), writer.log.entry("denied")])
        writer.close()

    threads = [threading.Thread(target=change, args=(number,)) for number in range(2)]
    threads += [threading.Thread(target=refuse) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = place.audit.examine(())
    assert (found.head.size, found.faults) == (30, ())


# ---------------------------------------------------------------------------- tampering


def edit(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE audit SET record = replace(record, 'k3', 'k9') WHERE number = 4")


def remove(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM audit WHERE number = 4")


def reorder(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE audit SET number = 99 WHERE number = 4")
    connection.execute("UPDATE audit SET number = 4 WHERE number = 5")
    connection.execute("UPDATE audit SET number = 5 WHERE number = 99")


def truncate(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM audit WHERE number > 5")


def recompute(connection: sqlite3.Connection) -> None:
    """Edit a record, and make the chain fit it from there on."""
    edit(connection)
    before = ORIGIN
    for number, record in connection.execute("SELECT number, record FROM audit ORDER BY number").fetchall():
        before = hash_of(before, record)
        connection.execute("UPDATE audit SET hash = ? WHERE number = ?", (before, number))


def tail_made_anew(connection: sqlite3.Connection) -> None:
    """Cut the end off, and write as many others in its place."""
    truncate(connection)
    record, before = connection.execute("SELECT record, hash FROM audit WHERE number = 5").fetchone()
    for number in range(6, 10):
        content = canonical(json.loads(record) | {"number": number})
        before = hash_of(before, content)
        connection.execute("INSERT INTO audit VALUES (?, ?, ?)", (number, content, before))


#: Each with what it is told as, from which record on, and whether only a checkpoint kept elsewhere shows it.
WAYS: list[tuple[Tamper, str, int, bool]] = [
    (edit, "edited", 4, False),
    (remove, "missing", 4, False),
    (reorder, "moved", 4, False),
    (truncate, "truncated", 6, True),
    (tail_made_anew, "rewritten", 5, True),
    (recompute, "rewritten", 1, True),
]


@pytest.mark.parametrize(("tamper", "kind", "first", "hidden"), WAYS)
def test_tampering_is_found(
    place: Home, home: Path, tamper: Tamper, kind: str, first: int, hidden: bool
) -> None:
    for number in range(4):
        place.keys.create(f"k{number}", SCOPES)
    early = place.audit.checkpoint()
    for number in range(4, 8):
        place.keys.create(f"k{number}", SCOPES)
    late = place.audit.checkpoint()
    kept = outside(place, early, late)
    assert place.audit.examine(kept).faults == ()
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        tamper(connection)
        # Who changes the log does not leave what gives them away.
        connection.execute("DELETE FROM audit_checkpoints")
    assert (place.audit.examine(()).faults == ()) == hidden
    found = place.audit.examine(kept).faults[0]
    assert (found.kind, found.first) == (kind, first)
    assert found.at


def test_a_log_that_grew_before_it_was_cut_and_grew_again_is_found(place: Home, home: Path) -> None:
    for number in range(4):
        place.keys.create(f"k{number}", SCOPES)
    kept = outside(place, place.audit.checkpoint())
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("DELETE FROM audit WHERE number > 2")
    # The program itself goes on where the log ends now.
    for number in range(10, 15):
        place.keys.create(f"k{number}", SCOPES)
    assert place.audit.examine(()).faults == ()
    (fault,) = place.audit.examine(kept).faults
    assert (fault.kind, fault.last) == ("rewritten", 4)


def test_bytes_that_are_no_text_are_found(place: Home, home: Path) -> None:
    place.keys.create("ci", SCOPES)
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("UPDATE audit SET record = CAST(x'ff00fe' AS TEXT)")
    assert [fault.kind for fault in place.audit.examine(()).faults] == ["edited"]
    # It does not keep a key from being revoked.
    assert place.keys.revoke("ci") != ()


# ---------------------------------------------------------------------------- checkpoints and age


def test_a_checkpoint_is_due_by_records_and_by_time(opened: Home, clock: FakeClock) -> None:
    assert opened.audit.checkpoint_if_due() == ""
    opened.keys.create("a", SCOPES)
    assert opened.audit.checkpoint_if_due().split("\n")[1] == "1"
    opened.keys.create("b", SCOPES)
    assert opened.audit.checkpoint_if_due() == ""
    clock.advance(600)
    assert opened.audit.checkpoint_if_due().split("\n")[1] == "2"
    opened.audit.add([opened.audit.entry("denied")] * 999)
    assert opened.audit.checkpoint_if_due() == ""
    opened.audit.add([opened.audit.entry("denied")])
    assert opened.audit.checkpoint_if_due().split("\n")[1] == "1002"
    clock.advance(6000)
    assert opened.audit.checkpoint_if_due() == ""


def test_old_records_are_dropped_and_the_rest_verifies(opened: Home, clock: FakeClock) -> None:
    for day in range(5):
        opened.keys.create(f"k{day}", SCOPES)
        kept = opened.audit.checkpoint()
        clock.advance(86_400)
    limit = clock.now() - timedelta(days=2, hours=1)
    assert opened.audit.drop(limit) == 3
    assert opened.audit.drop(limit) == 0
    found = opened.audit.examine((*opened.audit.own_checkpoints(), *outside(opened, kept)))
    assert (found.first, found.head.size, found.faults) == (4, 6, ())
    assert said(opened, 5)[0][0] == "audit.cut"
    clock.advance(10 * 86_400)
    # The newest record stays, so that the log goes on from it.
    assert opened.audit.drop(clock.now()) == 2
    found = opened.audit.examine(opened.audit.own_checkpoints())
    assert (found.first, found.head.size, found.faults) == (6, 7, ())


def test_a_cut_that_nobody_signed_is_found(opened: Home, home: Path, clock: FakeClock) -> None:
    for day in range(5):
        opened.keys.create(f"k{day}", SCOPES)
        opened.audit.checkpoint()
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("DELETE FROM audit WHERE number <= 3")
    found: Examined = opened.audit.examine(opened.audit.own_checkpoints())
    assert [fault.kind for fault in found.faults] == ["missing"]
    clock.advance(86_400)
    # And no signature covers it up later.
    with pytest.raises(StorageFailed, match="nothing is dropped"):
        opened.audit.drop(clock.now())


def test_the_key_is_its_owners_alone(opened: Home, home: Path) -> None:
    assert not opened.audit.key.exists
    public = opened.audit.key.private().public
    file = home / "audit.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert opened.audit.key.private().public == public
    file.chmod(0o644)
    with pytest.raises(StorageFailed, match="chmod 600"):
        opened.audit.checkpoint()
    file.chmod(0o600)
    file.write_bytes(b"nonsense")
    with pytest.raises(StorageFailed, match="cannot sign"):
        opened.audit.checkpoint()
    assert sorted(path.name for path in home.iterdir() if "audit" in path.name) == ["audit.key"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_checkpoints_are_shipped(opened: Home, tmp_path: Path, kind: str) -> None:
    where = tmp_path / "out"
    if kind == "folder":
        where.mkdir()
    opened.keys.create("a", SCOPES)
    notes = [opened.audit.checkpoint() for _ in range(2)]
    for note in notes:
        ship(note, str(where))
    texts = [text for _, text in shipped(where)]
    assert len(texts) == (2 if kind == "folder" else 1)
    assert len(outside(opened, *texts)) == 2
    ship(notes[0], "")
    with pytest.raises(StorageFailed, match="shipping a checkpoint"):
        ship(notes[0], "/proc/none/x")
