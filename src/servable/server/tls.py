"""TLS: the certificate that a server shows, read again when it is renewed.

The protocols that are offered (ALPN) are HTTP/2, which gRPC asks for, and HTTP/1.1. Which one it is the first
bytes of a connection say, as without TLS.
"""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Protocol

from servable.errors import SettingInvalid
from servable.logs import fields, logger
from servable.settings import ServerSettings

_log = logger("server")
#: Seconds between two looks whether the files of the certificate are others.
_LOOK_S = 5.0


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

    Raises:
        SettingInvalid: they cannot be read or do not belong together.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._files = (chain, key)
        self._seen = _stamps(self._files)
        self.context: ssl.SSLContext | None = _context(*self._files)

    async def follow(self) -> None:
        """Read the files again when they changed; as long as they cannot be used the old ones are shown."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look()

    def look(self) -> bool:
        """Look once; whether new connections get another certificate from now on."""
        stamps = _stamps(self._files)
        if stamps == self._seen:
            return False
        self._seen = stamps
        try:
            # First into a context of its own, so that half of a renewal changes nothing.
            _context(*self._files)
            assert self.context is not None  # noqa: S101 - by the constructor
            self.context.load_cert_chain(*self._files)
        except (SettingInvalid, ssl.SSLError, OSError) as error:
            reason = error.message if isinstance(error, SettingInvalid) else str(error)
            _log.warning("the new certificate is not used", extra=fields(reason=reason))
            return False
        _log.info("a new certificate is used", extra=fields(file=str(self._files[0])))
        return True


def certificate_of(settings: ServerSettings) -> Certificate:
    """What the settings say.

    Raises:
        SettingInvalid: one of the two files is not named, or they cannot be used.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingInvalid(
            "A certificate and its key belong together; name both, --tls-cert and --tls-key."
        )
    if not settings.tls_cert:
        return NoCertificate()
    return FileCertificate(Path(settings.tls_cert), Path(settings.tls_key))


def _context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    # Renegotiation and compression are ways to attack, and no client needs them.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    for file in (chain, key):
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            raise SettingInvalid(f"The file {file} cannot be read ({error.strerror}).") from error
    try:
        # The callback keeps OpenSSL from asking a person at the terminal.
        context.load_cert_chain(chain, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise SettingInvalid(
            f"{chain} and {key} are no certificate with its key in PEM, without a password ({reason})."
        ) from error
    return context


def _stamps(files: tuple[Path, ...]) -> list[tuple[int, int, int]]:
    """What changes when a file is written or replaced; nothing for one that is not there."""
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            status = file.stat()
            found.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return found
