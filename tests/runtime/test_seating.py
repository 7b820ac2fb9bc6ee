"""Where a keeper puts shared models."""

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import ModelFailed
from servable.runtime.framing import Load, Share
from servable.runtime.seating import Prepared, Seating
from servable.testing import FakeClock, FakeGpus


class Sized:
    """Takes so much of its GPU once it is open."""

    def __init__(
        self, digest: str, truth: int, *, thought: int = 0, budget: int = 10, processes: int = 1
    ) -> None:
        share = Share(digest, processes, 0, accelerator_bytes=thought, accelerator_budget=budget)
        share = msgspec.structs.replace(share, accelerator="cuda:0" if budget else "")
        self.load = Load("", digest, "trained", 0, (), "auto", share)
        self.note = ""
        self.opened: list[str] = []
        self.fails = False
        self.otherwise = False
        #: What it waits for before it is prepared.
        self.gate: asyncio.Event | None = None
        self._truth = truth

    @property
    def accelerator_bytes(self) -> int:
        return self._truth if self.opened and self.opened[-1] == "gpu" else 0

    @property
    def where(self) -> str:
        return self.opened[-1]

    async def open(self) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise ModelFailed("no")
        self.opened.append("processor" if self.note else "gpu")

    def to_processor(self, note: str) -> None:
        self.note = note

    async def prepare(self) -> Prepared:
        self.opened.append("preparing")
        try:
            await (asyncio.sleep(0) if self.gate is None else self.gate.wait())
            if self.fails:
                raise ModelFailed("no")
        finally:
            self.opened.pop()
        return Prepared(0, "otherwise") if self.otherwise else Prepared(self._truth)

    def move(self) -> None:
        self.note = ""
        self.opened.append("gpu")

    async def forget(self) -> None:
        self.opened.insert(-1, "forgotten")

    def stays(self, note: str) -> None:
        self.note = note

    async def close(self) -> None:
        self.opened.append("closed")


def open_all(seating: Seating, *models: Sized) -> None:
    async def work() -> None:
        await asyncio.gather(*(seating.open(model) for model in models), return_exceptions=True)

    asyncio.run(work())


def test_what_fits_goes_on_the_gpu_and_the_rest_on_the_processor() -> None:
    seating = Seating()
    first, second, third = Sized("a", 6), Sized("b", 4), Sized("c", 1)
    open_all(seating, first, second, third)
    assert [each.opened for each in (first, second)] == [["gpu"], ["gpu"]]
    # It was measured to be too large, so it leaves again.
    assert third.opened == ["gpu", "closed", "processor"]
    assert "other models hold" in third.note
    asyncio.run(seating.close(second))
    again = Sized("c", 1)
    open_all(seating, again)
    assert again.opened == ["gpu"]


def test_one_that_is_known_not_to_fit_is_not_even_tried() -> None:
    seating = Seating()
    files = Sized("a", 3, thought=11)
    open_all(seating, files)
    assert files.opened == ["processor"]
    open_all(seating, Sized("b", 8), Sized("c", 4))
    known = Sized("c", 4)
    open_all(seating, known)
    assert known.opened == ["processor"]


def test_every_process_of_a_model_counts() -> None:
    seating = Seating()
    two = Sized("a", 12, thought=6, processes=2)
    open_all(seating, two)
    assert two.opened == ["processor"]


def test_other_programs_on_the_gpu_leave_less() -> None:
    full = FakeGpus(total=20, used=15)
    first, second = Sized("a", 3, thought=3), Sized("b", 9, thought=9)
    open_all(Seating(full), first, second)
    assert first.opened == ["gpu"]
    assert second.opened == ["processor"]
    assert "other programs hold the rest" in second.note


def test_where_nobody_counts_everything_goes_on_the_gpu() -> None:
    seating = Seating()
    models = [Sized(name, 100, budget=0) for name in "ab"]
    open_all(seating, *models)
    assert all(model.opened == ["gpu"] for model in models)


def test_one_that_cannot_be_loaded_takes_no_room() -> None:
    seating = Seating()
    broken = Sized("a", 9)
    broken.fails = True
    fits = Sized("b", 9)
    open_all(seating, broken, fits)
    assert fits.opened == ["gpu"]


# ---------------------------------------------------------------------- the way back


def test_it_comes_back_when_another_one_ends_and_then_counts() -> None:
    async def work() -> None:
        seating = Seating()
        first, second, third = Sized("a", 6), Sized("b", 5), Sized("c", 5)
        for each in (first, second):
            await seating.open(each)
        await seating.look()
        assert second.opened == ["gpu", "closed", "processor"]
        await seating.close(first)
        await seating.look()
        assert (second.where, second.note) == ("gpu", "")
        again = Sized("a", 6)
        await seating.open(again)
        assert again.opened == ["processor"]
        assert "hold 0.00 GiB" in again.note
        await seating.open(third)
        assert third.where == "gpu"
        # Nothing is moved twice.
        await seating.look()
        assert second.opened.count("gpu") == 2

    asyncio.run(work())


def test_those_that_have_waited_longest_come_back_first() -> None:
    async def work() -> None:
        seating = Seating()
        holds, first, second = Sized("a", 10), Sized("b", 6, thought=6), Sized("c", 6, thought=6)
        for each in (holds, first, second):
            await seating.open(each)
        await seating.close(holds)
        await seating.look()
        assert (first.where, second.where) == ("gpu", "processor")

    asyncio.run(work())


def test_a_load_that_fails_is_tried_again_after_pauses_that_double() -> None:
    async def work() -> None:
        clock = FakeClock()
        seating = Seating(clock=clock)
        holds, falls = Sized("a", 10), Sized("b", 6)
        for each in (holds, falls):
            await seating.open(each)
        await seating.close(holds)
        falls.fails = True
        tries = []
        for second in range(1000):
            before = falls.note
            falls.note = "?"
            await seating.look()
            if falls.note != "?":
                tries.append(second)
                assert "loading it there failed; it is tried again" in falls.note
            else:
                falls.note = before
            clock.advance(1.0)
        assert falls.where == "processor"
        assert tries == [0, 5, 15, 35, 75, 155, 315, 615, 915]
        falls.fails = False
        clock.advance(300.0)
        await seating.look()
        assert falls.where == "gpu"

    asyncio.run(work())


def test_one_that_turns_out_too_large_is_not_tried_before_there_is_so_much_room() -> None:
    async def work() -> None:
        seating = Seating()
        first, second, large = Sized("a", 6), Sized("b", 4), Sized("c", 7, thought=5)
        for each in (first, second, large):
            await seating.open(each)
        await seating.close(first)
        await seating.look()
        # Five were thought to be enough, and seven are not there.
        assert large.opened == ["forgotten", "processor"]
        assert "hold 0.00 GiB" in large.note
        await seating.look()
        assert large.opened == ["forgotten", "processor"]
        await seating.close(second)
        await seating.look()
        assert large.where == "gpu"

    asyncio.run(work())


def test_one_that_would_answer_otherwise_there_is_not_tried_again() -> None:
    async def work() -> None:
        seating = Seating()
        holds, falls = Sized("a", 10), Sized("b", 6)
        for each in (holds, falls):
            await seating.open(each)
        await seating.close(holds)
        falls.otherwise = True
        await seating.look()
        assert "it would answer otherwise there" in falls.note
        falls.otherwise = False
        await seating.look()
        assert falls.where == "processor"

    asyncio.run(work())


def test_what_is_opened_goes_before_what_moves() -> None:
    async def work() -> None:
        seating = Seating()
        holds, falls, comes = Sized("a", 10), Sized("b", 6), Sized("c", 5)
        for each in (holds, falls):
            await seating.open(each)
        await seating.close(holds)
        falls.gate = asyncio.Event()
        looking = asyncio.ensure_future(seating.look())
        while falls.where != "preparing":
            await asyncio.sleep(0)
        await seating.open(comes)
        await looking
        assert (comes.where, falls.where) == ("gpu", "processor")
        # It failed at nothing, so it waits for room and for nothing else.
        falls.gate.set()
        await seating.close(comes)
        await seating.look()
        assert falls.where == "gpu"

    asyncio.run(work())


def test_one_that_ends_while_it_moves_is_not_moved() -> None:
    async def work() -> None:
        seating = Seating()
        holds, falls = Sized("a", 10), Sized("b", 6)
        for each in (holds, falls):
            await seating.open(each)
        await seating.close(holds)
        falls.gate = asyncio.Event()
        looking = asyncio.ensure_future(seating.look())
        while falls.where != "preparing":
            await asyncio.sleep(0)
        await seating.close(falls)
        await looking
        assert falls.opened[-2:] == ["processor", "closed"]
        # Whoever looks may end as well.
        again = Sized("b", 6)
        again.gate = asyncio.Event()
        await seating.open(holds)
        await seating.open(again)
        await seating.close(holds)
        looking = asyncio.ensure_future(seating.look())
        while again.where != "preparing":
            await asyncio.sleep(0)
        looking.cancel()
        await asyncio.wait([looking])
        assert again.where == "processor"

    asyncio.run(work())


STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "close", "look", "fail", "mend", "wait"]), st.integers(0, 4)),
    max_size=40,
)


@given(STEPS, st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=5, max_size=5))
def test_what_is_counted_is_what_is_there_whatever_happens(
    steps: list[tuple[str, int]], sizes: list[tuple[int, int]]
) -> None:
    async def work() -> None:
        clock = FakeClock()
        seating = Seating(clock=clock)
        models = [Sized(str(place), truth, thought=thought) for place, (truth, thought) in enumerate(sizes)]
        there: list[Sized] = []
        for what, place in steps:
            model = models[place]
            if what == "open" and model not in there:
                model.note, model.fails = "", False
                await seating.open(model)
                there.append(model)
            elif what == "close" and model in there:
                await seating.close(model)
                there.remove(model)
            elif what == "look":
                await seating.look()
            elif what == "wait":
                clock.advance(1000.0)
            else:
                model.fails = what == "fail"
            assert {each.where for each in there} <= {"gpu", "processor"}
            assert sum(each.accelerator_bytes for each in there) <= 10
        for each in models:
            each.fails = False
        clock.advance(1000.0)
        await seating.look()
        left = 10 - sum(each.accelerator_bytes for each in there)
        needed = {model: max(size) for model, size in zip(models, sizes, strict=True)}
        # Nobody waits for room that is there.
        assert all(needed[each] > left for each in there if each.where == "processor")

    asyncio.run(work())
