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

Each branch is a file of this folder, and the errors without a branch are in ``others``. All of them are
imported from here.
"""

from servable.errors.access import AccessError, Forbidden, OriginRefused, Unauthenticated
from servable.errors.artifact import (
    ArtifactError,
    ArtifactTampered,
    ArtifactUnreadable,
    ArtifactUnsupported,
    ArtifactUntrusted,
    SignatureRefused,
)
from servable.errors.border import converted
from servable.errors.input import (
    DataError,
    HeadersTooLarge,
    HostRefused,
    InputError,
    MediaTypeUnsupported,
    NotAcceptable,
    PoisonRequest,
    RequestInvalid,
    RequestMalformed,
    RequestTimeout,
    RequestTooLarge,
    SettingInvalid,
)
from servable.errors.not_found import (
    FileMissing,
    ModelNotFound,
    NotFoundError,
    RouteNotFound,
    VersionNotFound,
)
from servable.errors.others import ConflictError, MethodNotAllowed, ModelFailed, NotOffered, RemoteError
from servable.errors.root import FieldProblem, ServableError
from servable.errors.surroundings import (
    DependencyMissing,
    PortInUse,
    StorageFailed,
    StorageFull,
    SurroundingsError,
)
from servable.errors.unavailable import (
    AuditFailed,
    ConcurrencyLimited,
    DeadlineExceeded,
    LimitReached,
    ModelDied,
    ModelNotReady,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    ServerStopping,
    ServerUnreachable,
    TooManyFailures,
    UnavailableError,
)
from servable.errors.verdict import GateFailed, ParityFailed, SelfCheckFailed, VerdictError

__all__ = [
    "AccessError",
    "ArtifactError",
    "ArtifactTampered",
    "ArtifactUnreadable",
    "ArtifactUnsupported",
    "ArtifactUntrusted",
    "AuditFailed",
    "ConcurrencyLimited",
    "ConflictError",
    "DataError",
    "DeadlineExceeded",
    "DependencyMissing",
    "FieldProblem",
    "FileMissing",
    "Forbidden",
    "GateFailed",
    "HeadersTooLarge",
    "HostRefused",
    "InputError",
    "LimitReached",
    "MediaTypeUnsupported",
    "MethodNotAllowed",
    "ModelDied",
    "ModelFailed",
    "ModelNotFound",
    "ModelNotReady",
    "NotAcceptable",
    "NotFoundError",
    "NotOffered",
    "OriginRefused",
    "Overloaded",
    "ParityFailed",
    "PoisonRequest",
    "PortInUse",
    "QuotaExhausted",
    "RateLimited",
    "RemoteError",
    "RequestInvalid",
    "RequestMalformed",
    "RequestTimeout",
    "RequestTooLarge",
    "RouteNotFound",
    "SelfCheckFailed",
    "ServableError",
    "ServerStopping",
    "ServerUnreachable",
    "SettingInvalid",
    "SignatureRefused",
    "StorageFailed",
    "StorageFull",
    "SurroundingsError",
    "TooManyFailures",
    "Unauthenticated",
    "UnavailableError",
    "VerdictError",
    "VersionNotFound",
    "converted",
]
