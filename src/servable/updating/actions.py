"""What is done in each step of a turn."""

from collections.abc import Callable

from servable.updating import packing, steps
from servable.updating.steps import Stepped, Work

#: By the names of ``plan.STEPS``.
ACTIONS: dict[str, Callable[[Work], Stepped]] = {
    "collect": steps.collected,
    "train": steps.trained,
    "evaluate": steps.evaluated,
    "gate": steps.gated,
    "optimise": packing.optimised,
    "register": steps.registered,
    "deploy": steps.deployed,
}
