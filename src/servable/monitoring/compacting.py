"""Puts the many small segments of a day together, beside those who read and write; see ``compaction``."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec

from servable.logs import fields, logger
from servable.monitoring.compaction import (
    LEDGER,
    MOST_BYTES,
    SEGMENT,
    Ledger,
    Merged,
    aside_name,
    covered,
    name_of,
    origin,
    plan,
    sources,
)
from servable.monitoring.segments import KINDS, Kind, Segment, TrafficStore

_log = logger("traffic")


class Day(NamedTuple):
    """The folder of one day.

    Attributes:
        model: the name.
        kind: predictions or feedback.
        folder: as its files are listed.
        names: of its files.
    """

    model: str
    kind: Kind
    folder: PurePath
    names: frozenset[str]

    @property
    def day(self) -> date:
        """Which day, in UTC."""
        return date.fromisoformat(self.folder.name)


def compact(store: TrafficStore, now: datetime, alone: Callable[[], bool]) -> int:
    """Put segments together, and remove those that were put together long ago.

    May be killed at any moment and done again. One at a time may do it.

    Args:
        store: of the home.
        now: aware.
        alone: asked before anything is looked at and before anything changes; false ends it, because another
            one may change segments, or has since it was asked first.

    Returns:
        How many segments were put together into others.

    Raises:
        StorageFull: no space left; nothing is lost.
        StorageFailed: the storage fails; the same.
        DependencyMissing: pyarrow is not installed.
    """
    count = 0
    if not store.models() or not alone():
        return count
    for day in days(store):
        ledger = store.ledger(day.folder)
        wanted = plan(day.day, day.names, ledger, now)
        if any(wanted) and not alone():
            break
        if wanted.removed:
            store.place.discard([day.folder / name for name in wanted.removed])
            if day.kind == "predictions":
                # Feedback may be written again under its name, from a journal of a server that was killed.
                ledger = ledger.without(map(origin, wanted.removed))
                kept(store, day, ledger)
        for name in wanted.aside:
            store.place.move(day.folder / name, aside_name(name))
        if wanted.merged:
            count += _Merging(store, day, ledger, now, alone).all(wanted.merged)
    return count


def forget_replaced(store: TrafficStore, model: str) -> None:
    """Remove every file of a model whose rows are in another one, since somebody has to go from all of them.

    Raises:
        StorageFailed: the storage fails.
    """
    for day in days(store, (model,)):
        gone = covered(day.names, store.ledger(day.folder))
        if gone:
            store.place.discard([day.folder / name for name in gone])


def days(store: TrafficStore, models: Sequence[str] | None = None) -> list[Day]:
    """The days of some models, or of all, in order.

    Raises:
        StorageFailed: the storage cannot be read.
    """
    found: list[Day] = []
    for model in store.models() if models is None else models:
        for kind in KINDS:
            names: dict[PurePath, set[str]] = {}
            for path in store.files(model, kind):
                names.setdefault(path.parent, set()).add(path.name)
            found += [Day(model, kind, folder, frozenset(names[folder])) for folder in sorted(names, key=str)]
    return found


def kept(store: TrafficStore, day: Day, ledger: Ledger) -> None:
    """Write the ledger of a day."""
    store.place.put(f"{day.model}/{day.kind}/{day.folder.name}/{LEDGER}", msgspec.json.encode(ledger))


class _Held:
    """Tables of one schema that are to become one segment."""

    def __init__(self) -> None:
        self.tables: list[Any] = []
        self.names: list[str] = []
        self.size = 0

    def add(self, segment: Segment) -> None:
        self.tables.append(segment.table)
        self.names.append(segment.path.name)
        self.size += segment.table.nbytes


class _Merging:
    """Puts segments of one day together, a bounded amount of memory at a time."""

    def __init__(
        self, store: TrafficStore, day: Day, ledger: Ledger, now: datetime, alone: Callable[[], bool]
    ) -> None:
        self._store = store
        self._day = day
        self._at = now.timestamp()
        self._alone = alone
        # What is not there any more replaces nothing, and all that it did is in what took its place.
        self._ledger = Ledger(
            {name: each for name, each in ledger.merged.items() if name in day.names}, ledger.damaged
        )
        self._erasures = store.keys.stamp()

    def all(self, names: Sequence[str]) -> int:
        """Put together what has one schema; how many segments went."""
        held: dict[str, _Held] = {}
        damaged: list[str] = []
        count = 0
        for segment in self._store.stored([self._day.folder / name for name in names]):
            if segment.table is None:
                damaged.append(segment.path.name)
                continue
            schema = name_of([segment.table.schema.serialize().to_pybytes().hex()])
            group = held.setdefault(schema, _Held())
            group.add(segment)
            if group.size >= MOST_BYTES:
                count += self._write(schema, held.pop(schema))
        for schema, group in held.items():
            count += self._write(schema, group)
        if damaged:
            self._keep(Ledger(self._ledger.merged, (*self._ledger.damaged, *damaged)))
        return count

    def _write(self, schema: str, group: _Held) -> int:
        import pyarrow as pa

        if len(group.names) == 1 and group.names[0] in self._ledger.merged:
            return 0
        if self._store.keys.stamp() != self._erasures or not self._alone():
            # Somebody was erased since these were read, and would come back with them.
            return 0
        names = self._ledger.sources_of(group.names)
        name = name_of(names)
        made = Merged(schema, group.size, self._at, sources(names))
        self._keep(Ledger({**self._ledger.merged, f"{name}{SEGMENT}": made}, self._ledger.damaged))
        first = datetime.combine(self._day.day, time(), UTC)
        self._store.write(self._day.model, self._day.kind, name, pa.concat_tables(group.tables), first)
        _log.debug(
            "segments were put together",
            extra=fields(model=self._day.model, day=self._day.folder.name, segments=len(group.names)),
        )
        return len(group.names)

    def _keep(self, ledger: Ledger) -> None:
        self._ledger = ledger
        kept(self._store, self._day, ledger)
