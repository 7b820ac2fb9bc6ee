"""TLS: the certificate that a server shows, read again when it is renewed.

The protocols that are offered (ALPN) are HTTP/2, which gRPC asks for, and HTTP/1.1. Which one it is the first
bytes of a connection say, as without TLS.

Clients may be asked for certificates as well. TLS 1.3 is then the least: before it such a certificate can be
read by everybody on the way, and a session that is taken up again would not be checked anew.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from servable.errors import SettingInvalid
from servable.logs import fields, logger
from servable.server.following import LOOK_S, content_of, stamps
from servable.settings import ServerSettings

_log = logger("server")


class Clients(NamedTuple):
    """Whose certificates are accepted.

    Attributes:
        authorities: file of those who sign them, in PEM; None: nobody is asked for one.
        required: whether who shows none cannot connect.
    """

    authorities: Path | None = None
    required: bool = False


ANYBODY = Clients()


class Certificate(Protocol):
    """What a server shows to those who connect. Belongs to one event loop."""

    #: Of new connections; None for connections without TLS.
    context: ssl.SSLContext | None

    async def follow(self) -> None:
        """Follow renewals until cancelled."""
        ...


class NoCertificate:
    """Connections are not encrypted."""

    context: ssl.SSLContext | None = None

    async def follow(self) -> None:
        """There is nothing to follow."""


class FileCertificate:
    """A certificate in two files.

    Args:
        chain: file of the certificate and those above it, in PEM.
        key: file of its private key, in PEM and without a password.
        clients: whose certificates are accepted.

    Raises:
        SettingInvalid: they cannot be read or do not belong together.
    """

    def __init__(self, chain: Path, key: Path, clients: Clients = ANYBODY) -> None:
        self._chain, self._key, self._clients = chain, key, clients
        self._files = (chain, key) if clients.authorities is None else (chain, key, clients.authorities)
        self._seen = stamps(self._files)
        self._present = self._made()
        self.context: ssl.SSLContext | None = self._made()
        # Sockets keep the context that they were opened with, so every handshake turns to the present one.
        self.context.sni_callback = self._turn

    def _made(self) -> ssl.SSLContext:
        return _context(self._chain, self._key, self._clients)

    def _turn(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._present

    async def follow(self) -> None:
        """Read the files again when they changed; as long as they cannot be used the old ones are shown."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> bool:
        """Look once; whether new connections get another certificate from now on."""
        seen = stamps(self._files)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._present = self._made()
        except SettingInvalid as error:
            _log.warning("the new certificate is not used", extra=fields(reason=error.message))
            return False
        _log.info("a new certificate is used", extra=fields(file=str(self._chain)))
        return True


def certificate_of(settings: ServerSettings) -> Certificate:
    """What the settings say.

    Raises:
        SettingInvalid: a file is not named that belongs to another one, or one cannot be used.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingInvalid(
            "A certificate and its key belong together; name both, --tls-cert and --tls-key."
        )
    required = settings.tls_client_auth == "require"
    if not settings.tls_client_ca and required:
        raise SettingInvalid(
            "Certificates that clients must show are checked against an authority; name its file, "
            "--tls-client-ca."
        )
    if not settings.tls_cert:
        if settings.tls_client_ca:
            raise SettingInvalid(
                "Clients show certificates over TLS alone; name the server's own, --tls-cert and --tls-key."
            )
        return NoCertificate()
    clients = Clients(Path(settings.tls_client_ca), required) if settings.tls_client_ca else ANYBODY
    return FileCertificate(Path(settings.tls_cert), Path(settings.tls_key), clients)


def _context(chain: Path, key: Path, clients: Clients) -> ssl.SSLContext:
    """What a handshake needs.

    Raises:
        SettingInvalid: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    # Renegotiation and compression are ways to attack, and no client needs them.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    for file in (chain, key, *filter(None, (clients.authorities,))):
        content_of(file, 0)
    try:
        # The callback keeps OpenSSL from asking a person at the terminal.
        context.load_cert_chain(chain, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise SettingInvalid(
            f"{chain} and {key} are no certificate with its key in PEM, without a password ({reason})."
        ) from error
    if clients.authorities is not None:
        _ask_clients(context, clients.authorities, clients.required)
    return context


def _ask_clients(context: ssl.SSLContext, authorities: Path, required: bool) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Every connection is checked by itself, by the authorities of today.
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(authorities)
    except (ssl.SSLError, ValueError) as error:
        raise SettingInvalid(f"{authorities} holds no certificates of authorities in PEM.") from error
    if context.cert_store_stats()["crl"]:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
