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
    ├── AccessError             who asks may not do that
    │   ├── Unauthenticated     no key, or none that is valid
    │   ├── Forbidden           a valid key that does not allow it
    │   └── OriginRefused       sent by a browser for a page of somebody else
    ├── MethodNotAllowed        the thing exists, the verb does not
    ├── NotOffered              a wire format has it and this server does not
    ├── ConflictError           the present state does not allow it (nothing to roll back to, name taken)
    ├── ArtifactError           a model file or a package
    │   ├── ArtifactUnreadable  empty, truncated, or not what its name says
    │   ├── ArtifactUntrusted   loading it would execute code; carries the names
    │   ├── ArtifactTampered    a file differs from its recorded digest
    │   ├── SignatureRefused    no trusted signature, or one of something else or older
    │   └── ArtifactUnsupported nobody here can read it (newer format, unknown framework)
    ├── VerdictError            a measurement said no
    │   ├── GateFailed          a metric is below what was asked for
    │   ├── ParityFailed        a compiled model does not answer like the trained one
    │   └── SelfCheckFailed     a loaded version does not answer its example as it did when it was made
    ├── UnavailableError        try again later (the only branch with ``retryable`` true)
    │   ├── ModelNotReady
    │   ├── Overloaded          the queue is full; carries the seconds after which to try again
    │   ├── LimitReached        a limit of the caller's key or address; likewise
    │   │   ├── RateLimited, ConcurrencyLimited, QuotaExhausted, TooManyFailures
    │   ├── DeadlineExceeded    the time that the caller gave is over
    │   ├── ModelDied           the model's process died while it ran
    │   ├── ServerStopping
    │   ├── AuditFailed         what was to be changed cannot be recorded, so it is not changed
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
    """The root. ``code`` is stable and documented; the message is for people and may change.

    ``version`` is that of the model which a request had reached when this came of it; 0 when it reached none.

    Each class below names its code beside its parent, and carries what no program reads from a message.
    """

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str = "") -> None:
        super().__init_subclass__()
        # Whoever names none keeps the parent's.
        cls.code = code or cls.code

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.version = 0


class InputError(ServableError, code="invalid_input"):
    """The caller sent something wrong."""


class DataError(InputError, code="invalid_data"):
    """A file of rows that cannot be used for what was asked."""


class RequestMalformed(InputError, code="malformed_request"):
    """Bytes that are not the format that they claim to be."""


class RequestInvalid(InputError, code="invalid_request"):
    """Values that do not fit the signature.

    Args:
        problems: every field that does not fit, at least one.
    """

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first}{more}")
        self.problems = tuple(problems)


class RequestTooLarge(InputError, code="request_too_large"):
    """More bytes, rows or depth than the limits allow."""


class HeadersTooLarge(InputError, code="headers_too_large"):
    """More headers, or more bytes of them, than the limits allow."""


class RequestTimeout(InputError, code="request_timeout"):
    """The request arrives more slowly than the limits allow."""


class PoisonRequest(InputError, code="poison_request"):
    """The request killed two processes of the model; it is refused and not tried again."""


class MediaTypeUnsupported(InputError, code="unsupported_media_type"):
    """A content type that no codec reads."""


class NotAcceptable(InputError, code="not_acceptable"):
    """The caller takes none of the forms in which the answer can be given."""


class HostRefused(InputError, code="host_refused"):
    """A request under a host name that this server does not answer to (a guard against DNS rebinding)."""


class SettingInvalid(InputError, code="invalid_setting"):
    """An option, an environment variable or a line of ``servable.toml`` that cannot be used."""


class NotFoundError(ServableError, code="not_found"):
    """The thing named does not exist."""


class ModelNotFound(NotFoundError, code="model_not_found"):
    """No model of this name."""


class VersionNotFound(NotFoundError, code="version_not_found"):
    """The model exists, the version or alias does not."""


class FileMissing(NotFoundError, code="file_not_found"):
    """A path given by the caller that does not exist."""


class RouteNotFound(NotFoundError, code="route_not_found"):
    """No such address on this server."""


class AccessError(ServableError, code="access"):
    """Who asks may not do that."""


class Unauthenticated(AccessError, code="unauthenticated"):
    """No key, or none that is valid; why it is not valid is not said.

    Args:
        shown: whether the caller showed something.
        browser: whether a person asks, whose browser can ask for the key.
        key: the public id in what the caller showed, for the audit log.
    """

    def __init__(self, shown: bool = False, browser: bool = False, key: str = "") -> None:
        super().__init__(
            "The API key or token is not valid here; ask whoever runs this server for another."
            if shown
            else "This server wants an API key, in the header Authorization: Bearer KEY or X-API-Key: KEY."
        )
        self.shown = shown
        self.browser = browser
        self.shown = shown
        self.key = key


class Forbidden(AccessError, code="forbidden"):
    """The key is valid and does not allow it.

    Args:
        message: what it does not allow.
        need: what the caller wanted to do, in a word.
        model: with which model; a star for all.
    """

    def __init__(self, message: str, need: str = "", model: str = "") -> None:
        super().__init__(message)
        self.need = need
        self.model = model


class OriginRefused(AccessError, code="origin_refused"):
    """A page of somebody else made a browser send it (a guard against forged requests)."""


class MethodNotAllowed(ServableError, code="method_not_allowed"):
    """The address exists, the verb does not.

    Args:
        allowed: the verbs that do exist there.
    """

    def __init__(self, message: str, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class NotOffered(ServableError, code="not_offered"):
    """A wire format has it, and this server does not offer it."""


class ConflictError(ServableError, code="conflict"):
    """The present state does not allow what was asked."""


class ArtifactError(ServableError, code="artifact_error"):
    """A model file or a package that cannot be taken in."""


class ArtifactUnreadable(ArtifactError, code="artifact_unreadable"):
    """Empty, truncated, or not what its name says."""


class ArtifactUntrusted(ArtifactError, code="artifact_untrusted"):
    """Loading the file would execute code, and nobody said that this is wanted.

    Args:
        names: what loading would import and call, ``module.name`` each, sorted.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class ArtifactTampered(ArtifactError, code="artifact_tampered"):
    """A file of a package differs from its recorded digest."""


class SignatureRefused(ArtifactError, code="signature_refused"):
    """A package has no signature that counts, or one of another version, or is older than what was served."""


class ArtifactUnsupported(ArtifactError, code="artifact_unsupported"):
    """A file or package that nothing here can read."""


class VerdictError(ServableError, code="refused"):
    """A measurement said no."""


class GateFailed(VerdictError, code="gate_failed"):
    """A metric is below what was asked for."""


class ParityFailed(VerdictError, code="parity_failed"):
    """A compiled model does not answer like the trained one."""


class SelfCheckFailed(VerdictError, code="self_check_failed"):
    """A loaded version answers its recorded example otherwise than when its package was made."""


class UnavailableError(ServableError, code="unavailable"):
    """Not now; trying again later may help."""

    retryable = True


class ModelNotReady(UnavailableError, code="model_not_ready"):
    """The model is known and is not loaded (yet, or any more)."""


class Overloaded(UnavailableError, code="overloaded"):
    """The queue is full, or waiting in it would take too long.

    Args:
        retry_after_s: seconds after which another try has a chance.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LimitReached(UnavailableError, code="limit_reached"):
    """A limit of the key or the address that asks is reached; others are answered.

    Args:
        retry_after_s: seconds after which another try has a chance.
        amount: how much the limit allows; 0 when it is not known.
        window_s: in how many seconds; 0 for at once.
    """

    #: The limit's name in the headers of the answer.
    policy: ClassVar[str] = "limit"

    def __init__(
        self, message: str, retry_after_s: float = 1.0, *, amount: int = 0, window_s: int = 0
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.amount = amount
        self.window_s = window_s


class RateLimited(LimitReached, code="rate_limited"):
    """More requests in a short time than the key, or the address, may send."""

    policy = "rate"


class ConcurrencyLimited(LimitReached, code="concurrency_limited"):
    """More requests at once than the key, or the address, may have."""

    policy = "concurrency"


class QuotaExhausted(LimitReached, code="quota_exhausted"):
    """The key has used up what it may ask in a day of UTC."""

    policy = "quota"


class TooManyFailures(LimitReached, code="too_many_failures"):
    """The address has shown too many keys that are not valid; a valid one is answered all the same."""

    policy = "failures"


class DeadlineExceeded(UnavailableError, code="deadline_exceeded"):
    """The time that the caller gave, or that the server gives, is over."""


class ModelDied(UnavailableError, code="model_died"):
    """The model's process died, hung or was stopped while it had the request."""


class ServerStopping(UnavailableError, code="server_stopping"):
    """The server is going down; another one, or the same a little later, will answer."""


class AuditFailed(UnavailableError, code="audit_failed"):
    """The audit log cannot be written, so that nothing is changed; predictions go on."""

    def __init__(
        self, message: str = "The audit log cannot be written, so nothing was changed; try again later."
    ) -> None:
        super().__init__(message)


class ServerUnreachable(UnavailableError, code="server_unreachable"):
    """No answer from the server's address."""


class SurroundingsError(ServableError, code="surroundings"):
    """The machine does not provide what is needed."""


class DependencyMissing(SurroundingsError, code="dependency_missing"):
    """A library is not installed; the message names the extra that brings it."""


class PortInUse(SurroundingsError, code="port_in_use"):
    """Another process listens on this port."""


class StorageFull(SurroundingsError, code="storage_full"):
    """No space left where the home or the database lives."""


class StorageFailed(SurroundingsError, code="storage_failed"):
    """Permissions, input/output errors, or a damaged database."""


class ModelFailed(ServableError, code="model_failed"):
    """The model itself raised while it ran. The message never repeats the rows."""


class RemoteError(ServableError, code="remote_error"):
    """A server answered with an error.

    Args:
        status: the HTTP status.
        remote_code: the server's code word, empty if it sent none.
        request_id: the id under which the server logged it, empty if it sent none.
        problems: the fields that the server named, empty if it named none.
    """

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
        ours = next(ours for theirs, ours in mapping.items() if isinstance(foreign, theirs))
        reason = str(foreign).strip() or type(foreign).__name__
        raise ours(message.replace("{}", reason)) from foreign
