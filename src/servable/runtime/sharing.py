"""How a server process shares models with the others of its server."""

from typing import NamedTuple

from servable.artifact.manifest import Variant
from servable.registry.policy import Policy
from servable.runtime.placement import on_gpu
from servable.runtime.poison import Poisons, own_memory
from servable.runtime.spawning import Spawned, Start


class Sharing(NamedTuple):
    """Who shares.

    Attributes:
        workers: how many server processes there are.
        start: starts what a child of a shared model talks to.
        poisons: where the rows that killed a model are remembered.
    """

    workers: int = 1
    start: Start = Spawned
    poisons: Poisons = own_memory

    def wanted(self, variant: Variant, policy: Policy) -> bool:
        """Whether all workers should use one model process, or the same few, instead of their own.

        A deployment may say so. Otherwise they share what computes on a GPU, where each further process
        costs its own copy of the weights and of the driver's state.
        """
        if self.workers < 2:
            return False
        if policy.share is not None:
            return policy.share
        return policy.executor in ("auto", "process") and on_gpu(variant, policy.device)


#: A process that is alone.
ALONE = Sharing()
