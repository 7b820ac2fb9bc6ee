"""Callers that are told by the certificate of their connection."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from servable.errors import SettingInvalid
from servable.protocols.openapi_security import CertificateUse
from servable.security.callers import Caller
from servable.security.certificates import NO_PEER, Peer, peer_of
from servable.security.grants import granted
from servable.security.limits import NO_LIMITS, Limits, completed
from servable.server.following import LOOK_S, GrantsFile
from servable.server.identities import subject_limits
from servable.settings import ServerSettings

#: Certificates of which is remembered what they allow.
_KNOWN = 10_000
_wall = time.time


class Certificates(Protocol):
    """Tells callers by their certificates. Belongs to one event loop."""

    #: Whether a certificate can be enough.
    wanted: bool

    def caller(self, peer: Peer) -> Caller | None:
        """Who is at the other end of a connection; None when no certificate allows anything."""
        ...

    async def follow(self) -> None:
        """Follow changes until cancelled."""
        ...


class NoCertificates:
    """Certificates of clients, if there are any, say nothing about callers."""

    wanted = False

    def caller(self, peer: Peer) -> Caller | None:
        """Nobody."""
        return None

    async def follow(self) -> None:
        """There is nothing to follow."""


class MappedCertificates:
    """A file says what the names in certificates allow.

    Args:
        file: as ``security.grants`` describes it.
        now: the wall clock, in seconds since 1970.
        limits: of each holder of whom the file does not say others.

    Raises:
        SettingInvalid: the file cannot be used.
    """

    wanted = True

    def __init__(self, file: Path, now: Callable[[], float] = _wall, limits: Limits = NO_LIMITS) -> None:
        self._file = GrantsFile(file)
        self._limits = limits
        self._now = now
        self._known: dict[tuple[str, ...], Caller | None] = {}

    def caller(self, peer: Peer) -> Caller | None:
        """Who it is, while the certificate is valid; a connection may outlive it."""
        if peer is NO_PEER or peer.until <= self._now():
            return None
        known = self._known
        if peer.names not in known:
            if len(known) >= _KNOWN:
                known.clear()
            known[peer.names] = self._found(peer.names)
        return known[peer.names]

    def _found(self, names: tuple[str, ...]) -> Caller | None:
        grant = granted(self._file.grants, names)
        if not grant.scopes:
            return None
        limits = completed(grant.limits, self._limits)
        return Caller(names[0][:128], grant.scopes, limits, "certificate")

    def look(self) -> bool:
        """Look once whether the file is another."""
        changed = self._file.look()
        if changed:
            self._known = {}
        return changed

    async def follow(self) -> None:
        """Read the file again when it changed."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()


def certificates_of(settings: ServerSettings) -> Certificates:
    """What the settings say.

    Raises:
        SettingInvalid: no authority is named that could have signed certificates, or the file cannot be used.
    """
    if not settings.tls_client_map:
        return NoCertificates()
    if not settings.tls_client_ca:
        raise SettingInvalid(
            "tls_client_map says what certificates of clients allow; name the authority that signs them as "
            "well, with --tls-client-ca."
        )
    return MappedCertificates(Path(settings.tls_client_map), limits=subject_limits(settings))


def certificate_use(settings: ServerSettings) -> CertificateUse:
    """What certificates of clients are to a server that wants keys, as its document says it."""
    if settings.tls_client_map:
        # Also where nobody connects without one: who has one that is known needs no key.
        return "enough"
    return "beside" if settings.tls_client_ca and settings.tls_client_auth == "require" else "none"


def peer_at(transport: Any) -> Peer:
    """Who is at the other end of a transport, when TLS has verified it."""
    return peer_of(transport.get_extra_info("peercert"))
