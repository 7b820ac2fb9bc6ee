"""Rows are sealed for one subject each: nobody else's key opens them, and nothing of them is in clear."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import StorageFailed
from servable.monitoring.sealed_tables import (
    PLACE,
    REQUEST_KEY,
    SEALED,
    SUBJECT,
    data_keys,
    kept_rows,
    needed,
    opened_table,
    sealed_table,
)
from servable.monitoring.sealing import NOBODY, NoSubjectKeys, Secret, seal, seal_all, unseal

SECRET = Secret(bytes(range(32)))
KEY = bytes(32)


class Known(NamedTuple):
    keys: Mapping[str, bytes]
    erased: Mapping[str, int] = {}


class Subjects(NoSubjectKeys):
    """Knows some wrapped keys."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = keys

    def find(self, subjects: Sequence[str]) -> Known:
        return Known({subject: self._keys[subject] for subject in subjects if subject in self._keys})


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_what_is_sealed_comes_back_and_never_looks_the_same(plain: bytes, about: bytes) -> None:
    one, other = seal(KEY, plain, about), seal(KEY, plain, about)
    assert one != other
    assert unseal(KEY, one, about) == unseal(KEY, other, about) == plain


@given(st.binary(max_size=50), st.data())
def test_any_change_is_noticed(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, plain, b"a"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert unseal(KEY, bytes(sealed), b"a") is None


@given(st.binary(max_size=50), st.binary(max_size=60))
def test_another_key_another_matter_and_noise_open_nothing(plain: bytes, noise: bytes) -> None:
    sealed = seal(KEY, plain, b"a")
    assert unseal(bytes([1] * 32), sealed, b"a") is None
    assert unseal(KEY, sealed, b"b") is None
    assert unseal(KEY, noise, b"a") is None


def test_no_nonce_comes_twice() -> None:
    made = seal_all([KEY] * 10_000, [b"same"] * 10_000, b"a")
    assert len({sealed[:12] for sealed in made}) == len(made)


@given(st.text(), st.text())
def test_subjects_are_named_by_keyed_hashes(one: str, other: str) -> None:
    assert (SECRET.subject_id(one) == SECRET.subject_id(other)) == (one == other)
    assert SECRET.subject_id(one) != Secret(bytes(32)).subject_id(one)
    assert SECRET.subject_id(one) != SECRET.request_key(one)
    assert SECRET.subject_id(one) != NOBODY


def test_a_wrapped_key_is_of_one_subject_and_one_home() -> None:
    wrapped = SECRET.new_key("a" * 32)
    assert len(SECRET.data_key("a" * 32, wrapped) or b"") == 32
    assert SECRET.data_key("b" * 32, wrapped) is None
    assert Secret(bytes(32)).data_key("a" * 32, wrapped) is None
    assert SECRET.data_key("a" * 32, None) is None
    assert SECRET.new_key("a" * 32) != wrapped


VALUES = st.tuples(
    st.sampled_from(["ann", "bob", "eve"]),
    st.one_of(st.none(), st.text(alphabet=st.characters(codec="utf-8"), max_size=20)),
    st.one_of(st.none(), st.floats(allow_nan=False)),
    st.one_of(st.none(), st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))),
    st.one_of(st.none(), st.lists(st.integers(-(2**62), 2**62), max_size=3)),
)


def table_of(rows: list[Any]) -> pa.Table:
    names, texts, numbers, moments, lists = zip(*rows, strict=True)
    aware = [None if each is None else each.replace(tzinfo=UTC) for each in moments]
    return pa.table(
        {
            "request_id": [f"r{place}" for place in range(len(rows))],
            "row": pa.array(np.zeros(len(rows), np.int32)),
            "in.who": pa.array(names, pa.string()),
            "in.text": pa.array(texts, pa.string()),
            "in.number": pa.array(numbers, pa.float64()),
            "in.moment": pa.array(aware, pa.timestamp("us", "UTC")),
            "out.list": pa.array(lists, pa.list_(pa.int64())),
        }
    )


def sealed_for(table: pa.Table) -> tuple[pa.Table, dict[str, bytes]]:
    subjects = [SECRET.subject_id(name) for name in table["in.who"].to_pylist()]
    wrapped = {subject: SECRET.new_key(subject) for subject in set(subjects)}
    keys = data_keys(subjects, Subjects(wrapped), SECRET)
    names = [name for name in table.column_names if name != "row"]
    row_keys = [keys[subject] for subject in subjects]
    return sealed_table(table, names, subjects, row_keys, SECRET, "m/predictions"), wrapped


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_a_table_comes_back_as_it_was(rows: list[Any]) -> None:
    table = table_of(rows)
    sealed, wrapped = sealed_for(table)
    assert set(sealed.column_names) == {"row", SUBJECT, REQUEST_KEY, SEALED}
    opened = opened_table(sealed, None, Subjects(wrapped), lambda: SECRET, "m/predictions")
    assert opened.select(table.column_names).equals(table)
    assert opened_table(sealed, None, Subjects(wrapped), lambda: SECRET, "n/predictions").num_rows == 0


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_who_lost_the_key_is_absent_and_all_others_stay(rows: list[Any]) -> None:
    table = table_of(rows)
    sealed, wrapped = sealed_for(table)
    left = {subject: key for subject, key in wrapped.items() if subject != SECRET.subject_id("ann")}
    wanted = frozenset({"in.text", PLACE})
    opened = opened_table(sealed, wanted, Subjects(left), lambda: SECRET, "m/predictions")
    places = [place for place, row in enumerate(rows) if row[0] != "ann"]
    assert opened[PLACE].to_pylist() == places
    assert opened["in.text"].to_pylist() == [rows[place][1] for place in places]
    assert not {"in.who", "request_id"} & set(opened.column_names)


def test_only_what_is_asked_for_is_read() -> None:
    sealed, wrapped = sealed_for(table_of([("ann", "a", 1.0, None, None)]))
    assert needed(sealed.schema, None) == sealed.column_names
    assert set(needed(sealed.schema, frozenset({"row", "in.who"}))) == {"row", SUBJECT, SEALED}
    # Who asked what is known without opening anything.
    assert set(needed(sealed.schema, frozenset({SUBJECT, REQUEST_KEY}))) == {SUBJECT, REQUEST_KEY}
    plain = table_of([("ann", "a", 1.0, None, None)])
    assert opened_table(plain, None, Subjects(wrapped), lambda: SECRET, "m").equals(plain)


def test_nothing_of_a_row_is_in_clear() -> None:
    sealed, _ = sealed_for(table_of([("ann", "canary-text", 1.0, None, None)]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, sealed.schema) as file:
        file.write(sealed)
    content = sink.getvalue().to_pybytes()
    assert b"canary" not in content
    assert b"ann" not in content
    assert SECRET.subject_id("ann").encode() in content


def test_rows_are_kept_that_are_younger_than_the_erasure() -> None:
    at = pa.array([10, 20, 30, 10], pa.timestamp("us", "UTC"))
    assert kept_rows(at, ["a", "a", "a", "b"], {"a": 20}).tolist() == [2, 3]


def test_without_a_registry_nothing_can_be_kept() -> None:
    keys = NoSubjectKeys()
    assert (dict(keys.find(["a"]).keys), keys.stamp(), keys.declares("m")) == ({}, "", False)
    with pytest.raises(StorageFailed, match="registry"):
        keys.ensure({"a": b""})
