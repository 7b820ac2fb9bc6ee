"""How long work tells what it is doing, without knowing who looks.

Work takes a ``Progress`` and calls it; the command line hands in bars, a program hands in
``NoProgress`` (the default), and a test hands in ``servable.testing.RecordedProgress``.
"""

from typing import Protocol


class Progress(Protocol):
    """Receives the course of one piece of work. Called from the thread that does the work."""

    def begin(self, title: str, total: float | None = None) -> None:
        """A new stage starts and ends the one before; ``total`` is its size in any unit, None if unknown."""
        ...

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """The stage moved on by ``amount``; ``note`` says in a few words what was just done."""
        ...

    def done(self, outcome: str = "") -> None:
        """The stage ended; ``outcome`` is one short line, such as ``accuracy 0.94``."""
        ...


class NoProgress:
    """Nobody looks."""

    def begin(self, title: str, total: float | None = None) -> None:
        """Ignored."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Ignored."""

    def done(self, outcome: str = "") -> None:
        """Ignored."""
