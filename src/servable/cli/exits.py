"""The one table from errors to exit codes, and the boundary behind which no traceback is seen."""

import errno
import os
from typing import NamedTuple

from servable import errors

OK = 0
FAULT = 1
USAGE = 2
INPUT = 3
NOT_FOUND = 4
VERDICT = 5
ARTIFACT = 6
UNAVAILABLE = 7
INTERRUPTED = 130

#: What each code means, for ``--help`` and the documentation.
MEANINGS: dict[int, str] = {
    OK: "done",
    FAULT: "fault in Servable or the model",
    USAGE: "wrong usage",
    INPUT: "unusable input or data",
    NOT_FOUND: "not found",
    VERDICT: "a gate or proof said no",
    ARTIFACT: "model file refused",
    UNAVAILABLE: "server or machine not available",
    INTERRUPTED: "interrupted",
}

#: Error class to exit code; the nearest class in an error's ancestry counts.
CODES: dict[type[BaseException], int] = {
    errors.ServableError: FAULT,
    errors.InputError: INPUT,
    errors.SettingInvalid: USAGE,
    errors.NotFoundError: NOT_FOUND,
    errors.MethodNotAllowed: INPUT,
    errors.ConflictError: INPUT,
    errors.ArtifactError: ARTIFACT,
    errors.VerdictError: VERDICT,
    errors.UnavailableError: UNAVAILABLE,
    errors.SurroundingsError: UNAVAILABLE,
    errors.ModelFailed: FAULT,
    errors.RemoteError: FAULT,
}

#: The last line of every help page.
EPILOG = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items()) + "."


class Ending(NamedTuple):
    """How a command ends: the code and the sentence for the person, empty for none."""

    code: int
    sentence: str


def ending(error: BaseException) -> Ending:
    """The exit code and the one sentence for anything that a command raised. Pure."""
    if isinstance(error, KeyboardInterrupt):
        return Ending(INTERRUPTED, "")
    if isinstance(error, errors.RemoteError):
        return Ending(_remote(error), _with_fields(error))
    if isinstance(error, errors.ServableError):
        return Ending(_nearest(error), error.message)
    if isinstance(error, OSError):
        surroundings = _surroundings(error)
        if surroundings is not None:
            return Ending(_nearest(surroundings), surroundings.message)
    if isinstance(error, MemoryError):
        return Ending(UNAVAILABLE, "There is not enough memory for this; use fewer rows or a larger machine.")
    return Ending(
        FAULT,
        f"This is a fault in Servable: {type(error).__name__}; run again with SERVABLE_DEBUG=1 to see where "
        "it happened, and report that.",
    )


def debugging() -> bool:
    """Whether SERVABLE_DEBUG asks for tracebacks instead of sentences."""
    return os.environ.get("SERVABLE_DEBUG", "") not in {"", "0"}


def _nearest(error: BaseException) -> int:
    """The code of the nearest class in the table."""
    return _nearest_of(type(error))


def _nearest_of(kind: type[BaseException]) -> int:
    for ancestor in kind.__mro__:
        if ancestor in CODES:
            return CODES[ancestor]
    return FAULT


def _named(root: type[errors.ServableError], code: str) -> type[errors.ServableError]:
    """The class of the tree whose code word this is; the root when none has it."""
    waiting = [root]
    while waiting:
        kind = waiting.pop()
        if kind.code == code:
            return kind
        waiting.extend(kind.__subclasses__())
    return root


def _remote(error: errors.RemoteError) -> int:
    """The code for a server's refusal, or for what went wrong once half of an answer was there."""
    status = error.status
    if status < 400 and error.remote_code:
        return _nearest_of(_named(errors.ServableError, error.remote_code))
    if status == 404:
        return NOT_FOUND
    if status == 429 or status >= 502:
        return UNAVAILABLE
    return INPUT if 400 <= status < 500 else FAULT


def _with_fields(error: errors.RemoteError) -> str:
    """The server's sentence, with the fields that it names when there are several, and its request id."""
    lines = [error.message]
    if len(error.problems) > 1:
        lines += [f"  {problem}" for problem in error.problems]
    if error.request_id:
        lines.append(f"  request id {error.request_id}")
    return "\n".join(lines)


def _surroundings(error: OSError) -> errors.SurroundingsError | None:
    """The machine's fault behind an operating system error, None when it is not recognised."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return errors.StorageFull(f"No space is left{where}; free some, or choose another place with --home.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return errors.StorageFailed(
            f"Not allowed to read or write{where}; change the permissions, or choose another --home."
        )
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ENAMETOOLONG}:
        return errors.StorageFailed(f"{error.strerror}{where}; check the path and the disk.")
    return None
