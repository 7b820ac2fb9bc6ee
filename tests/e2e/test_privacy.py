"""People are erased from a real server and its home: no byte is left of them, and others can be read."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

import servable
from e2e.conftest import Serve, said
from servable.monitoring.segments import TrafficStore
from servable.registry.home import open_home
from servable.security.audit_chain import content_of
from servable.workflows.privacy import erase_subject, export_subject
from serving.making_people import publish_people

COUNT = 1_000


def canary(number: int) -> str:
    """Who a row is about; letters that occur nowhere else, as no part of another's."""
    return f"canary{number:04d}x"


def row(number: int) -> dict[str, object]:
    return {"customer": canary(number), "email": f"{canary(number)}@example.com", "amount": float(number)}


def found_in(folder: Path) -> set[int]:
    """Whose bytes are in any file below a folder: segments, journals, database, its log and free pages."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {int(number) for content in contents for number in re.findall(rb"canary(\d{4})x", content)}


def held(home: Path) -> set[str]:
    """Whose captured rows can be read."""
    with open_home(home) as place:
        store = TrafficStore(home, keys=place.subjects)
        tables = store.tables("risk", "predictions")
        return {name for table in tables for name in table["in.customer"].to_pylist()}


def test_half_of_a_thousand_people_are_erased_while_a_server_runs(
    home: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_people(home, capture=1.0, capture_subject="customer", cache_bytes=1_000_000)
    # Nothing becomes a segment by itself meanwhile: all of it is in memory and in the journal.
    monkeypatch.setenv("SERVABLE_CAPTURE_INTERVAL_S", "3600")
    url = serve(home)
    gone = range(0, COUNT, 2)
    with servable.Client(url) as client:
        ask(client, range(COUNT))
        assert found_in(home) == set(range(COUNT))  # The journal of feedback, in clear.
        receipt = erase_subject(*map(canary, gone), home=home)
        assert receipt.complete
        assert len(receipt.receipts) == len(gone)
        assert found_in(home) == set()
        shutil.copytree(home / "traffic", tmp_path / "backup")
        left = export_subject(canary(1), home=home)
        assert (left.rows, left.feedback, left.models) == (1, 1, ("risk",))
        assert left.records[0]["in.email"] == f"{canary(1)}@example.com"
        assert export_subject(*map(canary, gone), home=home) == export_subject("nobody", home=home)
        assert held(home) == set(map(canary, set(range(COUNT)) - set(gone)))
        # What is in segments goes as well, and in a copy of them; whoever comes again is somebody new.
        assert erase_subject(canary(1), home=home).sealed == 1
        assert erase_subject(canary(1), home=home).keys == 0
        shutil.copytree(tmp_path / "backup", home / "traffic", dirs_exist_ok=True)
        assert canary(1) not in held(home)
        ask(client, [1])
        assert erase_subject("nobody", home=home).complete
    assert canary(1) in held(home)
    assert len(held(home)) == COUNT // 2
    assert said("quality", "risk", "--home", str(home))["versions"][0]["quality"]["whole"]["labels"] == 500
    # Who was erased is told in the audit log by nothing but keyed hashes, so it is as whole as before.
    with open_home(home) as place:
        checked = place.audit.examine(place.audit.own_checkpoints())
        recorded = [(content_of(record) or {})["what"] for record in place.audit.rows()]
    assert checked.faults == ()
    assert recorded.count("privacy.erase") == 4


def ask(client: servable.Client, numbers: Iterable[int]) -> None:
    """Predictions about people, and what turned out."""
    rows = []
    for number in numbers:
        request_id = f"request-{canary(number)}"
        client.predict("risk", row(number), request_id=request_id)
        rows.append({"request_id": request_id, "outcome": "high" if number % 2 else "low"})
    assert client.feedback_rows("risk", rows) == len(rows)
