"""Who keeps model processes, as each of them sees it."""

from typing import TYPE_CHECKING, Protocol

from servable.errors import ServableError
from servable.runtime.executor import Outcome
from servable.runtime.spawning import Batch

if TYPE_CHECKING:
    from servable.runtime.children import Child


class Owner(Protocol):
    """Who keeps children."""

    def ready(self, child: "Child") -> None:
        """It loaded its model and waits."""
        ...

    def ended(self, child: "Child", batch: Batch, outcome: Outcome) -> None:
        """A batch ended, or a stream began; the child is idle, or gone."""
        ...

    def untouched(self, batch: Batch) -> None:
        """A batch that its child never read, because it was dead, stopped or wedged before."""
        ...

    def replaced(self) -> None:
        """Whoever keeps the process for several put another one in its place."""
        ...

    def gone(self, child: "Child", error: ServableError) -> None:
        """It is dead or will be in a moment; called exactly once, before its batch ends."""
        ...
