"""Who asks: the one place where a caller is told, by a request's headers or its connection's certificate.

A home without any key is one for development: everybody may do everything, and only on an address that
nobody else reaches (``settings.check_exposure``). From its first key on every request needs one that is
valid, whatever becomes of the keys later. What a caller may then do with which model is decided in
``security.callers`` and asked for where models are found, in ``desk``.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from servable.errors import ServableError, Unauthenticated
from servable.logs import fields, logger
from servable.protocols.base import Head
from servable.registry.keys_reader import KeysReader, open_keys_reader
from servable.registry.pulse import pulse_of
from servable.security.callers import EVERYBODY, Caller
from servable.security.certificates import NO_PEER, Peer
from servable.security.keys import KeyRecord, matches, shown
from servable.server.certificates import Certificates, NoCertificates, certificates_of
from servable.server.tokens import NoTokens, Tokens, tokens_of
from servable.settings import ServerSettings

_log = logger("server")
#: Seconds between two looks at the keys: one that is revoked is refused everywhere within a second.
_LOOK_S = 0.25
#: Headers of valid keys and tokens of which is remembered whose they are.
_KNOWN = 10_000
_wall = time.time
_SAME_SITE = frozenset({b"same-origin", b"none"})


class Authenticator(Protocol):
    """Tells callers by their requests. Belongs to one event loop."""

    #: Whether keys are needed at all.
    keyed: bool

    def caller(self, head: Head, peer: Peer = NO_PEER) -> Caller:
        """Who asks.

        Args:
            head: the headers of the request.
            peer: who is at the other end of its connection.

        Raises:
            Unauthenticated: nothing valid was shown.
        """
        ...


class NoAuthentication:
    """Everybody may do everything."""

    keyed = False

    def caller(self, head: Head, peer: Peer = NO_PEER) -> Caller:
        """Anybody."""
        return EVERYBODY


class KeyAuthentication:
    """Callers are told by API keys, by tokens in the place of a key, and without either by certificates.

    Args:
        records: every key.
        tokens: that count as well.
        certificates: that count as well.
        now: the wall clock, in seconds since 1970.
    """

    keyed = True

    def __init__(
        self,
        records: Sequence[KeyRecord],
        tokens: Tokens | None = None,
        certificates: Certificates | None = None,
        now: Callable[[], float] = _wall,
    ) -> None:
        self._now = now
        self._tokens = tokens or NoTokens()
        self._certificates = certificates or NoCertificates()
        self._records = {record.id: record for record in records if not record.revoked_at}
        self._callers = {
            key: Caller(record.name, record.scopes, record.limits) for key, record in self._records.items()
        }
        self._ends = {
            key: datetime.fromisoformat(record.expires_at).timestamp() if record.expires_at else float("inf")
            for key, record in self._records.items()
        }
        #: What a valid key looks like in a header, whose it is, and until when.
        self._known: dict[bytes, tuple[Caller, float]] = {}

    def caller(self, head: Head, peer: Peer = NO_PEER) -> Caller:
        """Whose key or token came with a request; the certificate counts where there is neither.

        Raises:
            Unauthenticated: none, or none that is valid.
        """
        given = head.get(b"authorization")
        if given is None:
            given = head.get(b"x-api-key")
            if given is None:
                certified = self._certificates.caller(peer)
                if certified is None:
                    raise Unauthenticated(browser=_from_browser(head))
                return certified
        known = self._known.get(given)
        if known is None:
            known = self._found(given, head)
        if known[1] <= self._now():
            key = shown(_key_in(given, head)[0])
            raise Unauthenticated(shown=True, browser=_from_browser(head), key=key.id if key else "")
        return known[0]

    def _found(self, given: bytes, head: Head) -> tuple[Caller, float]:
        text, lasting = _key_in(given, head)
        parts = shown(text)
        record = None if parts is None else self._records.get(parts.id)
        found = None
        if matches(parts, record) and record is not None:
            found = self._callers[record.id], self._ends[record.id]
        elif parts is None:
            found = self._tokens.found(text)
        if found is None:
            raise Unauthenticated(shown=True, browser=_from_browser(head), key=parts.id if parts else "")
        if lasting and found[1] > self._now():
            self._remember(given, found)
        return found

    def _remember(self, given: bytes, found: tuple[Caller, float]) -> None:
        if len(self._known) >= _KNOWN:
            # Tokens come and go: first those that are over make room.
            now = self._now()
            self._known = {text: known for text, known in self._known.items() if known[1] > now}
            if len(self._known) >= _KNOWN:
                self._known = {}
        self._known[given] = found


class Authentication:
    """What is wanted of callers now; follows the registry. Belongs to one event loop.

    Args:
        settings: which registry, which tokens and certificates, and whether anything is wanted at all.

    Attributes:
        present: asked for every request; another one when the keys have changed.

    Raises:
        StorageFailed: the registry cannot be read.
        SettingInvalid: what the settings say of tokens or certificates cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.present: Authenticator = NoAuthentication()
        self._reader: KeysReader | None = None
        self._pulse = pulse_of(Path(settings.home), settings.database_url)
        self._thread: ThreadPoolExecutor | None = None
        self._token = -1
        self._records: tuple[KeyRecord, ...] = ()
        self._failing = False
        self._tokens: Tokens = NoTokens()
        self._certificates: Certificates = NoCertificates()
        if not settings.insecure:
            self._tokens = tokens_of(settings)
            self._certificates = certificates_of(settings)
            self._renew()
            self._reader = open_keys_reader(Path(settings.home), settings.database_url)
            self._take(self._read(self._reader))

    def reason(self, key: str, at: float) -> dict[str, str]:
        """Why a key was refused, for the audit log. Safe to call from any thread.

        Args:
            key: its public id, ``?`` for what has none; empty where nothing was shown.
            at: when it was shown, in seconds since 1970.
        """
        if not key:
            return {"reason": "no key"}
        record = next((record for record in self._records if record.id == key), None)
        if record is None:
            return {"reason": "unknown key"}
        state = record.state(datetime.fromtimestamp(at, UTC))
        # Of a revoked or expired one it is not known whether the secret was right.
        return {
            "reason": "wrong secret" if state == "active" else f"{state} key",
            "key": record.name,
            "id": key,
        }

    async def follow(self) -> None:
        """Follow changes of keys, tokens and certificates until cancelled."""
        if self._reader is not None:
            await asyncio.gather(
                self._follow_keys(self._reader), self._tokens.follow(self._renew), self._certificates.follow()
            )

    async def _follow_keys(self, reader: KeysReader) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-keys")
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self._pulse.moved() and not self._failing:
                continue
            try:
                self._take(await loop.run_in_executor(self._thread, self._read, reader))
            except ServableError as error:
                # Those who were let in stay so: a database that is away must not stop every prediction.
                if not self._failing:
                    _log.error(
                        "keys cannot be read; those known so far count", extra=fields(reason=error.message)
                    )
                self._failing = True

    def _read(self, reader: KeysReader) -> tuple[KeyRecord, ...] | None:
        """Every key, when anything changed since the last time."""
        token = reader.token()
        if token == self._token:
            return None
        records = reader.keys()
        self._token = token
        return records

    def _take(self, records: tuple[KeyRecord, ...] | None) -> None:
        self._failing = False
        if not records or records == self._records:
            return
        self._records = records
        self._renew()

    def _renew(self) -> None:
        """Nothing that was remembered counts any more."""
        if self._records or self._tokens.wanted or self._certificates.wanted:
            self.present = KeyAuthentication(self._records, self._tokens, self._certificates)

    def close(self) -> None:
        """Give back the registry."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        self._pulse.close()
        if self._reader is not None:
            self._reader.close()


def _key_in(given: bytes, head: Head) -> tuple[str, bool]:
    """The key in a header, empty for none, and whether the header alone says that it is one.

    A browser asks a person for a name and a password and shows them again with every request, also those
    that a page of somebody else makes; so a password counts only where the browser says, or does not deny,
    that the request comes from the same place.
    """
    kind, _, rest = given.partition(b" ")
    scheme = kind.lower()
    if scheme == b"basic" and rest:
        if head.get(b"sec-fetch-site", b"none") not in _SAME_SITE:
            return "", False
        try:
            decoded = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return "", False
        return decoded.partition(":")[2], False
    value = rest if scheme == b"bearer" and rest else given
    return value.strip().decode("latin-1"), True


def _from_browser(head: Head) -> bool:
    return b"text/html" in head.get(b"accept", b"")
