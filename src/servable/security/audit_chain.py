"""The chain of the audit log: how records are written and hold on to one another, and what is wrong. Pure.

A record is a JSON object in its canonical form: keys sorted, no spaces, everything outside of ASCII escaped,
whole numbers and texts only. Its bytes are that text in ASCII. The hash of a record is the SHA-256 over the
32 bytes of the hash before it, 32 zero bytes before the first, and the bytes of the record. So the last hash,
the head, stands for every record before it: whoever kept a head somewhere else can tell whether they are all
the same.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

#: The hash before the first record.
ORIGIN = "0" * 64
#: Longest text that is kept of anything, in characters; what strangers send may be longer.
LONGEST = 256


class Row(NamedTuple):
    """A record as it is stored.

    Attributes:
        number: from 1, without gaps.
        record: the canonical text.
        hash: of it and all before it, in hexadecimal.
    """

    number: int
    record: str
    hash: str


class Entry(NamedTuple):
    """What is to be recorded.

    Attributes:
        at: when, ISO 8601 in UTC.
        what: what happened, such as ``keys.create``.
        who: see ``actors.Actor``.
        where: likewise.
        details: texts, numbers, and lists and dictionaries of these. Never a value of a row that was
            asked, and never a person that it is about.
    """

    at: str
    what: str
    who: str
    where: str
    details: Mapping[str, Any] = {}


class Head(NamedTuple):
    """What a log is at one moment: its random name, how many records it has had, and the last hash."""

    log: str
    size: int
    hash: str


class Seen(NamedTuple):
    """A head that was kept elsewhere, and its signature checked.

    Attributes:
        head: as it was.
        at: when, ISO 8601 in UTC.
        cut: whether the records up to it were dropped on purpose, because of their age.
        place: where it was found, for people.
    """

    head: Head
    at: str
    cut: bool = False
    place: str = ""


class Fault(NamedTuple):
    """Something that was done to the log.

    Attributes:
        kind: ``edited missing moved truncated rewritten replaced``.
        first: the first record that it can concern.
        last: the last one.
        at: when that record, or the nearest one that is there, was written; empty when that is not known.
        sentence: all of it, for people.
    """

    kind: str
    first: int
    last: int
    at: str
    sentence: str


class Examined(NamedTuple):
    """What an examination found.

    Attributes:
        head: the log as it is.
        first: the number of the first record that is there; 0 for none.
        compared: how many heads that were kept elsewhere could be compared.
        faults: in the order of the records.
    """

    head: Head
    first: int
    compared: int
    faults: tuple[Fault, ...]


def canonical(content: Mapping[str, Any]) -> str:
    """The one text of a record."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_of(before: str, record: str) -> str:
    """The hash of a record.

    Args:
        before: the hash before it, in hexadecimal.
        record: the text.
    """
    data = record.encode("utf-8", "surrogatepass")
    return hashlib.sha256(bytes.fromhex(before) + data).hexdigest()


def link(head: Head, entry: Entry) -> Row:
    """The next record of a log."""
    content = {
        "at": entry.at,
        "details": _bounded(entry.details),
        "log": head.log,
        "number": head.size + 1,
        "what": entry.what,
        "where": _bounded(entry.where),
        "who": _bounded(entry.who),
    }
    record = canonical(content)
    return Row(head.size + 1, record, hash_of(head.hash, record))


def subject_tag(secret: bytes, subject: str) -> str:
    """What a record may hold of a person whose data was given out or erased: a keyed hash.

    Args:
        secret: kept apart from the log, and destroyed when even the tag shall mean nobody any more.
        subject: whom.
    """
    return hmac.digest(secret, subject.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]


def content_of(row: Row) -> dict[str, Any] | None:
    """What a record says; None when it is no record in canonical form."""
    try:
        content = json.loads(row.record)
        if isinstance(content, dict) and canonical(content) == row.record:
            return content
    except (ValueError, RecursionError):
        pass
    return None


def examine(rows: Iterable[Row], seen: Sequence[Seen]) -> Examined:
    """Look for anything that was done to a log.

    Args:
        rows: every record that is there, by number.
        seen: heads that were kept elsewhere.
    """
    walk = _Walk(seen)
    for row in rows:
        walk.take(row)
    return walk.end()


class _Walk:
    """One walk along a log. Memory is bounded by the heads to compare and the faults found."""

    #: Faults after which the rest is not told one by one.
    most = 100

    def __init__(self, seen: Sequence[Seen]) -> None:
        self._seen = sorted(seen, key=lambda one: (one.head.size, one.at))
        self._next = 0
        self._first = 0
        self._number = 0
        #: None after a gap: what follows cannot be checked against it.
        self._hash: str | None = ORIGIN
        self._log = ""
        self._at = ""
        self._compared = 0
        #: The newest head that was kept and was found as it was.
        self._sure = 0
        self._faults: list[Fault] = []

    def take(self, row: Row) -> None:
        """The next record."""
        content = content_of(row)
        at = str(content.get("at", "")) if content else ""
        if row.number != self._number + 1:
            self._jumped(row, at)
        self._first = self._first or row.number
        fits = self._check(row, content, at)
        self._number, self._at = row.number, at
        self._hash = row.hash if fits and _is_hash(row.hash) else None
        self._compare(row)

    def end(self) -> Examined:
        """What is to be said when all records were taken."""
        beyond = [one for one in self._seen[self._next :] if one.head.size > self._number]
        if beyond:
            last = beyond[-1]
            self._found(
                "truncated", self._number + 1, last.head.size, self._at,
                f"{_records(self._number + 1, last.head.size)} missing at the end: the checkpoint of "
                f"{last.at}{_from(last)} counts {last.head.size}.",
            )  # fmt: skip
        head = Head(self._log, self._number, self._hash or "")
        return Examined(head, self._first, self._compared, tuple(self._faults))

    def _jumped(self, row: Row, at: str) -> None:
        """The record before is not there."""
        begins, before = not self._first, row.number - 1
        cuts = [one for one in self._seen if one.cut and one.head.size == before]
        if begins and cuts:
            cut = cuts[-1].head
            self._number, self._hash, self._log = before, cut.hash, cut.log
            self._compare(Row(before, "", cut.hash))
            return
        if row.number > self._number + 1:
            why = " and no signed cut says that they were dropped for their age" if begins else ""
            self._found(
                "missing", self._number + 1, before, at or self._at,
                f"{_records(self._number + 1, before)} missing{why}; the next one is of "
                f"{at or 'no known time'}.",
            )  # fmt: skip
        else:
            self._found(
                "moved", row.number, row.number, at, f"Record {row.number} is not where its number belongs."
            )
        self._hash = None

    def _check(self, row: Row, content: Mapping[str, Any] | None, at: str) -> bool:
        """Check one record; whether the next one can be checked against it."""
        when = f", of {at}," if at else ""
        if content is None:
            self._found(
                "edited",
                row.number,
                row.number,
                self._at,
                f"Record {row.number} was edited: it is no record.",
            )
            return True
        if content.get("number") != row.number:
            self._found(
                "moved", row.number, row.number, at,
                f"Record {row.number}{when} says that it is number {content.get('number')}: it was moved.",
            )  # fmt: skip
            return False
        log = str(content.get("log", ""))
        if self._log and log != self._log:
            self._found(
                "replaced", row.number, row.number, at, f"Record {row.number}{when} belongs to another log."
            )
        self._log = self._log or log
        if self._hash is not None and hash_of(self._hash, row.record) != row.hash:
            self._found(
                "edited", row.number, row.number, at,
                f"Record {row.number}{when} was edited, or the one before it: their hashes do not follow "
                "from one another.",
            )  # fmt: skip
        return True

    def _compare(self, row: Row) -> None:
        """Compare with the heads that were kept at this size, and at those that were passed over."""
        while self._next < len(self._seen) and self._seen[self._next].head.size <= row.number:
            one = self._seen[self._next]
            self._next += 1
            if one.head.size < row.number:
                continue
            self._compared += 1
            if one.head.log != self._log:
                self._found(
                    "replaced", self._first, row.number, one.at,
                    f"The log is another one than at the checkpoint of {one.at}{_from(one)}: it was begun "
                    "anew.",
                )  # fmt: skip
            elif one.head.hash != row.hash:
                first = max(self._first, self._sure + 1)
                self._found(
                    "rewritten", first, row.number, one.at,
                    f"Something in the records {first} to {row.number} was written anew after {one.at}: "
                    f"the checkpoint of then{_from(one)} has another hash.",
                )  # fmt: skip
            else:
                self._sure = row.number

    def _found(self, kind: str, first: int, last: int, at: str, sentence: str) -> None:
        if len(self._faults) < self.most:
            self._faults.append(Fault(kind, first, last, at, sentence))


def _is_hash(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _records(first: int, last: int) -> str:
    return f"Record {first} is" if first == last else f"The records {first} to {last} are"


def _from(one: Seen) -> str:
    return f" in {one.place}" if one.place else ""


def _bounded(value: Any) -> Any:
    """The value with long texts cut, and with whatever is no plain value as a text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key)[:LONGEST]: _bounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_bounded(each) for each in value]
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
