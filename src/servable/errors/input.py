"""The caller sent something wrong: change it and send it again."""

from collections.abc import Sequence

from servable.errors.root import FieldProblem, ServableError


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
