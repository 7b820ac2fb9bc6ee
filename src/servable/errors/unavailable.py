"""Not now: try again later."""

from typing import ClassVar

from servable.errors.root import ServableError


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
