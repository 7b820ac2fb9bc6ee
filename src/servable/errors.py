"""The errors of Servable: one tree, cut by what a caller would do about it.

::

    ServableError
    ├── InputError              the caller sent something wrong: change it and send it again
    │   ├── DataError           a file of rows cannot be used (unreadable, no such target, one class only)
    │   ├── RequestMalformed    the bytes are not the format that they claim to be
    │   ├── RequestInvalid      the values do not fit the signature; carries the fields
    │   ├── RequestTooLarge     more bytes, rows or depth than the limits allow
    │   ├── HeadersTooLarge     more headers, or more bytes of them, than the limits allow
    │   ├── RequestTimeout      the request arrives too slowly
    │   ├── PoisonRequest       the request killed two processes of the model and is not tried again
    │   ├── MediaTypeUnsupported
    │   ├── NotAcceptable       no form of an answer that the caller would take
    │   ├── HostRefused         a request under a host name that this server does not answer to
    │   └── SettingInvalid      an option, an environment variable or a line of servable.toml
    ├── NotFoundError           the thing named does not exist
    │   ├── ModelNotFound
    │   ├── VersionNotFound     also for an alias
    │   ├── FileMissing
    │   └── RouteNotFound
    ├── MethodNotAllowed        the thing exists, the verb does not
    ├── NotOffered              a wire format has it and this server does not
    ├── ConflictError           the present state does not allow it (nothing to roll back to, name taken)
    ├── ArtifactError           a model file or a package
    │   ├── ArtifactUnreadable  empty, truncated, or not what its name says
    │   ├── ArtifactUntrusted   loading it would execute code; carries the names
    │   ├── ArtifactTampered    a file differs from its recorded digest
    │   └── ArtifactUnsupported nobody here can read it (newer format, unknown framework)
    ├── VerdictError            a measurement said no
    │   ├── GateFailed          a metric is below what was asked for
    │   └── ParityFailed        a compiled model does not answer like the trained one
    ├── UnavailableError        try again later (the only branch with ``retryable`` true)
    │   ├── ModelNotReady
    │   ├── Overloaded          the queue is full; carries the seconds after which to try again
    │   ├── DeadlineExceeded    the time that the caller gave is over
    │   ├── ModelDied           the model's process died while it ran
    │   ├── ServerStopping
    │   └── ServerUnreachable
    ├── SurroundingsError       the machine, not the caller
    │   ├── DependencyMissing   names the extra to install
    │   ├── PortInUse
    │   ├── StorageFull
    │   └── StorageFailed       permissions, input/output errors, a damaged database
    ├── ModelFailed             the model itself raised while it ran
    └── RemoteError             a server answered with an error; carries its status and code

An error knows a code word and whether trying again may help. It does not know HTTP: the one table
from code to status is ``server/problems.py``, and the one table to exit codes is ``cli/exits.py``.
A message is one sentence: what is wrong, where, and what to do about it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple


class FieldProblem(NamedTuple):
    """One value that does not fit: where it is, what was expected there, what came."""

    path: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.got}"


class ServableError(Exception):
    """The root. ``code`` is stable and documented; the message is for people and may change."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(ServableError):
    """The caller sent something wrong."""

    code = "invalid_input"


class DataError(InputError):
    """A file of rows that cannot be used for what was asked."""

    code = "invalid_data"


class RequestMalformed(InputError):
    """Bytes that are not the format that they claim to be."""

    code = "malformed_request"


class RequestInvalid(InputError):
    """Values that do not fit the signature.

    Args:
        problems: every field that does not fit, at least one.
    """

    code = "invalid_request"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first}{more}")
        self.problems = tuple(problems)


class RequestTooLarge(InputError):
    """More bytes, rows or depth than the limits allow."""

    code = "request_too_large"


class HeadersTooLarge(InputError):
    """More headers, or more bytes of them, than the limits allow."""

    code = "headers_too_large"


class RequestTimeout(InputError):
    """The request arrives more slowly than the limits allow."""

    code = "request_timeout"


class PoisonRequest(InputError):
    """The request killed two processes of the model; it is refused and not tried again."""

    code = "poison_request"


class MediaTypeUnsupported(InputError):
    """A content type that no codec reads."""

    code = "unsupported_media_type"


class NotAcceptable(InputError):
    """The caller takes none of the forms in which the answer can be given."""

    code = "not_acceptable"


class HostRefused(InputError):
    """A request under a host name that this server does not answer to (a guard against DNS rebinding)."""

    code = "host_refused"


class SettingInvalid(InputError):
    """An option, an environment variable or a line of ``servable.toml`` that cannot be used."""

    code = "invalid_setting"


class NotFoundError(ServableError):
    """The thing named does not exist."""

    code = "not_found"


class ModelNotFound(NotFoundError):
    """No model of this name."""

    code = "model_not_found"


class VersionNotFound(NotFoundError):
    """The model exists, the version or alias does not."""

    code = "version_not_found"


class FileMissing(NotFoundError):
    """A path given by the caller that does not exist."""

    code = "file_not_found"


class RouteNotFound(NotFoundError):
    """No such address on this server."""

    code = "route_not_found"


class MethodNotAllowed(ServableError):
    """The address exists, the verb does not.

    Args:
        allowed: the verbs that do exist there.
    """

    code = "method_not_allowed"

    def __init__(self, message: str, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class NotOffered(ServableError):
    """A wire format has it, and this server does not offer it."""

    code = "not_offered"


class ConflictError(ServableError):
    """The present state does not allow what was asked."""

    code = "conflict"


class ArtifactError(ServableError):
    """A model file or a package that cannot be taken in."""

    code = "artifact_error"


class ArtifactUnreadable(ArtifactError):
    """Empty, truncated, or not what its name says."""

    code = "artifact_unreadable"


class ArtifactUntrusted(ArtifactError):
    """Loading the file would execute code, and nobody said that this is wanted.

    Args:
        names: what loading would import and call, ``module.name`` each, sorted.
    """

    code = "artifact_untrusted"

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class ArtifactTampered(ArtifactError):
    """A file of a package differs from its recorded digest."""

    code = "artifact_tampered"


class ArtifactUnsupported(ArtifactError):
    """A file or package that nothing here can read."""

    code = "artifact_unsupported"


class VerdictError(ServableError):
    """A measurement said no."""

    code = "refused"


class GateFailed(VerdictError):
    """A metric is below what was asked for."""

    code = "gate_failed"


class ParityFailed(VerdictError):
    """A compiled model does not answer like the trained one."""

    code = "parity_failed"


class UnavailableError(ServableError):
    """Not now; trying again later may help."""

    code = "unavailable"
    retryable = True


class ModelNotReady(UnavailableError):
    """The model is known and is not loaded (yet, or any more)."""

    code = "model_not_ready"


class Overloaded(UnavailableError):
    """The queue is full, or waiting in it would take too long.

    Args:
        retry_after_s: seconds after which another try has a chance.
    """

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(UnavailableError):
    """The time that the caller gave, or that the server gives, is over."""

    code = "deadline_exceeded"


class ModelDied(UnavailableError):
    """The model's process died, hung or was stopped while it had the request."""

    code = "model_died"


class ServerStopping(UnavailableError):
    """The server is going down; another one, or the same a little later, will answer."""

    code = "server_stopping"


class ServerUnreachable(UnavailableError):
    """No answer from the server's address."""

    code = "server_unreachable"


class SurroundingsError(ServableError):
    """The machine does not provide what is needed."""

    code = "surroundings"


class DependencyMissing(SurroundingsError):
    """A library is not installed; the message names the extra that brings it."""

    code = "dependency_missing"


class PortInUse(SurroundingsError):
    """Another process listens on this port."""

    code = "port_in_use"


class StorageFull(SurroundingsError):
    """No space left where the home or the database lives."""

    code = "storage_full"


class StorageFailed(SurroundingsError):
    """Permissions, input/output errors, or a damaged database."""

    code = "storage_failed"


class ModelFailed(ServableError):
    """The model itself raised while it ran. The message never repeats the rows."""

    code = "model_failed"


class RemoteError(ServableError):
    """A server answered with an error.

    Args:
        status: the HTTP status.
        remote_code: the server's code word, empty if it sent none.
        request_id: the id under which the server logged it, empty if it sent none.
        problems: the fields that the server named, empty if it named none.
    """

    code = "remote_error"

    def __init__(
        self,
        message: str,
        status: int,
        remote_code: str = "",
        request_id: str = "",
        problems: Sequence[FieldProblem] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.remote_code = remote_code
        self.request_id = request_id
        self.problems = tuple(problems)


@contextmanager
def converted(mapping: Mapping[type[Exception], type[ServableError]], message: str) -> Iterator[None]:
    """Turn foreign exceptions into ours at the border of a library.

    Args:
        mapping: foreign class to ours; the first entry that matches wins, so put subclasses first.
        message: the sentence to say; ``{}`` in it is replaced by the foreign exception's text.

    Raises:
        ServableError: of the mapped class, with the foreign exception as its cause.
    """
    try:
        yield
    except ServableError:
        raise
    except tuple(mapping) as foreign:
        for theirs, ours in mapping.items():
            if isinstance(foreign, theirs):
                raise ours(message.replace("{}", str(foreign).strip() or type(foreign).__name__)) from foreign
        raise
