"""Headers by which a browser does nothing with an answer but what it is for."""

from servable.security.content_policy import DATA_POLICY
from servable.server.http import NOSNIFF, Headers
from servable.settings import ServerSettings, is_loopback

#: Seconds for which a browser asks a server again over TLS only: a year.
_TLS_ONLY_S = 31_536_000
#: What pages are denied that nothing here asks for.
_FEATURES = ("camera", "geolocation", "microphone", "payment", "usb")


def safe_headers(settings: ServerSettings) -> Headers:
    """What every answer says, unless its address says something else under the same name.

    Args:
        settings: that say whether the server speaks TLS, and where.
    """
    headers = [
        NOSNIFF,
        (b"cache-control", b"no-store"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", DATA_POLICY.encode("ascii")),
    ]
    # A browser would remember it for every other server on this machine as well.
    if settings.tls_cert and not is_loopback(settings.host):
        headers.append((b"strict-transport-security", b"max-age=%d" % _TLS_ONLY_S))
    return tuple(headers)


def page_headers(policy: str) -> dict[str, str]:
    """What a page says besides.

    Args:
        policy: its Content-Security-Policy.
    """
    return {
        "content-security-policy": policy,
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
    }
