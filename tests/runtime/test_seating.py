"""Where a keeper puts shared models."""

import asyncio

import msgspec

from servable.errors import ModelFailed
from servable.runtime.framing import Load, Share
from servable.runtime.seating import Seating
from servable.testing import FakeGpus


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
        self._truth = truth

    @property
    def accelerator_bytes(self) -> int:
        return self._truth if self.opened and self.opened[-1] == "gpu" else 0

    async def open(self) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise ModelFailed("no")
        self.opened.append("processor" if self.note else "gpu")

    def to_processor(self, note: str) -> None:
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
    seating.leave(second)
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
