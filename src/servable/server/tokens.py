"""Callers that are told by tokens of OpenID Connect."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from servable.errors import ServableError, ServerUnreachable, SettingInvalid, Unauthenticated
from servable.logs import fields, logger
from servable.security.callers import Caller
from servable.security.tokens import NO_KEYS, KeySet, Rules, head_of, verify
from servable.server.following import LOOK_S, GrantsFile
from servable.server.identities import subject_limits
from servable.server.jwks import AddressKeys, FileKeys, KeySource, check_address
from servable.settings import ServerSettings

_log = logger("server")
#: Seconds between two looks whether keys should be loaded.
_TURN_S = 0.25


class Tokens(Protocol):
    """Tells callers by their tokens. Belongs to one event loop."""

    #: Whether a token can be enough.
    wanted: bool

    def found(self, text: str) -> tuple[Caller, float] | None:
        """Whose token a text is, and until when in seconds since 1970; None when it is no valid one."""
        ...

    async def follow(self, changed: Callable[[], None]) -> None:
        """Follow changes until cancelled.

        Args:
            changed: is called when a token that was valid may not be so any more.
        """
        ...


class NoTokens:
    """There are no tokens."""

    wanted = False

    def found(self, text: str) -> tuple[Caller, float] | None:
        """Nobody's."""
        return None

    async def follow(self, changed: Callable[[], None]) -> None:
        """There is nothing to follow."""


class _NoGrants:
    """The values of the claim are scopes themselves."""

    grants = None

    def look(self) -> bool:
        """Nothing changes."""
        return False


class SignedTokens:
    """Tokens of one issuer.

    Keys that cannot be loaded leave the last ones in force; an issuer that is away from the beginning leaves
    none, so that no token is valid until it is there.

    Args:
        rules: what a token must say; without grants.
        source: of keys.
        grants: file that says what the values of the claim allow; None where they are scopes.

    Raises:
        SettingInvalid: keys or grants are there and cannot be used.
    """

    wanted = True

    def __init__(self, rules: Rules, source: KeySource, grants: Path | None = None) -> None:
        self._source = source
        self._grants: _NoGrants | GrantsFile = _NoGrants() if grants is None else GrantsFile(grants)
        self._rules = rules._replace(grants=self._grants.grants)
        self._keys: KeySet = NO_KEYS
        #: Whether a token named a key that is not there.
        self._missed = False
        try:
            self._keys = source.load()
        except ServerUnreachable as error:
            self._complain(error)

    def found(self, text: str) -> tuple[Caller, float] | None:
        """Whose token it is."""
        head = head_of(text)
        if head is None:
            return None
        if head not in self._keys.keys:
            self._missed = True
            return None
        try:
            verified = verify(text, head, self._keys, self._rules)
        except Unauthenticated:
            return None
        return Caller(verified.name, verified.scopes, verified.limits, "token"), verified.until

    async def follow(self, changed: Callable[[], None]) -> None:
        """Load keys in a thread of their own when it is time."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        thread = ThreadPoolExecutor(1, thread_name_prefix="servable-jwks")
        try:
            while True:
                await asyncio.sleep(_TURN_S)
                if loop.time() - looked >= LOOK_S:
                    looked = loop.time()
                    if self._grants.look():
                        self._rules = self._rules._replace(grants=self._grants.grants)
                        changed()
                if self._source.due(self._missed):
                    self._missed = False
                    await self._load(loop, thread, changed)
        finally:
            # An issuer that is slow to answer must not hold up the end.
            thread.shutdown(wait=False, cancel_futures=True)

    async def _load(
        self, loop: asyncio.AbstractEventLoop, thread: ThreadPoolExecutor, changed: Callable[[], None]
    ) -> None:
        try:
            keys = await loop.run_in_executor(thread, self._source.load)
        except Exception as error:  # noqa: BLE001 - what an issuer answers must not end the following of its keys
            self._complain(error)
            return
        if keys.public != self._keys.public:
            self._keys = keys
            _log.info("other keys of tokens are used", extra=fields(keys=len(keys.keys)))
            changed()

    def _complain(self, error: Exception) -> None:
        reason = error.message if isinstance(error, ServableError) else type(error).__name__
        _log.error("the keys of tokens cannot be loaded; the last ones count", extra=fields(reason=reason))


def check_tokens(settings: ServerSettings) -> None:
    """Whether the settings of tokens belong together, without asking anybody.

    Raises:
        SettingInvalid: they do not.
    """
    if not settings.oidc_issuer:
        named = (
            settings.oidc_audience,
            settings.oidc_jwks,
            settings.oidc_scope_map,
            settings.oidc_limits_claim,
        )
        if any(named):
            raise SettingInvalid("Tokens need an issuer; name it as oidc_issuer, exactly as tokens do.")
        return
    if not settings.oidc_audience:
        raise SettingInvalid(
            "oidc_audience must name this server as tokens do: else every token of the issuer would be "
            "valid, also those for other services."
        )
    address = settings.oidc_jwks or settings.oidc_issuer
    if "://" in address or not settings.oidc_jwks:
        check_address(address)


def tokens_of(settings: ServerSettings) -> Tokens:
    """What the settings say. Asks the issuer, for some seconds at most.

    Raises:
        SettingInvalid: they do not belong together, or a file cannot be used.
    """
    check_tokens(settings)
    if not settings.oidc_issuer:
        return NoTokens()
    rules = Rules(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_scope_claim,
        limits=subject_limits(settings),
        limits_claim=settings.oidc_limits_claim,
    )
    jwks = settings.oidc_jwks
    source: KeySource = (
        FileKeys(Path(jwks)) if jwks and "://" not in jwks else AddressKeys(settings.oidc_issuer, jwks)
    )
    return SignedTokens(rules, source, Path(settings.oidc_scope_map) if settings.oidc_scope_map else None)
