"""What every request must pass before anything else looks at it: one visible list.

A check takes the request's scope and its headers and raises what is wrong. They run in order on every
request, so each costs a dictionary lookup in the good case.
"""

import re
from collections.abc import Callable, Collection
from typing import Any

from servable.errors import HostRefused, MediaTypeUnsupported, RequestMalformed, RequestTooLarge
from servable.settings import ServerSettings, is_loopback

Scope = Any
Head = dict[bytes, bytes]
Check = Callable[[Scope, Head], None]

#: A request id that a caller may choose: it appears in logs and headers, so it holds nothing special.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
#: Body types that are read as JSON without a further look.
_JSON = frozenset(
    {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
)
_JSON_LIKE = re.compile(r"(application|text)/([a-z0-9.+-]+\+)?json")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def checks(settings: ServerSettings) -> tuple[Check, ...]:
    """The checks of a server, outermost first."""
    return (
        _header_limits(settings.max_headers, settings.max_header_bytes),
        _known_host(_accepted_hosts(settings)),
        _body_limit(settings.max_body_bytes),
    )


def require_json(head: Head) -> None:
    """A body that is read must be JSON; a caller who does not say is believed.

    Raises:
        MediaTypeUnsupported: another content type, or a compressed body.
    """
    media_type = head.get(b"content-type")
    if media_type is not None and media_type not in _JSON:
        plain = media_type.decode("latin-1").partition(";")[0].strip().lower()
        if plain and not _JSON_LIKE.fullmatch(plain):
            raise MediaTypeUnsupported(
                "The content type is not JSON; send the header Content-Type: application/json."
            )
    if head.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
        raise MediaTypeUnsupported(
            "The body is compressed, which is not read; send it without Content-Encoding."
        )


def _header_limits(most: int, most_bytes: int) -> Check:
    def check(scope: Scope, head: Head) -> None:
        headers = scope["headers"]
        if len(headers) > most:
            raise RequestTooLarge(f"The request has {len(headers)} headers and {most} are allowed.")
        # A lower bound first: it is one join, and names and repeats matter only when there is much.
        size = len(b"".join(head.values()))
        if len(headers) > 16 or len(headers) != len(head) or size > most_bytes // 4:
            size = sum(len(name) + len(value) for name, value in headers)
            if size > most_bytes:
                raise RequestTooLarge(f"The headers hold {size} bytes and {most_bytes} are allowed.")

    return check


def _accepted_hosts(settings: ServerSettings) -> Collection[str] | None:
    """Host names that are answered to; None for all."""
    if "*" in settings.allowed_hosts or (not settings.allowed_hosts and not is_loopback(settings.host)):
        return None
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    return _LOCAL_NAMES | {own.lower()} | {name.lower() for name in settings.allowed_hosts}


def _known_host(accepted: Collection[str] | None) -> Check:
    passed: set[bytes] = set()

    def check(_scope: Scope, head: Head) -> None:
        host = head.get(b"host")
        # Without the header it is no browser, and only a browser can be led here by a foreign name.
        if accepted is None or host is None or host in passed:
            return
        name = re.sub(r":\d*$", "", host.decode("latin-1")).lower()
        if name not in accepted:
            raise HostRefused(
                "This server does not answer to that host name; add it to the setting allowed_hosts."
            )
        if len(passed) < 256:
            passed.add(host)

    return check


def _body_limit(most: int) -> Check:
    def check(_scope: Scope, head: Head) -> None:
        length = head.get(b"content-length")
        if length is not None and len(length) > 3:
            if not length.isdigit():
                raise RequestMalformed("The header Content-Length is no number.")
            if int(length[:20]) > most:
                raise too_large(most)

    return check


def too_large(most: int) -> RequestTooLarge:
    """The error for a body beyond the limit."""
    return RequestTooLarge(
        f"The body is larger than the {most} bytes that are allowed; send fewer rows at once."
    )
