"""What a request must pass before anything else looks at it, and what its headers say about how to answer it.

A check takes the request and raises what is wrong. Checks run on every request, so each costs a
lookup or two in the good case. Limits on sizes and speeds are kept where the bytes arrive, in
``connection``.
"""

import re
from collections.abc import Callable, Collection, Mapping

from servable.errors import HostRefused, OriginRefused, RequestMalformed, RequestTooLarge
from servable.server.http import HttpRequest
from servable.settings import ServerSettings, is_loopback

Head = Mapping[bytes, bytes]
Check = Callable[[HttpRequest], None]

#: A request id that a caller may choose: it appears in logs and headers, so it holds nothing special.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
#: How long the caller is willing to wait: milliseconds, or gRPC's form such as ``100m``.
TIMEOUT = b"x-request-timeout-ms"
GRPC_TIMEOUT = b"grpc-timeout"
#: How much the request weighs against others when there is a queue.
PRIORITY = b"x-request-priority"
_GRPC_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_WEIGHTS = {b"high": 4.0, b"normal": 1.0, b"low": 0.25}
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: These change nothing, whoever asks.
_READING = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_USUAL_PORT = {b"http": b":80", b"https": b":443"}


def checks(settings: ServerSettings) -> tuple[Check, ...]:
    """The checks of a server, outermost first."""
    own: list[Check] = [_known_host(_accepted_hosts(settings))]
    if "*" not in settings.allowed_origins:
        own.append(_own_page({origin.lower().encode("ascii") for origin in settings.allowed_origins}))
    return tuple(own)


def limit_of(head: Head, most_s: float) -> float:
    """Seconds within which the caller wants the answer, at most ``most_s``.

    Raises:
        RequestMalformed: a timeout header that holds none.
    """
    given = head.get(TIMEOUT)
    if given is not None:
        if not given.isdigit() or len(given) > 12 or not int(given):
            raise RequestMalformed(
                "The header X-Request-Timeout-Ms must be a whole number of milliseconds above 0, such as 250."
            )
        return min(int(given) * 1e-3, most_s)
    given = head.get(GRPC_TIMEOUT)
    if given is not None:
        digits, unit = given[:-1], given[-1:]
        if not 1 <= len(digits) <= 8 or not digits.isdigit() or unit not in _GRPC_UNITS or not int(digits):
            raise RequestMalformed(
                "The header grpc-timeout must be up to 8 digits, not 0, and one of H M S m u n, such as 250m."
            )
        return min(int(digits) * _GRPC_UNITS[unit], most_s)
    return most_s


def weight_of(head: Head) -> float:
    """The weight of a request in a queue; 1 when its headers say nothing.

    Raises:
        RequestMalformed: a priority that does not exist.
    """
    given = head.get(PRIORITY)
    if given is None:
        return 1.0
    weight = _WEIGHTS.get(given.strip().lower())
    if weight is None:
        raise RequestMalformed("The header X-Request-Priority must be high, normal or low.")
    return weight


def _accepted_hosts(settings: ServerSettings) -> Collection[str] | None:
    """Host names that are answered to; None for all."""
    if "*" in settings.allowed_hosts or (not settings.allowed_hosts and not is_loopback(settings.host)):
        return None
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    return _LOCAL_NAMES | {own.lower()} | {name.lower() for name in settings.allowed_hosts}


def _known_host(accepted: Collection[str] | None) -> Check:
    passed: set[bytes] = set()

    def check(request: HttpRequest) -> None:
        host = request.headers.get(b"host")
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


def _own_page(accepted: Collection[bytes]) -> Check:
    """Refuses what a page of somebody else makes a browser send.

    A browser names the page's origin with everything but plain reading. It sends no key in a header for a
    foreign page, because it would ask this server first, which does not allow it; so whoever sends one is
    either no browser or allowed by something in between that answered in this server's place.
    """

    def check(request: HttpRequest) -> None:
        headers = request.headers
        origin = headers.get(b"origin")
        if origin is None or request.method in _READING or _shows_key(headers):
            return
        origin = origin.lower()
        if origin in accepted:
            return
        scheme, _, place = origin.partition(b"://")
        usual = _USUAL_PORT.get(scheme, b"")
        host = headers.get(b"host", b"").lower()
        if not place or place.removesuffix(usual) != host.removesuffix(usual):
            raise OriginRefused(
                "A page of another origin may not send this; add its origin to the setting allowed_origins."
            )

    return check


def _shows_key(head: Head) -> bool:
    """Whether a key is in a header that only a program puts there, and not a browser that remembers it."""
    given = head.get(b"authorization")
    if given is None:
        return b"x-api-key" in head
    return not given[:6].lower().startswith(b"basic ")


def too_large(most: int) -> RequestTooLarge:
    """The error for a body beyond the limit."""
    return RequestTooLarge(
        f"The body is larger than the {most} bytes that are allowed; send fewer rows at once."
    )
