"""What a command prints: results to standard output, everything else to standard error.

With ``--json`` standard output is the outcome's record as one line of JSON and nothing else.
Rich itself honours NO_COLOR and drops colours where the output is no terminal. It is imported when
something is printed: a server has to be ready before there is anything to say.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from servable.progress import NoProgress, Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

T = TypeVar("T")

#: Width where there is no terminal, so that a table in a log is not cut to 80 columns.
_PLAIN_WIDTH = 132


def _console(*, stderr: bool) -> "Console":
    """A console on a stream; long words are never broken by us where nobody's terminal asks for it."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    return Console(stderr=stderr, width=width, highlight=False)


class Screen:
    """The two streams of one command.

    Args:
        as_json: print the outcome's record instead of tables, and no progress.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    @cached_property
    def out(self) -> "Console":
        """Standard output."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> "Console":
        """Standard error."""
        return _console(stderr=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Shows the course of the work inside the block, on standard error."""
        if self.as_json:
            yield NoProgress()
            return
        from servable.cli.progress import RichProgress

        with RichProgress(self.err) as bars:
            yield bars

    def show(self, outcome: T, render: "Callable[[T], Iterable[RenderableType]]") -> None:
        """Print the outcome: as one line of JSON, or as what ``render`` makes of it."""
        if self.as_json:
            import msgspec  # Lazily, for a quick --help.

            sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
            sys.stdout.flush()
            return
        for part in render(outcome):
            # The printer would break a text all the same that says not to be broken.
            self.out.print(part, soft_wrap=bool(getattr(part, "no_wrap", False)))

    def note(self, text: str) -> None:
        """A line for the person, on standard error; nothing with ``--json``. Rich markup is understood."""
        if not self.as_json:
            self.err.print(text)


def complain(sentence: str) -> None:
    """Say on standard error why the command failed."""
    from rich.markup import escape

    console = _console(stderr=True)
    console.print(f"[bold red]Error:[/bold red] {escape(sentence)}", soft_wrap=True)
