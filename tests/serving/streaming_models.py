"""Models in plain Python that answer in pieces; this very file is what tests add."""

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import servable

LARGE = 64 * 1024


class Gated(servable.Model):
    """Says three words; before each but the first it waits for a writer at the pipe ``gate`` of a folder."""

    example: ClassVar = {"prompt": ""}

    def predict(self, prompt: str) -> Iterator[str]:
        for number in range(3):
            if number and prompt:
                (Path(prompt) / "gate").read_text()
            yield f"word{number} "


class Endless(servable.Model):
    """Never ends by itself, but for its example; counts what it makes and says when it was closed."""

    example: ClassVar = {"prompt": ""}

    def predict(self, prompt: str) -> Iterator[str]:
        if not prompt:
            yield "once"
            return
        folder = Path(prompt)
        try:
            while True:
                with (folder / "made").open("ab") as file:
                    file.write(b".")
                yield "x" * LARGE
        finally:
            (folder / "closed").touch()


class Echo(servable.Model):
    """Gives back the words of a prompt one by one; some words do something else."""

    async def predict(self, prompt: str) -> AsyncIterator[str]:
        for word in prompt.split():
            if word == "raise":
                raise ValueError("a secret of the row")
            if word == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            yield f"{word} "


class Dice(servable.Model):
    """Throws so many dice, which fall otherwise each time."""

    example: ClassVar = {"count": 20}

    def predict(self, count: int) -> Iterator[str]:
        for _ in range(count):
            yield f"{random.randrange(6) + 1} "


class Numbers(servable.Model):
    """The numbers below a number."""

    def predict(self, below: int) -> Iterator[float]:
        yield from map(float, range(max(below, 1)))
