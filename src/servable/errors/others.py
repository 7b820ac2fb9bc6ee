"""The errors that have no branch below them."""

from collections.abc import Sequence

from servable.errors.root import FieldProblem, ServableError


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
