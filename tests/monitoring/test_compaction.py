"""What is put together, moved aside and removed, whatever ends it in between: every row is seen once."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.monitoring.compaction import (
    FEWEST,
    MOST_BYTES,
    Ledger,
    Merged,
    Sources,
    aside_name,
    covered,
    is_merged,
    name_of,
    plan,
    seen,
    sources,
)

DAY = date(2026, 1, 31)
NEXT = datetime(2026, 2, 1, tzinfo=UTC)
OVER = NEXT + timedelta(hours=2)


def segments(count: int) -> list[str]:
    return [f"s-{number}.parquet" for number in range(count)]


def test_a_day_that_is_over_becomes_one() -> None:
    assert plan(DAY, segments(3), Ledger(), OVER).merged == tuple(segments(3))
    assert plan(DAY, segments(1), Ledger(), OVER).merged == ()
    # Its last rows may still be on their way.
    assert plan(DAY, segments(3), Ledger(), NEXT + timedelta(minutes=30)).merged == ()


def test_a_day_that_goes_on_is_put_together_where_it_is_worth_it() -> None:
    noon = NEXT - timedelta(hours=12)
    assert plan(DAY, segments(FEWEST - 1), Ledger(), noon).merged == ()
    assert len(plan(DAY, segments(FEWEST), Ledger(), noon).merged) == FEWEST


def test_large_and_damaged_ones_are_left_alone() -> None:
    large = Merged("a", MOST_BYTES, 0.0, sources(["s-0.parquet"]))
    small = Merged("a", 10, 0.0, sources(["s-1.parquet"]))
    ledger = Ledger({"day-l.parquet": large, "day-m.parquet": small}, ("s-7.parquet",))
    names = ["day-l.parquet", "day-m.parquet", "s-7.parquet"]
    assert plan(DAY, names, ledger, OVER).merged == ()
    assert plan(DAY, [*names, "s-9.parquet"], ledger, OVER).merged == ("s-9.parquet", "day-m.parquet")


def test_what_differs_in_form_is_not_looked_at_again() -> None:
    one, other, third = (Merged(schema, 10, 0.0, sources(())) for schema in "aba")
    ledger = Ledger({"day-1.parquet": one, "day-2.parquet": other})
    assert plan(DAY, list(ledger.merged), ledger, OVER).merged == ()
    ledger = Ledger({**ledger.merged, "day-3.parquet": third})
    assert plan(DAY, list(ledger.merged), ledger, OVER).merged == ("day-1.parquet", "day-3.parquet")


def test_sources_go_out_of_sight_then_aside_then_away() -> None:
    at = OVER.timestamp()
    ledger = Ledger({"day-m.parquet": Merged("a", 10, at, sources(segments(2)))})
    names = [*segments(3), "day-m.parquet"]
    assert seen(segments(3), ledger) == set(segments(3))
    assert seen(names, ledger) == {"day-m.parquet", "s-2.parquet"}
    assert plan(DAY, names, ledger, OVER).aside == ()
    found = plan(DAY, names, ledger, OVER + timedelta(minutes=1))
    assert (found.aside, found.removed) == (("s-0.parquet", "s-1.parquet"), ())
    names = ["day-m.parquet", aside_name("s-0.parquet"), aside_name("s-1.parquet"), "s-2.parquet"]
    assert plan(DAY, names, ledger, OVER + timedelta(minutes=30)).removed == ()
    gone = ("s-0.replaced", "s-1.replaced")
    assert plan(DAY, names, ledger, OVER + timedelta(hours=2)).removed == gone
    assert covered(names, ledger) == gone
    # What took their place is gone, whoever did that: they are all that there is.
    left = plan(DAY, [each for each in names if each != "day-m.parquet"], ledger, OVER + timedelta(hours=2))
    assert left.removed == ()


@given(
    st.sets(st.integers(0, 60)),
    st.sets(st.sampled_from(["x.parquet", "a-07.parquet", "day-3f.parquet", "-"])),
)
def test_names_are_kept_as_runs(numbers: set[int], others: set[str]) -> None:
    names = {f"a-b-{number}.parquet" for number in numbers} | others
    found = msgspec.json.decode(msgspec.json.encode(sources(names)), type=Sources)
    assert found.names() == names
    everything = {f"a-b-{number}.parquet" for number in range(62)} | {"a-b-07.parquet", "b-1.parquet", "y"}
    assert {name for name in everything | names if name in found} == names
    assert set(found.runs) <= {"a-b"}


class Folder:
    """A day of files, each with the rows that are in it, and who works on it until it is killed."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, ...]] = {}
        self.ledger = Ledger()

    def rows(self) -> list[int]:
        return sorted(row for name in seen(self.files, self.ledger) for row in self.files[name])

    def steps(self, now: datetime) -> Iterator[None]:
        """One pass; whoever stops taking steps has killed it."""
        wanted = plan(DAY, self.files, self.ledger, now)
        for name in wanted.removed:
            del self.files[name]
            yield
        for name in wanted.aside:
            self.files[aside_name(name)] = self.files.pop(name)
            yield
        forms: dict[str, list[str]] = {}
        for name in wanted.merged:
            merged = self.ledger.merged.get(name)
            form = merged.schema if merged is not None else str(self.files[name][0] % 2)
            forms.setdefault(form, []).append(name)
        kept = {name: each for name, each in self.ledger.merged.items() if name in self.files}
        for form, group in forms.items():
            if len(group) == 1 and group[0] in kept:
                continue
            names = Ledger(kept).sources_of(group)
            name = name_of(names) + ".parquet"
            kept[name] = Merged(form, 100, now.timestamp(), sources(names))
            self.ledger = Ledger(dict(kept))
            yield
            self.files[name] = tuple(row for each in group for row in self.files[each])
            yield


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 7000)), max_size=25))
def test_whatever_ends_it_no_row_is_lost_or_seen_twice(turns: list[tuple[int, int, int]]) -> None:
    folder, now, number = Folder(), OVER, 0
    for added, steps, seconds in turns:
        now += timedelta(seconds=seconds)
        for _ in range(added):
            folder.files[f"s-{number}.parquet"] = (number,)
            number += 1
        passing = folder.steps(now)
        for _ in range(steps):
            if next(passing, "ended") == "ended":
                break
            assert folder.rows() == list(range(number))
        passing.close()
        # A server that was killed writes again what it wrote already.
        if number:
            folder.files["s-0.parquet"] = (0,)
        assert folder.rows() == list(range(number))
    for _ in range(4):
        now += timedelta(hours=2)
        list(folder.steps(now))
    assert folder.rows() == list(range(number))
    # In the end there is one of each form, and nothing beside it.
    assert len([name for name in folder.files if is_merged(name)]) <= 2
    assert len(folder.files) <= max(2, min(number, 1))
