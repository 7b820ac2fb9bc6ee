"""Answers that came whole, and what is said where there is none: pure functions from replies to errors."""

from typing import NamedTuple

import httpx
import msgspec

from servable.errors import FieldProblem, RemoteError, ServableError, ServerUnreachable, SettingInvalid


class Reply(NamedTuple):
    """An answer that came whole.

    Attributes:
        status: of HTTP.
        headers: by name in any case.
        content: the body, unpacked.
    """

    status: int
    headers: httpx.Headers
    content: bytes

    @property
    def good(self) -> bool:
        """Whether it is an answer and no error."""
        return 200 <= self.status < 300


class _ErrorDetail(msgspec.Struct):
    path: str = ""
    expected: str = ""
    got: str = ""


class _ErrorRecord(msgspec.Struct):
    code: str = ""
    message: str = ""
    request_id: str = ""
    details: list[_ErrorDetail] = []


class _ErrorBody(msgspec.Struct):
    error: _ErrorRecord


def not_ready(url: str, timeout_s: float) -> ServerUnreachable:
    """The error for a server that did not become ready."""
    return ServerUnreachable(f"{url} was not ready within {timeout_s:g} s; look at the server's log.")


def not_ours(status: int, headers: httpx.Headers, address: str) -> RemoteError:
    """The error for a good status with something else in it."""
    kind = headers.get("content-type", "no content type")
    return RemoteError(
        f"{address} answered with something that is not an answer of Servable ({kind}); "
        "check that the address is a Servable server's.",
        status,
    )


def remote_error(reply: Reply, url: str) -> RemoteError:
    """The error that a server's answer stands for, as one sentence, with its code, fields and request id."""
    request_id = reply.headers.get("x-request-id", "")
    try:
        record = msgspec.json.decode(reply.content, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        reason = httpx.codes.get_reason_phrase(reply.status)
        message = f"{url} answered {reply.status} {reason}.".replace(" .", ".")
        return RemoteError(message, reply.status, request_id=request_id)
    return _error(record, reply.status, f"{url} answered {reply.status}", request_id)


def _error(record: _ErrorRecord, status: int, otherwise: str, request_id: str) -> RemoteError:
    problems = [FieldProblem(one.path, one.expected, one.got) for one in record.details]
    return RemoteError(
        record.message or otherwise, status, record.code, record.request_id or request_id, problems=problems
    )


def error_within(text: bytes, request_id: str) -> RemoteError:
    """The error that stands in the middle of an answer, in the place of a part.

    Args:
        text: JSON with an error.
        request_id: of the whole answer, where the error names none.

    Raises:
        msgspec.MsgspecError: it is something else.
    """
    record = msgspec.json.decode(text, type=_ErrorBody).error
    return _error(record, 200, "The server failed in the middle of its answer.", request_id)


def broken_off(failure: httpx.HTTPError, url: str, timeout_s: float) -> ServerUnreachable:
    """The error for an answer that ended before its end, parts of which were handed on perhaps."""
    if isinstance(failure, httpx.TimeoutException):
        return ServerUnreachable(
            f"The rest of an answer of {url} did not come within {timeout_s:g} s; allow more time."
        )
    what = str(failure).strip().rstrip(".") or type(failure).__name__
    return ServerUnreachable(f"The answer of {url} broke off in the middle ({what}); ask again.")


def unreachable(failure: httpx.HTTPError | httpx.InvalidURL, url: str, timeout_s: float) -> ServableError:
    """The error for a call that got no answer at all."""
    if isinstance(failure, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return SettingInvalid(f"{url!r} is no address of a server; give one such as http://127.0.0.1:8000.")
    # The library tells what went wrong with the encryption in words alone.
    if "CERTIFICATE_VERIFY_FAILED" in str(failure):
        return ServerUnreachable(
            f"The certificate of {url} is not one that is trusted here; name its authority's file as ca= "
            "or in the variable SSL_CERT_FILE."
        )
    if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout):
        return ServerUnreachable(
            f"No server answers at {url}; start one with `servable serve`, or check the address."
        )
    if isinstance(failure, httpx.TimeoutException):
        return ServerUnreachable(
            f"{url} did not answer within {timeout_s:g} s; try again or allow more time."
        )
    what = str(failure).strip().rstrip(".") or type(failure).__name__
    return ServerUnreachable(f"The connection to {url} broke before an answer came ({what}); try again.")
