"""What is held about people is handed out and erased: sealed or in clear, again after any kill."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from servable.artifact.personal import with_personal
from servable.artifact.signature import Signature
from servable.errors import SettingInvalid
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.metrics import Metrics
from servable.monitoring.segments import TrafficStore
from servable.registry.home import open_home
from servable.serving.answer import answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Live
from servable.settings import ServerSettings
from servable.testing import FakeClock
from servable.workflows.deploy import deploy
from servable.workflows.privacy import erase_subject, export_subject
from servable.workflows.quality import remove_old
from servable.workflows.traffic import traffic
from serving.making_people import PEOPLE, publish_people

ANN, BOB, EVE = "ann-canary", "bob-canary", "eve-canary"


def ask(home: Path, names: list[str], **settings: Any) -> None:
    """Requests about people, and what turned out, over a host that ends cleanly."""

    async def course() -> None:
        host = Host(RegistrySource(home), Metrics("test"), ServerSettings(home=str(home), **settings))
        await host.reconcile()
        live = host.find("risk")
        assert isinstance(live, Live)
        for name in names:
            row = {"customer": name, "email": f"{name}@example.com", "amount": 5.0}
            await answer(live, json.dumps({"inputs": [row]}).encode(), f"request-{name}")
        await host.recorder.keep("risk", [FeedbackRow(f"request-{name}", 0, "high") for name in names])
        await host.close()

    asyncio.run(course())


def people_in(home: Path) -> list[str]:
    """Whose captured rows can be read."""
    with open_home(home) as place:
        tables = TrafficStore(home, keys=place.subjects).tables("risk", "predictions")
    return sorted(name for table in tables for name in table["in.customer"].to_pylist())


def found_in(home: Path) -> set[str]:
    """Whose name stands in any file, also in those that are compressed."""
    contents = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    contents += [str(pq.read_table(path).to_pydict()).encode() for path in home.rglob("*.parquet")]
    return {name.decode() for each in contents for name in re.findall(rb"(?:ann|bob|eve)-canary", each)}


@pytest.fixture
def sealed(home: Path) -> Path:
    publish_people(home, capture=1.0, capture_subject="customer")
    ask(home, [ANN, BOB, EVE, ANN])
    return home


@pytest.fixture
def plain(home: Path) -> Path:
    publish_people(home, capture=1.0)
    ask(home, [ANN, BOB, EVE])
    return home


def test_sealed_rows_say_nothing_and_read_as_ever(sealed: Path) -> None:
    assert found_in(sealed) == set()
    assert people_in(sealed) == [ANN, ANN, BOB, EVE]
    shown = traffic("risk", home=sealed)
    # A request that was asked twice counts once.
    assert (shown.versions[0].rows, shown.versions[0].labelled, shown.unknown) == (3, 3, 0)
    assert {row["request_id"] for row in shown.newest} == {f"request-{name}" for name in (ANN, BOB, EVE)}


def test_export_gives_everything_about_one(sealed: Path, tmp_path: Path) -> None:
    found = export_subject(ANN, home=sealed)
    assert (found.rows, found.feedback, found.models) == (2, 2, ("risk",))
    assert {record["kind"] for record in found.records} == {"predictions", "feedback"}
    assert found.records[0]["in.email"] == f"{ANN}@example.com"
    assert BOB not in str(found.records)
    lines = export_subject(ANN, output=tmp_path / "ann.jsonl", home=sealed)
    assert (lines.rows, lines.records) == (2, ())
    assert len((tmp_path / "ann.jsonl").read_text().splitlines()) == 4
    export_subject(ANN, output=tmp_path / "ann.parquet", home=sealed)
    assert pq.read_table(tmp_path / "ann.parquet").num_rows == 4
    assert export_subject("nobody", home=sealed).rows == 0


def test_erasing_takes_one_away_and_no_other_and_can_be_repeated(sealed: Path) -> None:
    first = erase_subject(ANN, home=sealed)
    assert (first.keys, first.sealed, first.rows, first.complete) == (1, 2, 0, True)
    again = erase_subject(ANN, home=sealed)
    assert (again.keys, again.receipts) == (0, first.receipts)
    assert ANN not in str(first)
    assert people_in(sealed) == [BOB, EVE]
    assert export_subject(ANN, home=sealed).rows == 0
    assert traffic("risk", home=sealed).unknown == 0


def test_what_was_captured_in_clear_before_goes_as_well(plain: Path) -> None:
    assert found_in(plain) == {ANN, BOB, EVE}
    deploy("risk", capture_subject="customer", home=plain)
    ask(plain, [ANN, BOB])
    assert export_subject(ANN, home=plain).rows == 2
    erased = erase_subject(ANN, home=plain)
    assert (erased.keys, erased.sealed, erased.rows) == (1, 1, 1)
    assert ANN not in found_in(plain)
    assert people_in(plain) == [BOB, BOB, EVE]
    assert export_subject(BOB, home=plain).feedback == 2


def test_without_a_subject_rows_are_found_by_a_value(plain: Path) -> None:
    where = {"email": f"{ANN}@example.com"}
    assert export_subject(where=where, home=plain).rows == 1
    erased = erase_subject(where=where, home=plain)
    assert (erased.rows, erased.feedback, erased.segments, erased.complete) == (1, 1, 2, True)
    assert found_in(plain) == {BOB, EVE}
    assert people_in(plain) == [BOB, EVE]
    assert erase_subject(where=where, home=plain).rows == 0


def test_hashed_and_sealed_values_are_found_too(home: Path) -> None:
    publish_people(home, with_personal(PEOPLE, {"email": "hash", "customer": "encrypt"}), capture=1.0)
    ask(home, [ANN, BOB])
    # Only the id of the request, which its caller chose, and feedback about it say who it was.
    assert people_in(home) == [ANN, BOB]
    assert export_subject(where={"email": f"{ANN}@example.com"}, home=home).rows == 1
    assert erase_subject(where={"customer": ANN}, home=home).rows == 1
    assert people_in(home) == [BOB]
    assert ANN not in found_in(home)


def marked(choice: str) -> Signature:
    return with_personal(PEOPLE, {"email": choice})


@pytest.mark.parametrize("choice", ["drop", "hash", "encrypt"])
def test_personal_columns_are_never_captured_in_clear(home: Path, choice: str) -> None:
    publish_people(home, marked(choice), capture=1.0)
    ask(home, [ANN])
    raw = [pq.read_table(path) for path in home.rglob("predictions/*/*.parquet")]
    assert not any("@example.com" in str(table.to_pydict()) for table in raw)
    with open_home(home) as place:
        (table,) = TrafficStore(home, keys=place.subjects).tables("risk", "predictions")
    row = table.to_pylist()[0]
    assert ("in.email" in row) == (choice != "drop")
    assert (row.get("in.email") == f"{ANN}@example.com") == (choice == "encrypt")


def test_keys_and_rows_go_by_age(sealed: Path) -> None:
    clock = FakeClock()
    with open_home(sealed) as place:
        clock.advance(timedelta(days=3_650).total_seconds())
        assert remove_old(place, clock) == 2
        # Their keys went with them.
        assert place.subjects.forget_before(clock.now() + timedelta(days=1)) == 0
    assert not list(sealed.rglob("*.parquet"))


KILLED = """
import os, signal, sys
from servable.workflows import privacy

step, home = int(sys.argv[1]), sys.argv[2]

def after(owner, name, count):
    real, seen = getattr(owner, name), [0]
    def wrapped(*given, **named):
        made = real(*given, **named)
        seen[0] += 1
        if seen[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return made
    setattr(owner, name, wrapped)

from servable.registry.subjects import Subjects
from servable.registry.state import State
from servable.monitoring.segments import TrafficStore
replace = (TrafficStore, "replace")
steps = [(Subjects, "erase", 1), (*replace, 1), (*replace, 2), (State, "scrub", 1)]
after(*steps[step])
privacy.erase_subject("ann-canary", home=home)
"""


@pytest.mark.parametrize("step", range(4))
def test_an_erasure_that_was_killed_is_done_by_doing_it_again(plain: Path, step: int) -> None:
    deploy("risk", capture_subject="customer", home=plain)
    ask(plain, [ANN, BOB])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(step), str(plain)],
        env=dict(os.environ),
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    # Nobody else lost anything in between.
    assert [name for name in people_in(plain) if name != ANN] == [BOB, BOB, EVE]
    assert erase_subject(ANN, home=plain).complete
    assert ANN not in found_in(plain)
    assert people_in(plain) == [BOB, BOB, EVE]
    assert export_subject(BOB, home=plain).feedback == 2


def test_rows_are_rather_lost_than_written_in_clear(sealed: Path) -> None:
    with open_home(sealed) as place:
        ids = TrafficStore(sealed).secret().subject_id
        place.subjects.erase([ids(BOB)], at=1)
        place.subjects.ensure({ids(BOB): b"damaged" * 8})
    ask(sealed, [BOB])
    assert found_in(sealed) == set()
    assert people_in(sealed) == [ANN, ANN, EVE]


def test_who_is_meant_must_be_said(sealed: Path) -> None:
    for verb in (erase_subject, export_subject):
        with pytest.raises(SettingInvalid, match="Say who"):
            verb(home=sealed)
        with pytest.raises(SettingInvalid, match="not both"):
            verb(ANN, where={"email": "x"}, home=sealed)
    with pytest.raises(SettingInvalid, match="neither"):
        export_subject(ANN, output="ann.csv", home=sealed)


def test_a_subject_must_be_an_input(sealed: Path) -> None:
    with pytest.raises(SettingInvalid, match="no column 'name' that could say whom"):
        deploy("risk", capture_subject="name", home=sealed)
    assert deploy("risk", capture_subject="none", home=sealed).policy.get("capture_subject", "") == ""
