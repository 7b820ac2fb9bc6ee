"""Where the keys come from that sign tokens: a file, or an address of the issuer."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from servable.errors import ServerUnreachable, SettingInvalid
from servable.security.tokens import KeySet, parse_keys
from servable.server.following import LOOK_S, content_of, stamps
from servable.settings import is_loopback

#: Most bytes of a set of keys and of a document about an issuer.
_MOST_BYTES = 1 << 18
#: Seconds for one answer as a whole, and for each wait within it.
_WITHIN_S, _WAIT_S = 5.0, 3.0
#: Seconds after which keys are fetched again, and the least between two attempts.
_AGAIN_S, _LEAST_S = 300.0, 60.0
_DISCOVERY = "/.well-known/openid-configuration"


class KeySource(Protocol):
    """Gives a set of keys again and again. Not for several threads at once."""

    def due(self, wanted: bool) -> bool:
        """Whether it is time to load again.

        Args:
            wanted: whether a token named a key that is not known.
        """
        ...

    def load(self) -> KeySet:
        """The keys. Blocks for some seconds at most.

        Raises:
            SettingInvalid: a file that cannot be used.
            ServerUnreachable: an address that does not give keys now.
        """
        ...


class FileKeys:
    """Keys in a file, which may be replaced."""

    def __init__(self, file: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._now = now
        self._looked = -LOOK_S
        self._seen: list[tuple[int, int, int]] = []

    def due(self, wanted: bool) -> bool:
        """Whether the file is another than at the last load."""
        if self._now() - self._looked < LOOK_S:
            return False
        self._looked = self._now()
        return stamps([self._file]) != self._seen

    def load(self) -> KeySet:
        """Read the file."""
        self._seen = stamps([self._file])
        content = content_of(self._file, _MOST_BYTES)
        try:
            if len(content) > _MOST_BYTES:
                raise SettingInvalid(f"The set of keys is larger than {_MOST_BYTES} bytes.")
            return parse_keys(content)
        except SettingInvalid as error:
            raise SettingInvalid(f"{self._file}: {error.message}") from error


class AddressKeys:
    """Keys at an address, or where the issuer says that they are.

    Args:
        issuer: whose description is read when there is no address.
        address: of the keys; empty to ask the issuer.
        now: a clock in seconds.

    Raises:
        SettingInvalid: an address that is not to be trusted.
    """

    def __init__(self, issuer: str, address: str, now: Callable[[], float] = time.monotonic) -> None:
        check_address(address or issuer)
        self._issuer = issuer
        self._address = address
        self._now = now
        self._tried = float("-inf")
        self._failed = False

    def due(self, wanted: bool) -> bool:
        """Every five minutes, and at most once a minute when a key is missing or the last attempt failed."""
        return self._now() - self._tried >= (_LEAST_S if wanted or self._failed else _AGAIN_S)

    def load(self) -> KeySet:
        """Ask for them."""
        self._tried = self._now()
        self._failed = True
        try:
            keys = parse_keys(_fetch(self._address or self._discovered()))
        except SettingInvalid as error:
            # It may be another thing at the next attempt.
            raise ServerUnreachable(error.message) from error
        self._failed = False
        return keys

    def _discovered(self) -> str:
        """Where the issuer says that its keys are."""
        try:
            told: Any = msgspec.json.decode(_fetch(self._issuer.rstrip("/") + _DISCOVERY))
        except (msgspec.DecodeError, RecursionError) as error:
            raise SettingInvalid(f"{self._issuer} does not describe itself in JSON.") from error
        found = told if isinstance(told, dict) else {}
        address = found.get("jwks_uri")
        if found.get("issuer") != self._issuer or not isinstance(address, str):
            raise SettingInvalid(
                f"What is found at {self._issuer} describes another issuer, or does not say where keys are."
            )
        check_address(address)
        return address


def check_address(address: str) -> None:
    """Whether keys may come from an address: by https, so that nobody on the way exchanges them.

    Raises:
        SettingInvalid: by http from another machine, or no such address.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not host or not safe or parts.username is not None or parts.fragment:
        raise SettingInvalid(
            f"Keys of tokens are fetched by https alone; {address[:120]!r} is no such address, such as "
            "https://login.example.com/realms/main."
        )


def _fetch(address: str) -> bytes:
    """The body at an address: no redirects, and within limits of size and time.

    Raises:
        ServerUnreachable: there is none.
    """
    import httpx  # Lazily: it is slow to import, and few servers ask anybody.

    ends = time.monotonic() + _WITHIN_S
    body = bytearray()
    try:
        with (
            httpx.Client(follow_redirects=False, timeout=_WAIT_S) as client,
            client.stream("GET", address, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != 200:
                raise ServerUnreachable(f"{address} answered {answer.status_code} instead of keys.")
            for piece in answer.iter_bytes(8192):
                body += piece
                if len(body) > _MOST_BYTES or time.monotonic() > ends:
                    raise ServerUnreachable(f"{address} answers with too much, or too slowly.")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ServerUnreachable(f"{address} cannot be reached ({type(error).__name__}).") from error
    return bytes(body)
