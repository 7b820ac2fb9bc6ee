"""What somebody asks of the loop; kept with each turn, so that one that was killed goes on as it began."""

from typing import Any

import msgspec

from servable.updating.gate import GateRules
from servable.updating.plan import Deploy, Triggers
from servable.updating.window import Window


class UpdateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is updated.

    Attributes:
        triggers: when a turn is due.
        window: how far back it looks, and what it measures on.
        gate: what the new version must reach.
        deploy: what happens to a version that passed.
        steps: of a canary: shares of the requests in percent, rising.
        every: time that a step of a canary lasts at least, such as ``10m``.
        data: where the original rows lie now, if the recipe's path is not right any more; empty if it is.
        refit: whether a version that passed is fitted once more with the rows that it was measured on, so
            that it knows the newest ones. What it was measured with is then the model before that.
        online: whether the model learns on from where it is, row by row, instead of being fitted anew; only
            labels that came since it learned are used, and it must be one that can (``partial_fit``).
        tune: whether session options are searched for its compiled form; else those of the version before
            it are tried.
    """

    triggers: Triggers = Triggers()
    window: Window = Window()
    gate: GateRules = GateRules()
    deploy: Deploy = "now"
    steps: str = "1,5,25,100"
    every: str = "10m"
    data: str = ""
    refit: bool = True
    online: bool = False
    tune: bool = True


def stored(options: UpdateOptions) -> dict[str, Any]:
    """As a turn's record keeps it."""
    found: dict[str, Any] = msgspec.to_builtins(options)
    return found


def restored(record: dict[str, Any]) -> UpdateOptions:
    """The options that a turn began with."""
    return msgspec.convert(record, UpdateOptions)
