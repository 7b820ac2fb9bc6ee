"""Progress on the terminal: bars where a person looks, plain lines where a file or a log does."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class RichProgress:
    """Implements ``servable.progress.Progress`` on a Rich console (standard error).

    A stage that ended leaves one line: its title, its outcome and how long it took. Use it in a
    ``with`` block, so that the cursor comes back whatever happens. Belongs to one thread.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(style="cyan"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._title = ""
        self._started = 0.0

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing; a stage that did not end because of an error leaves no line."""
        if error is None:
            self.done()
        self._bars.stop()

    def begin(self, title: str, total: float | None = None) -> None:
        """A new stage starts; it ends the one before."""
        self.done()
        self._title = title
        self._started = time.monotonic()
        self._task = self._bars.add_task(escape(title), total=total, note="")

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """The stage moved on."""
        if self._task is None:
            return
        self._bars.advance(self._task, amount)
        if note:
            self._bars.update(self._task, note=escape(note))

    def done(self, outcome: str = "") -> None:
        """The stage ended."""
        if self._task is None:
            return
        seconds = time.monotonic() - self._started
        self._bars.remove_task(self._task)
        self._task = None
        said = f"  {escape(outcome)}" if outcome else ""
        self._console.print(f"[green]✓[/green] {escape(self._title)}{said} [dim]{seconds:.1f} s[/dim]")
