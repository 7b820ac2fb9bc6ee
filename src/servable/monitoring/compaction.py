"""Which segments of a day are put together, and which of them a reader sees. Pure.

A busy server writes a segment every few seconds. Those of a day are put together into few large ones. What
replaces what is in a ledger beside them, which is written before the large segment: as soon as that one is
there, and not before, its sources are out of sight. So the step from the many to the one is the appearing of
one file, at which every reader sees all rows once, and a kill at any moment leaves one of the two states.

A source is first only out of sight of those who read the ledger. Later it is moved aside, where others do not
find it and those who listed it before still read it, and much later it is removed.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time, timedelta
from hashlib import blake2b
from typing import NamedTuple

import msgspec

#: The file in the folder of a day that says what replaces what.
LEDGER = "compacted.json"
#: The endings of segments, and of those that were moved aside.
SEGMENT, ASIDE = ".parquet", ".replaced"
#: How the names of segments begin that others were put together into.
_PREFIX = "day-"
#: Bytes of tables in memory beyond which a segment is not made larger. Half of it is large enough to stay.
MOST_BYTES = 64 * 1024**2
#: Segments of a day that still goes on that are worth being put together.
FEWEST = 256
#: After the end of a day, until it is taken to be over: what was taken in its last moments comes later.
_LATE = timedelta(hours=1)
#: Seconds after which sources are moved aside: longer than anybody lists a folder.
_SIGHT_S = 30.0
#: Seconds after which they are removed: longer than anybody reads what was listed.
_KEPT_S = 3600.0


class Sources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Names of segments, of which there may be thousands; those that a server numbered are kept as runs.

    Attributes:
        runs: by what comes before the number, the first and the last of each run of numbers, rising.
        others: all other names, sorted.
    """

    runs: dict[str, tuple[tuple[int, int], ...]] = {}
    others: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        server, number = _numbered(name)
        if number < 0:
            return name in self.others
        runs = self.runs.get(server, ())
        place = bisect_right(runs, number, key=lambda run: run[0]) - 1
        return place >= 0 and number <= runs[place][1]

    def names(self) -> frozenset[str]:
        """All of them."""
        numbered = (
            f"{server}-{number}{SEGMENT}"
            for server, runs in self.runs.items()
            for first, last in runs
            for number in range(first, last + 1)
        )
        return frozenset((*numbered, *self.others))


def sources(names: Iterable[str]) -> Sources:
    """Names as they are kept."""
    numbers: dict[str, list[int]] = {}
    others = set()
    for name in names:
        server, number = _numbered(name)
        if number < 0:
            others.add(name)
        else:
            numbers.setdefault(server, []).append(number)
    return Sources({server: _runs(held) for server, held in numbers.items()}, tuple(sorted(others)))


class Merged(msgspec.Struct, frozen=True):
    """A segment that others were put together into.

    Attributes:
        schema: tells its columns, types and metadata from others.
        size: bytes of its table in memory.
        at: when it was written, seconds since 1970.
        sources: names of all segments whose rows are in it, those that its sources replaced among them.
    """

    schema: str
    size: int
    at: float
    sources: Sources


class Ledger(msgspec.Struct, frozen=True):
    """What replaces what in one day.

    Attributes:
        merged: by name; one that is not there yet, or no more, replaces nothing.
        damaged: segments that nobody can read, which are left as they are.
    """

    merged: dict[str, Merged] = {}
    damaged: tuple[str, ...] = ()

    def replacing(self, name: str, names: Collection[str]) -> Merged | None:
        """What is in the place of a segment; None where nothing is.

        Args:
            name: of the segment, as it was called before it was moved aside.
            names: all files of the day.
        """
        found = (each for other, each in self.merged.items() if name in each.sources and other in names)
        return next(found, None)

    def sources_of(self, names: Iterable[str]) -> frozenset[str]:
        """Segments, and all that these replaced."""
        found = set(names)
        for name in tuple(found):
            if name in self.merged:
                found |= self.merged[name].sources.names()
        return frozenset(found)

    def without(self, gone: Iterable[str]) -> "Ledger":
        """The ledger once some sources are removed that nobody will ever write again."""
        left = frozenset(gone)
        merged = {
            name: msgspec.structs.replace(each, sources=sources(each.sources.names() - left))
            for name, each in self.merged.items()
        }
        return Ledger(merged, self.damaged)


class Plan(NamedTuple):
    """What is to be done in a day, in this order.

    Attributes:
        removed: files that were moved aside and that nobody reads any more.
        aside: segments to be moved aside.
        merged: segments to be put together, those of one schema with each other.
    """

    removed: tuple[str, ...]
    aside: tuple[str, ...]
    merged: tuple[str, ...]


def plan(day: date, names: Collection[str], ledger: Ledger, now: datetime) -> Plan:
    """What is to be done in a day.

    Args:
        day: in UTC.
        names: all files in its folder but drafts.
        ledger: of the day.
        now: aware.
    """
    seconds = now.timestamp()
    removed, aside = [], []
    for name in sorted(names):
        merged = ledger.replacing(origin(name), names)
        if merged is None:
            continue
        if name.endswith(ASIDE) and seconds >= merged.at + _KEPT_S:
            removed.append(name)
        elif name.endswith(SEGMENT) and seconds >= merged.at + _SIGHT_S:
            aside.append(name)
    over = now >= datetime.combine(day, time(), UTC) + timedelta(days=1) + _LATE
    return Plan(tuple(removed), tuple(aside), _to_merge(names, ledger, over=over))


def seen(names: Collection[str], ledger: Ledger) -> frozenset[str]:
    """The segments that hold every row of a day once.

    Args:
        names: all files in its folder.
        ledger: of the day.
    """
    return frozenset(
        name for name in names if name.endswith(SEGMENT) and ledger.replacing(name, names) is None
    )


def covered(names: Collection[str], ledger: Ledger) -> tuple[str, ...]:
    """The files whose rows are in another one, moved aside or not."""
    return tuple(sorted(name for name in names if ledger.replacing(origin(name), names) is not None))


def is_merged(name: str) -> bool:
    """Whether the name of a segment says that others were put together into it."""
    return name.startswith(_PREFIX)


def name_of(sources: Collection[str]) -> str:
    """The name of the segment that these are put together into, without its ending."""
    return _PREFIX + blake2b("\n".join(sorted(sources)).encode(), digest_size=12).hexdigest()


def aside_name(name: str) -> str:
    """What a segment is called once it was moved aside."""
    return name.removesuffix(SEGMENT) + ASIDE


def origin(name: str) -> str:
    """What a segment that was moved aside was called; any other name stays."""
    return name.removesuffix(ASIDE) + SEGMENT if name.endswith(ASIDE) else name


def _to_merge(names: Collection[str], ledger: Ledger, *, over: bool) -> tuple[str, ...]:
    shown = sorted(seen(names, ledger) - set(ledger.damaged))
    plain = [name for name in shown if name not in ledger.merged]
    if not over:
        return tuple(plain) if len(plain) >= FEWEST else ()
    small = [name for name in shown if name in ledger.merged and ledger.merged[name].size < MOST_BYTES // 2]
    if plain:
        return (*plain, *small) if len(plain) + len(small) > 1 else ()
    alike = Counter(ledger.merged[name].schema for name in small)
    return tuple(name for name in small if alike[ledger.merged[name].schema] > 1)


def _numbered(name: str) -> tuple[str, int]:
    """A name taken apart at its number; -1 where it has none, or one that is spelled otherwise."""
    server, _, number = name.removesuffix(SEGMENT).rpartition("-")
    plain = name.endswith(SEGMENT) and number.isascii() and number.isdigit()
    return (server, int(number)) if plain and str(int(number)) == number else (name, -1)


def _runs(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return tuple(runs)
