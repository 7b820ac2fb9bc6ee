"""A Progress that remembers."""

from typing import NamedTuple


class Stage(NamedTuple):
    """One stage of the work, as it was told.

    Attributes:
        title: as begun.
        total: as begun.
        advanced: the sum of all steps.
        notes: those that said something.
        outcome: as ended, None while it runs or when the next stage ended it.
    """

    title: str
    total: float | None
    advanced: float = 0.0
    notes: tuple[str, ...] = ()
    outcome: str | None = None


class RecordedProgress:
    """Implements ``servable.progress.Progress`` and keeps what it was told in ``stages``."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def begin(self, title: str, total: float | None = None) -> None:
        """A new stage."""
        self.stages.append(Stage(title, total))

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """The last stage moved on."""
        if self.stages:
            stage = self.stages[-1]
            notes = (*stage.notes, note) if note else stage.notes
            self.stages[-1] = stage._replace(advanced=stage.advanced + amount, notes=notes)

    def done(self, outcome: str = "") -> None:
        """The last stage ended."""
        if self.stages:
            self.stages[-1] = self.stages[-1]._replace(outcome=outcome)

    @property
    def titles(self) -> tuple[str, ...]:
        """The stages' titles, in order."""
        return tuple(stage.title for stage in self.stages)
