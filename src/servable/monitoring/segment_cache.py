"""What was read of segments, kept in memory: a segment never changes, so it need be opened only once.

The tables of one day are put together as they come, so that what is kept is a few large tables however many
segments there are.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from servable.monitoring.joined import united
from servable.monitoring.segments import Kind, Segment, TrafficStore

#: Bytes of tables that are kept, unless it is said otherwise.
MOST_BYTES = 128 * 1024**2
#: Tables of one day that are put together when there are so many.
_MOST_TABLES = 32
Columns = frozenset[str] | None


class _Group(NamedTuple):
    """Names what is asked for together."""

    model: str
    kind: Kind
    columns: frozenset[str] | None


class _Day:
    """What was read of the segments of one day."""

    def __init__(self) -> None:
        self.paths: set[PurePath] = set()
        self.damaged: set[PurePath] = set()
        self.tables: list[Any] = []
        self.size = 0

    def add(self, segment: Segment) -> None:
        """Keep what was read."""
        self.paths.add(segment.path)
        if segment.table is None:
            self.damaged.add(segment.path)
            return
        self.tables.append(segment.table)
        if len(self.tables) >= _MOST_TABLES:
            self.tables = [united(self.tables).combine_chunks()]
        self.size = sum(table.nbytes for table in self.tables)


class SegmentCache:
    """Keeps tables of segments that were read. Belongs to one thread.

    Args:
        most_bytes: of all tables together. What comes when it is full is read again each time it is asked
            for, until older days go.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._groups: dict[_Group, dict[PurePath, _Day]] = {}
        self._erasures = ""

    def of(self, store: TrafficStore) -> "RememberedTraffic":
        """The traffic of a home, of which only segments that are new are opened."""
        return RememberedTraffic(store, self)

    def damaged(self, model: str) -> tuple[str, ...]:
        """The segments of a model that could not be understood when they were read, sorted."""
        days = [day for group, held in self._groups.items() if group.model == model for day in held.values()]
        return tuple(sorted(str(path) for day in days for path in day.damaged))

    def keep(self, models: Iterable[str]) -> None:
        """Forget all but these models."""
        kept = set(models)
        self._groups = {group: days for group, days in self._groups.items() if group.model in kept}

    def tables(
        self, store: TrafficStore, model: str, kind: Kind, listed: Sequence[PurePath], columns: Columns
    ) -> list[Any]:
        """The tables of segments, in no order.

        Args:
            store: where they lie.
            model: its name.
            kind: predictions or feedback.
            listed: every segment of the span that is looked at; what was kept of others is forgotten.
            columns: only these; None for all.
        """
        erasures = store.keys.stamp()
        if erasures != self._erasures:
            # What was read of somebody who was erased must be forgotten.
            self._groups, self._erasures = {}, erasures
        group = _Group(model, kind, columns)
        present = set(listed)
        # Segments go with their whole day, so that what is left of one is rarely read anew.
        days = {
            folder: day
            for folder, day in self._groups.get(group, {}).items()
            if day.paths and day.paths <= present
        }
        self._groups[group] = days
        room = self._most - sum(day.size for held in self._groups.values() for day in held.values())
        known = {path for day in days.values() for path in day.paths}
        passing = []
        for segment in store.each([path for path in listed if path not in known], columns):
            size = 0 if segment.table is None else segment.table.nbytes
            if size > room:
                passing.append(segment.table)
                continue
            room -= size
            days.setdefault(segment.path.parent, _Day()).add(segment)
        return [table for day in days.values() for table in day.tables] + passing


class RememberedTraffic:
    """The traffic of a home through what was read of it before; see ``joined.Traffic``."""

    def __init__(self, store: TrafficStore, cache: SegmentCache) -> None:
        self.root: Path = store.root
        self._store = store
        self._cache = cache

    def tables(
        self,
        model: str,
        kind: Kind,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: Iterable[str] | None = None,
    ) -> list[Any]:
        """See ``joined.Traffic``; asked again for another span, what was kept of the former is forgotten."""
        listed = self._store.segments(model, kind, since, until)
        chosen = None if columns is None else frozenset(columns)
        return self._cache.tables(self._store, model, kind, listed, chosen)
