"""Who is at the other end of a connection, by the certificate that was shown and checked. Pure."""

import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Kinds of alternative names that count, as the standard library names them, and as files of grants do.
_KINDS = {"URI": "uri", "DNS": "dns", "email": "email"}


class Peer(NamedTuple):
    """The holder of a client certificate whose chain was verified.

    Attributes:
        names: such as ``cn:mobile``, ``uri:spiffe://prod/mobile`` or ``dns:mobile.prod``; none without one.
        until: from when the certificate is not valid any more, in seconds since 1970.
    """

    names: tuple[str, ...]
    until: float


#: The other end of a connection without a client certificate.
NO_PEER = Peer((), 0.0)


def peer_of(certificate: Mapping[str, Any] | None) -> Peer:
    """The holder of a certificate.

    Args:
        certificate: as ``ssl.SSLObject.getpeercert`` describes a verified one; empty or None for none.
    """
    if not certificate:
        return NO_PEER
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    # Of several common names it is unclear which one an authority has checked.
    names = [f"cn:{common[0]}"] if len(common) == 1 else []
    names += [
        f"{_KINDS[kind]}:{value}" for kind, value in certificate.get("subjectAltName", ()) if kind in _KINDS
    ]
    return Peer(tuple(dict.fromkeys(names)), float(ssl.cert_time_to_seconds(certificate["notAfter"])))
