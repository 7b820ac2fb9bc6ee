"""What a caller may do, as ``action:model``. Pure.

The actions, each for one model, for all whose names begin alike (``team-*``), or for all (``*``, which may be
left out):

========= ==================================================================================
predict   ask the model, and see what it takes and gives
feedback  tell what turned out, and see what the model takes and gives
read      see everything that a server shows of it: figures, reports, statistics, metrics
deploy    load and unload it; read
admin     everything
========= ==================================================================================

Who may do anything with a model sees that it exists; to everybody else it does not exist.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from servable.errors import InputError

Action = Literal["predict", "feedback", "read", "deploy", "admin"]
#: An action of a route: one of the above, or ``see``, which every scope for the model allows.
Need = Literal["see", "predict", "feedback", "read", "deploy", "admin"]
ACTIONS: tuple[Action, ...] = get_args(Action)
EVERY_MODEL = "*"
_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}\*?|\*")
#: What an action allows besides itself.
_ALLOWS: dict[Action, frozenset[Need]] = {
    "predict": frozenset({"see", "predict"}),
    "feedback": frozenset({"see", "feedback"}),
    "read": frozenset({"see", "read"}),
    "deploy": frozenset({"see", "read", "deploy"}),
    "admin": frozenset({"see", "predict", "feedback", "read", "deploy", "admin"}),
}


class Scope(NamedTuple):
    """One thing that a caller may do.

    Attributes:
        action: what.
        models: a name, the beginning of names followed by a star, or a star for all.
    """

    action: Action
    models: str

    def __str__(self) -> str:
        return f"{self.action}:{self.models}"

    def covers(self, need: Need, model: str) -> bool:
        """Whether it allows something to be done with a model.

        Args:
            need: what.
            model: its name; ``*`` for all models together, such as the figures of a whole server.
        """
        if need not in _ALLOWS[self.action]:
            return False
        if self.models.endswith("*"):
            return model.startswith(self.models[:-1])
        return model == self.models


def parse_scope(text: str) -> Scope:
    """Read a scope such as ``predict:income``, ``predict:team-*`` or ``admin``.

    Raises:
        InputError: it is none.
    """
    action, colon, models = text.strip().partition(":")
    # Nothing after a colon is a mistake, such as a variable that is not set, and must not open everything.
    models = models if colon else EVERY_MODEL
    if action not in ACTIONS:
        raise InputError(
            f"{text[:60]!r} is no scope; write an action and a model, such as predict:income, with one of "
            f"{', '.join(ACTIONS)}."
        )
    if _PATTERN.fullmatch(models) is None:
        raise InputError(
            f"{models[:60]!r} in the scope {text[:60]!r} is no model; write a name, the beginning of names "
            "such as team-*, or * for all."
        )
    return Scope(action, models)


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Read several scopes, each of which may be a list with commas; without repetitions, in their order.

    Raises:
        InputError: one is none, or there is not one.
    """
    parts = [part for text in texts for part in text.split(",") if part.strip()]
    scopes = tuple(dict.fromkeys(map(parse_scope, parts)))
    if not scopes:
        raise InputError("A key needs at least one scope, such as --scope predict:income.")
    return scopes


def allowed(scopes: Iterable[Scope], need: Need, model: str) -> bool:
    """Whether any of the scopes allows something; see ``Scope.covers``."""
    return any(scope.covers(need, model) for scope in scopes)
