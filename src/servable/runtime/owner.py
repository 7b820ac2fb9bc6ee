"""Who keeps model processes, as each of them sees it."""

from typing import Protocol, TypeVar

from servable.errors import ServableError
from servable.runtime.executor import Outcome
from servable.runtime.spawning import Batch

Child = TypeVar("Child", contravariant=True)


class Owner(Protocol[Child]):
    """Who keeps children; ``Child`` is the type of those."""

    def ready(self, child: Child) -> None:
        """It loaded its model and waits."""
        ...

    def ended(self, child: Child, batch: Batch, outcome: Outcome) -> None:
        """A batch ended, or a stream began; the child is idle, or gone."""
        ...

    def untouched(self, batch: Batch) -> None:
        """A batch that its child never read, because it was dead, stopped or wedged before."""
        ...

    def replaced(self) -> None:
        """Whoever keeps the process for several put another one in its place."""
        ...

    def moved(self, child: Child) -> None:
        """Whoever keeps the process for several has it computed elsewhere now; ``about`` says where."""
        ...

    def gone(self, child: Child, error: ServableError) -> None:
        """It is dead or will be in a moment; called exactly once, before its batch ends."""
        ...
