"""The one table from an error's code word to an HTTP status."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from servable.errors import LimitReached, MethodNotAllowed, Overloaded, ServableError, Unauthenticated
from servable.protocols.base import VERSION_HEADER
from servable.protocols.native import error_body

#: Every code that can reach a caller; what is not here is 500.
STATUS: dict[str, int] = {
    "invalid_input": 400,
    "invalid_data": 400,
    "malformed_request": 400,
    "invalid_request": 422,
    "request_too_large": 413,
    "headers_too_large": 431,
    "request_timeout": 408,
    "poison_request": 422,
    "unsupported_media_type": 415,
    "not_acceptable": 406,
    "host_refused": 421,
    "not_found": 404,
    "model_not_found": 404,
    "version_not_found": 404,
    "file_not_found": 404,
    "route_not_found": 404,
    "unauthenticated": 401,
    "forbidden": 403,
    "origin_refused": 403,
    "method_not_allowed": 405,
    "not_offered": 501,
    "conflict": 409,
    "unavailable": 503,
    "model_not_ready": 503,
    "overloaded": 503,
    "limit_reached": 429,
    "rate_limited": 429,
    "concurrency_limited": 429,
    "quota_exhausted": 429,
    "too_many_failures": 429,
    "deadline_exceeded": 504,
    "model_died": 503,
    "server_stopping": 503,
    "audit_failed": 503,
    "model_failed": 500,
    "internal_error": 500,
}
#: Seconds after which an error that may pass is worth another try.
RETRY_AFTER_S = 1
_CHALLENGE = b'Bearer realm="servable"'
#: What makes a browser ask for a name and a password, of which the password is the key.
_ASK = b', Basic realm="servable", charset="UTF-8"'
_INTERNAL = "The server failed to answer; its log knows more under this request id."


class Style(NamedTuple):
    """How a wire format words its errors.

    Attributes:
        body: an error and the request id to bytes; pure.
        media_type: of these bytes.
        statuses: the status that the clients of the format expect in place of ours.
    """

    body: Callable[[ServableError, str], bytes]
    media_type: bytes = b"application/json"
    statuses: Mapping[int, int] = MappingProxyType({})


#: The native wording.
NATIVE = Style(error_body)


class Problem(NamedTuple):
    """An error ready to be sent."""

    status: int
    code: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def known_error(error: BaseException) -> ServableError:
    """The error as a caller may see it; what is not in the table becomes one fixed sentence."""
    if isinstance(error, ServableError) and error.code in STATUS:
        return error
    return ServableError(_INTERNAL)


def problem(error: BaseException, request_id: str, style: Style = NATIVE) -> Problem:
    """How an error looks to a caller.

    Errors that are no fault of the caller say nothing about the inside: what is not in the table, and
    what is not ours at all, becomes one fixed sentence.
    """
    known = known_error(error)
    headers: list[tuple[bytes, bytes]] = [(b"content-type", style.media_type)]
    if isinstance(error, ServableError) and error.version:
        headers.append((VERSION_HEADER, b"%d" % error.version))
    if known is not error:
        body = style.body(known, request_id)
        return Problem(500, "internal_error", body, tuple(headers))
    error = known
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode("ascii")))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", _CHALLENGE + (_ASK if error.browser else b"")))
    if error.retryable:
        seconds = RETRY_AFTER_S
        if isinstance(error, Overloaded | LimitReached):
            seconds = max(1, math.ceil(error.retry_after_s))
        headers.append((b"retry-after", b"%d" % seconds))
        if isinstance(error, LimitReached) and error.amount:
            headers.extend(_limit_headers(error, seconds))
    status = STATUS[error.code]
    status = style.statuses.get(status, status)
    return Problem(status, error.code, style.body(error, request_id), tuple(headers))


def _limit_headers(error: LimitReached, seconds: int) -> tuple[tuple[bytes, bytes], ...]:
    """The limit that was reached, as the draft "RateLimit header fields for HTTP" writes it.

    Source: draft-ietf-httpapi-ratelimit-headers-11; both fields are lists of strings with parameters.
    """
    window = f";w={error.window_s}" if error.window_s else ';qu="concurrent-requests"'
    policy = f'"{error.policy}";q={error.amount}{window}'
    state = f'"{error.policy}";r=0;t={seconds}'
    return (b"ratelimit-policy", policy.encode("ascii")), (b"ratelimit", state.encode("ascii"))
