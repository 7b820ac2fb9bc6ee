"""The root of the tree, and a place where a value does not fit."""

from typing import ClassVar, NamedTuple

#: Where the classes are imported from. Logs and tracebacks name this and not the file that a class stands in,
#: so that what is looked for in them stays the same.
_PACKAGE = "servable.errors"


class FieldProblem(NamedTuple):
    """One value that does not fit: where it is, what was expected there, what came."""

    path: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.got}"


class ServableError(Exception):
    """The root. ``code`` is stable and documented; the message is for people and may change.

    ``version`` is that of the model which a request had reached when this came of it; 0 when it reached none.

    Each class of the tree names its code beside its parent, and carries what no program reads from a message.
    """

    __module__ = _PACKAGE
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str = "") -> None:
        super().__init_subclass__()
        # Whoever names none keeps the parent's.
        cls.code = code or cls.code
        if cls.__module__.startswith(f"{_PACKAGE}."):
            cls.__module__ = _PACKAGE

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.version = 0
