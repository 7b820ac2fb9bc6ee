"""The chain of the audit log: whatever is done to records is found, and nothing else is."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.security.audit_chain import (
    ORIGIN,
    Entry,
    Examined,
    Head,
    Row,
    Seen,
    canonical,
    content_of,
    examine,
    hash_of,
    link,
    subject_tag,
)

LOG = "0123456789abcdef"
AT = "2026-01-31T12:00:00Z"
LATER = "2026-01-31T13:00:00Z"


def made(count: int, what: str = "keys.create", log: str = LOG) -> list[Row]:
    """A log with some records."""
    head, rows = Head(log, 0, ORIGIN), []
    for number in range(count):
        rows.append(link(head, Entry(AT, what, "user:anna", "host:box", {"key": f"k{number}"})))
        head = Head(log, rows[-1].number, rows[-1].hash)
    return rows


def seen_at(rows: Sequence[Row], size: int, *, cut: bool = False) -> Seen:
    """A checkpoint that was kept elsewhere."""
    return Seen(Head(LOG, size, rows[size - 1].hash), LATER, cut=cut, place="elsewhere")


def kinds(examined: Examined) -> list[str]:
    return [fault.kind for fault in examined.faults]


def chained(contents: Sequence[dict[str, Any]]) -> list[Row]:
    """Rows with hashes as somebody who knows all of this would make them."""
    rows, before = [], ORIGIN
    for number, content in enumerate(contents, 1):
        record = canonical(content | {"number": number})
        before = hash_of(before, record)
        rows.append(Row(number, record, before))
    return rows


def test_the_encoding_is_what_is_written_down() -> None:
    row = link(
        Head(LOG, 0, ORIGIN),
        Entry(AT, "keys.create", "user:anna", "host:böx", {"b": [1, 0.5], "a": None}),
    )
    assert row.record == (
        '{"at":"2026-01-31T12:00:00Z","details":{"a":null,"b":[1,"0.5"]},"log":"0123456789abcdef","number":1,'
        '"what":"keys.create","where":"host:b\\u00f6x","who":"user:anna"}'
    )
    # From another implementation: printf of 32 zero bytes and the record, into sha256sum.
    assert row.hash == "c3f3b0dcf3b2e15f98f72120d6632e2e365af27694d3ede224e4fe5292528e81"
    assert content_of(row) is not None
    assert content_of(row._replace(record=row.record.replace('"at"', ' "at"'))) is None


def test_long_texts_are_cut() -> None:
    row = link(Head(LOG, 0, ORIGIN), Entry(AT, "denied", "unknown", "address:" + "9" * 999, {"x": "y" * 999}))
    content = json.loads(row.record)
    assert (len(content["where"]), len(content["details"]["x"])) == (256, 256)


def test_an_untouched_log_is_intact() -> None:
    rows = made(7)
    found = examine(rows, [seen_at(rows, 3), seen_at(rows, 7)])
    assert found == Examined(Head(LOG, 7, rows[-1].hash), 1, 2, ())
    assert examine([], []).faults == ()


def test_an_edited_record_is_found() -> None:
    rows = made(5)
    rows[2] = rows[2]._replace(record=rows[2].record.replace("k2", "k9"))
    (fault,) = examine(rows, []).faults
    assert (fault.kind, fault.first, fault.last, fault.at) == ("edited", 3, 3, AT)
    # With a hash that fits it, the next one does not follow.
    rows[2] = rows[2]._replace(hash=hash_of(rows[1].hash, rows[2].record))
    (fault,) = examine(rows, []).faults
    assert (fault.kind, fault.first) == ("edited", 4)
    assert "or the one before it" in fault.sentence


def test_a_deleted_record_is_found() -> None:
    rows = made(5)
    (fault,) = examine(rows[:1] + rows[3:], []).faults
    assert (fault.kind, fault.first, fault.last) == ("missing", 2, 3)
    assert kinds(examine(rows[2:], [])) == ["missing"]
    # And when those after it move up.
    up = [*rows[:2], *(row._replace(number=row.number - 1) for row in rows[3:])]
    assert kinds(examine(up, [])) == ["moved", "moved"]
    assert kinds(examine(chained([json.loads(row.record) for row in up]), [seen_at(rows, 5)])) == [
        "truncated"
    ]


def test_reordered_records_are_found() -> None:
    rows = made(5)
    swapped = [rows[0], rows[2]._replace(number=2), rows[1]._replace(number=3), *rows[3:]]
    assert kinds(examine(swapped, [])) == ["moved", "moved"]
    assert kinds(examine([rows[1], rows[0], *rows[2:]], [])) != []


def test_a_cut_tail_is_found_by_a_checkpoint() -> None:
    rows = made(5)
    assert examine(rows[:3], []).faults == ()
    (fault,) = examine(rows[:3], [seen_at(rows, 2), seen_at(rows, 5)]).faults
    assert (fault.kind, fault.first, fault.last, fault.at) == ("truncated", 4, 5, AT)
    assert fault.sentence == (
        "The records 4 to 5 are missing at the end: the checkpoint of 2026-01-31T13:00:00Z in elsewhere "
        "counts 5."
    )
    assert kinds(examine([], [seen_at(rows, 5)])) == ["truncated"]


def test_a_tail_that_was_made_anew_is_found_by_a_checkpoint() -> None:
    rows = made(5)
    other = chained([json.loads(row.record) for row in (*rows[:3], *made(5, "keys.revoke")[3:])])
    assert examine(other, []).faults == ()
    (fault,) = examine(other, [seen_at(rows, 2), seen_at(rows, 5)]).faults
    assert (fault.kind, fault.first, fault.last, fault.at) == ("rewritten", 3, 5, LATER)


def test_a_chain_that_was_computed_anew_is_found_by_a_checkpoint() -> None:
    rows = made(5)
    contents = [json.loads(row.record) for row in rows]
    contents[0]["who"] = "user:eve"
    other = chained(contents)
    assert examine(other, []).faults == ()
    assert kinds(examine(other, [seen_at(rows, 4)])) == ["rewritten"]
    # The same of a log that was begun anew.
    assert kinds(examine(made(9, log="f" * 16), [seen_at(rows, 4)])) == ["replaced"]


def test_a_signed_cut_takes_the_place_of_old_records() -> None:
    rows = made(6)
    cut = seen_at(rows, 3, cut=True)
    found = examine(rows[3:], [cut, seen_at(rows, 2), seen_at(rows, 5)])
    assert (found.first, found.compared, found.faults) == (4, 2, ())
    # An ordinary checkpoint is no cut, and a cut is none for other records.
    assert kinds(examine(rows[3:], [seen_at(rows, 3)])) == ["missing"]
    assert kinds(examine(rows[4:], [cut])) == ["missing"]
    wrong = chained([json.loads(row.record) for row in made(6, "undeploy")])
    assert kinds(examine(wrong[3:], [cut])) == ["edited"]


@given(st.data())
def test_any_changed_bit_of_any_record_is_found(data: st.DataObject) -> None:
    rows = made(data.draw(st.integers(1, 6)))
    at = data.draw(st.integers(0, len(rows) - 1))
    row = rows[at]
    part = data.draw(st.sampled_from(("number", "record", "hash")))
    if part == "number":
        changed: Any = row.number ^ (1 << data.draw(st.integers(0, 30)))
    else:
        text = bytearray(getattr(row, part).encode())
        text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        changed = bytes(text).decode("utf-8", "replace")
    rows[at] = row._replace(**{part: changed})
    assert examine(sorted(rows, key=lambda one: one.number), []).faults


@given(st.data())
def test_any_loss_or_exchange_of_records_is_found_with_a_checkpoint(data: st.DataObject) -> None:
    rows = made(data.draw(st.integers(2, 8)))
    kept = data.draw(st.permutations(rows))[: data.draw(st.integers(0, len(rows)))]
    if list(kept) != rows:
        assert examine(kept, [seen_at(rows, len(rows))]).faults


def test_a_person_is_a_keyed_hash() -> None:
    tag = subject_tag(b"secret", "anna@example.org")
    assert tag == subject_tag(b"secret", "anna@example.org")
    assert tag != subject_tag(b"other", "anna@example.org")
    assert "anna" not in tag


@pytest.mark.parametrize("record", ["", "{", "[1]", "null", "\udc80", '{"a":1,"a":1}', "[" * 100_000])
def test_what_is_no_record_is_found(record: str) -> None:
    rows = made(3)
    rows[1] = rows[1]._replace(record=record)
    assert "edited" in kinds(examine(rows, []))
