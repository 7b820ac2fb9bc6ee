"""Who asks: what one caller may do with which model. Pure.

To a caller who may do nothing at all with a model it does not exist: the error is the same one, in the same
words, as for a name that nobody has.
"""

from collections.abc import Iterable
from hashlib import blake2b

from servable.errors import Forbidden, ModelNotFound, ServableError, Unauthenticated
from servable.security.limits import NO_LIMITS, Limits
from servable.security.scopes import EVERY_MODEL, Need, Scope, allowed

_VERBS: dict[Need, str] = {
    "see": "see",
    "predict": "ask",
    "feedback": "give feedback to",
    "read": "read the figures of",
    "deploy": "load or unload",
    "admin": "administer",
}


class Hidden(ModelNotFound):
    """A model that the caller must not know of; in all that is said like one that is not there.

    Args:
        message: as it is said of a model that is not there.
        need: what the caller wanted to do.
        model: its name, for the audit log.
    """

    def __init__(self, message: str, need: str, model: str) -> None:
        super().__init__(message)
        self.need = need
        self.model = model


class Caller:
    """A caller whose key was checked. Belongs to one event loop.

    Args:
        name: who it is, for the log.
        scopes: what it may do.
        limits: how much; they hold for all callers of its name together.
        kind: by what it was told, for the audit log: ``key``, ``token`` or ``certificate``.

    Attributes:
        account: under which its requests are counted: the name of a key, of others a digest.
    """

    __slots__ = ("_known", "_scopes", "account", "kind", "limits", "name")

    def __init__(
        self, name: str, scopes: Iterable[Scope], limits: Limits = NO_LIMITS, kind: str = "key"
    ) -> None:
        self.name = name
        self.limits = limits
        self.kind = kind
        self.account = name if kind == "key" else account_of(kind, name, limits)
        self._scopes = tuple(scopes)
        #: Answers that were given before, about models that exist, so that there is an end to them.
        self._known: dict[tuple[Need, str], bool] = {}

    def may(self, need: Need, model: str = EVERY_MODEL) -> bool:
        """Whether the caller may do something with a model that exists, or with all."""
        key = (need, model)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = allowed(self._scopes, need, model)
        return known

    def require(self, need: Need, model: str = EVERY_MODEL) -> None:
        """See ``may``.

        Raises:
            Forbidden: it sees the model and may not do that.
            ModelNotFound: it does not even see it.
        """
        if self._known.get((need, model)) or self.may(need, model):
            return
        if model == EVERY_MODEL:
            every = f"This needs a key that may {_VERBS[need]} every model, with the scope {need}:*."
            raise Forbidden(every, need, model)
        if not self.may("see", model):
            raise Hidden(self.hidden(model).message, need, model)
        one = f"This key may not {_VERBS[need]} {model}; it needs the scope {need}:{model}."
        raise Forbidden(one, need, model)

    def worded(self, error: ServableError, model: str) -> ServableError:
        """Why a model was not found, as this caller may know it.

        Args:
            error: why; it may name other models.
            model: the name that was asked for; the empty one means the default.
        """
        if allowed(self._scopes, "see", EVERY_MODEL):
            return error
        if isinstance(error, ModelNotFound) or not model:
            return self.hidden(model)
        if not allowed(self._scopes, "see", model):
            return Hidden(self.hidden(model).message, "see", model)
        return error

    def hidden(self, model: str) -> ServableError:
        """What is said of a model that the caller does not see, or that is not there."""
        return ModelNotFound(
            f"There is no model {model[:128]!r} that this key may see." if model
            else "There is no model that this key may see and that needs no name."
        )  # fmt: skip


class _Everybody(Caller):
    """Whoever asks a server that wants no keys."""

    def may(self, need: Need, model: str = EVERY_MODEL) -> bool:
        """Everything."""
        return True

    def require(self, need: Need, model: str = EVERY_MODEL) -> None:
        """Everything is allowed."""

    def worded(self, error: ServableError, model: str) -> ServableError:
        """Everything is said."""
        return error


class _Nobody(Caller):
    """Whoever asks for signs of life without a key, where keys are wanted."""

    def may(self, need: Need, model: str = EVERY_MODEL) -> bool:
        """Nothing."""
        return False

    def require(self, need: Need, model: str = EVERY_MODEL) -> None:
        """Nothing is allowed.

        Raises:
            Unauthenticated: always.
        """
        raise Unauthenticated()

    def hidden(self, model: str) -> ServableError:
        """Nothing is said without a key."""
        return Unauthenticated()


def account_of(kind: str, name: str, limits: Limits) -> str:
    """Under what callers of a kind are counted: says no name itself, and is none that a key can have."""
    text = f"{kind}\0{name}\0{sorted(limits.texts().items())}".encode("utf-8", "surrogatepass")
    return f"{kind}:{blake2b(text, digest_size=16).hexdigest()}"


EVERYBODY: Caller = _Everybody("anybody", ())
NOBODY: Caller = _Nobody("nobody", ())
