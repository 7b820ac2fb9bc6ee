"""``audit``: who changed what, and proof that nobody changed what is written about it."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from servable.artifact.files import storage_errors
from servable.clock import Clock, SystemClock, timestamp
from servable.errors import FileMissing, InputError
from servable.registry.audit import Audit
from servable.registry.audit_ship import ship, shipped
from servable.security.audit_chain import Row, Seen, content_of
from servable.security.checkpoints import notes_in, opened, public_key
from servable.settings import load_settings
from servable.workflows import homes
from servable.workflows.traffic import moment


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done, or refused.

    Attributes:
        number: of the record, from 1.
        at: when, ISO 8601 in UTC.
        what: such as ``keys.create``, ``deploy`` or ``denied``.
        who: ``user:anna`` of the system, ``key:ci``, ``service:watch``, ``anybody`` or ``unknown``.
        where: ``host:box1`` or ``address:10.0.0.7``.
        details: more about it.
    """

    number: int
    at: str
    what: str
    who: str
    where: str
    details: dict[str, Any]


class FaultRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to the log; see ``audit_chain.Fault``."""

    kind: str
    first: int
    last: int
    at: str
    sentence: str


class VerifyOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the log.

    Attributes:
        intact: whether nothing was found.
        log: its random name; empty where nothing was recorded.
        first: the number of the oldest record that is there.
        size: the number of the newest one.
        head: its hash, in hexadecimal.
        compared: checkpoints that could be compared with it.
        unchecked: checkpoints of keys that are not known here, which say nothing.
        faults: what was found.
    """

    intact: bool
    log: str
    first: int
    size: int
    head: str
    compared: int
    unchecked: int
    faults: tuple[FaultRow, ...]


class CheckpointOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that was made now.

    Attributes:
        note: its text.
        size: how many records it counts.
        places: where it was written besides the registry.
    """

    note: str
    size: int
    places: tuple[str, ...]


class AuditKeyOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The key that signs checkpoints.

    Attributes:
        public: its public half, to check them with.
        file: of the private half.
    """

    public: str
    file: str


def audit_records(
    *,
    since: str | None = None,
    who: str | None = None,
    what: str | None = None,
    after: int = 0,
    home: str | Path | None = None,
    clock: Clock | None = None,
) -> tuple[AuditRecord, ...]:
    """What was done, oldest first.

    Args:
        since: only from here on: a moment, or how long ago: ``2h``, ``7d``.
        who: only what these did: a part of ``who`` or ``where``, such as ``key:ci`` or ``10.0.0.7``.
        what: only this: the beginning of ``what``, such as ``keys`` or ``denied``.
        after: only records with larger numbers.
        home: the folder of the registry; looked up when None.
        clock: the machine's when None.

    Raises:
        SettingInvalid: ``since`` is no time.
        FileMissing: there is no such home.
    """
    begin = timestamp(moment(since, (clock or SystemClock()).now())) if since is not None else ""
    with homes.opened(home) as place:
        found = map(_record, place.audit.rows(after))
        return tuple(
            record
            for record in found
            if record.at >= begin
            and (who is None or who in record.who or who in record.where)
            and (what is None or record.what.startswith(what))
        )


def audit_export(output: str | Path, *, home: str | Path | None = None) -> int:
    """Write every record with its hash as lines of JSON; how many there were.

    Args:
        output: a new file, or one that is replaced.
        home: the folder of the registry; looked up when None.

    Raises:
        FileMissing: there is no such home.
        StorageFailed: the file cannot be written.
    """
    count = 0
    with (
        homes.opened(home) as place,
        storage_errors(f"writing {output}"),
        Path(output).open("w", encoding="utf-8") as file,
    ):
        for row in place.audit.rows():
            content = content_of(row)
            # What is no record any more is kept as the text that it is.
            line = {
                "hash": row.hash,
                "number": row.number,
                "record": row.record if content is None else content,
            }
            file.write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")
            count += 1
    return count


def audit_verify(
    checkpoints: Sequence[str | Path] = (), keys: Sequence[str] = (), *, home: str | Path | None = None
) -> VerifyOutcome:
    """Look for anything that was done to the log.

    Args:
        checkpoints: files and folders of checkpoints that were shipped out; those of the setting
            ``audit_ship`` and those beside the log are looked at as well.
        keys: public keys, or files that hold one; the home's own when there are none.
        home: the folder of the registry; looked up when None.

    Raises:
        InputError: a key is none.
        FileMissing: there is no such home, or no such file of checkpoints.
        DependencyMissing: cryptography is not installed, and there are checkpoints.
    """
    with homes.opened(home) as place:
        trusted = [_key(text) for text in keys]
        if not keys and place.audit.key.exists:
            trusted = [place.audit.key.private().public]
        seen, faults, unchecked = _Notes(trusted).all(_texts(place.audit, checkpoints, home))
        found = place.audit.examine(seen)
    faults += [FaultRow(**fault._asdict()) for fault in found.faults]
    return VerifyOutcome(
        intact=not faults,
        log=found.head.log,
        first=found.first,
        size=found.head.size,
        head=found.head.hash,
        compared=found.compared,
        unchecked=unchecked,
        faults=tuple(faults),
    )


def audit_checkpoint(
    *, output: str | Path | None = None, home: str | Path | None = None
) -> CheckpointOutcome:
    """Sign the log as it is; the checkpoint also goes where the setting ``audit_ship`` says.

    Args:
        output: a folder, or a file to the end of which it is written.
        home: the folder of the registry; looked up when None.

    Raises:
        FileMissing: there is no such home.
        DependencyMissing: cryptography is not installed.
        StorageFailed: it cannot be written.
    """
    with homes.opened(home) as place:
        note = place.audit.checkpoint()
    places = tuple(filter(None, (str(output or ""), load_settings({"home": home}).audit_ship)))
    for where in places:
        ship(note, where)
    return CheckpointOutcome(note=note, size=int(note.split("\n")[1]), places=places)


def audit_key(*, home: str | Path | None = None) -> AuditKeyOutcome:
    """The home's key, made when there is none.

    Raises:
        FileMissing: there is no such home.
        DependencyMissing: cryptography is not installed.
        StorageFailed: it cannot be read or written.
    """
    with homes.opened(home) as place:
        return AuditKeyOutcome(public=place.audit.key.private().public, file=str(place.audit.key.file))


class _Notes:
    """Checks the signatures of checkpoints.

    Args:
        keys: public keys that count.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def all(self, texts: Iterator[tuple[str, str]]) -> tuple[tuple[Seen, ...], list[FaultRow], int]:
        """What those that are signed say, what is wrong with others, and how many are of other keys."""
        seen: dict[tuple[Any, ...], Seen] = {}
        faults: list[FaultRow] = []
        unchecked = 0
        for place, text in texts:
            try:
                for note in notes_in(text):
                    one = opened(note, self._keys, place)
                    unchecked += one is None
                    if one is not None:
                        # The same one is found beside the log and outside.
                        seen.setdefault((one.head, one.at, one.cut), one)
            except InputError as error:
                sentence = f"In {place or 'the registry'}: {error}"
                faults.append(FaultRow(kind="checkpoint", first=0, last=0, at="", sentence=sentence))
        return tuple(seen.values()), faults, unchecked


def _texts(
    audit: Audit, checkpoints: Sequence[str | Path], home: str | Path | None
) -> Iterator[tuple[str, str]]:
    for path in map(Path, checkpoints):
        if not path.exists():
            raise FileMissing(f"There are no checkpoints at {path}.")
    own = load_settings({"home": home}).audit_ship
    places = [*map(Path, checkpoints), *([Path(own)] if own and Path(own).exists() else [])]
    outside = ((str(file), text) for place in places for file, text in shipped(place))
    # Those outside first, so that they are the ones that are named.
    return chain(outside, (("", note) for note in audit.notes()))


def _key(text: str) -> str:
    path = Path(text)
    # A key is no longer than a path may be, and may look like one.
    if "+" not in path.name and path.is_file():
        with storage_errors("reading a public key"):
            text = path.read_text("utf-8", "replace")
    public_key(text)
    return text.strip()


def _record(row: Row) -> AuditRecord:
    content = content_of(row) or {}
    details = content.get("details")
    texts = {name: str(content.get(name, "?")) for name in ("at", "what", "who", "where")}
    return AuditRecord(number=row.number, **texts, details=details if isinstance(details, dict) else {})
