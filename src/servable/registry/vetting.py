"""Whether a version may be served, by its signature: the policy ``off``, ``warn`` or ``require``.

A signature says that a package is one version of one model. It does not say that this version is to be served
today: somebody who can write deployments, and cannot sign, could let an old version answer again whose faults
are known. So a home remembers the newest signed version that it served, and an older one is served only where
somebody who can sign allowed exactly that, after the newest one was last taken up.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from servable.artifact.bundles import TrustedKey, read_trusted_keys
from servable.artifact.manifest import Manifest
from servable.artifact.releases import Release, Return, check_release, read_return
from servable.clock import Clock, SystemClock
from servable.errors import SettingInvalid, SignatureRefused
from servable.logs import fields, logger
from servable.registry.signatures import Served, SignatureStore
from servable.settings import ServerSettings

_log = logger("signatures")
#: More refusals are in the log alone.
_MOST_REFUSALS = 10_000


class Vetting(Protocol):
    """Says no to what may not be served. Safe to share between threads."""

    def admit(self, release: Release, digest: str, *, own: bool) -> None:
        """Whether a version is not older than what was served, or may be served again all the same.

        Args:
            release: the version.
            digest: of its package.
            own: whether it is the deployment's own version; only this one changes what is remembered.

        Raises:
            SignatureRefused: it may not be served.
        """
        ...

    def check(self, release: Release, manifest: Manifest, digest: str, *, own: bool) -> None:
        """Whether a package is signed as this version, and is admitted; it is then noted as served.

        Args:
            release: the version.
            manifest: of its package.
            digest: of its package.
            own: as in ``admit``.

        Raises:
            SignatureRefused: it may not be served.
        """
        ...


class NoVetting:
    """The policy ``off``: everything may be served."""

    def admit(self, release: Release, digest: str, *, own: bool) -> None:
        """Nothing is asked."""

    def check(self, release: Release, manifest: Manifest, digest: str, *, own: bool) -> None:
        """Nothing is asked."""


class SignedOnly:
    """The policy ``require``.

    Args:
        store: the signatures of the home.
        trusted: whose signatures count.
        clock: dates what is noted.
    """

    def __init__(self, store: SignatureStore, trusted: tuple[TrustedKey, ...], clock: Clock) -> None:
        self._store = store
        self._trusted = trusted
        self._clock = clock

    def admit(self, release: Release, digest: str, *, own: bool) -> None:
        """See ``Vetting``."""
        served = self._store.served(release.model)
        if served is None:
            return
        if release.version < served.newest and not self._returns(release, digest, served):
            raise SignatureRefused(
                f"{release.reference} is older than version {served.newest}, which was served here, and no "
                "trusted key signed a rollback to it; run: "
                f"servable sign {release.reference} --key KEY --rollback"
            )
        if own and served.serving != release.version and release.version <= served.newest:
            self._note(release, self._clock.now().timestamp())

    def check(self, release: Release, manifest: Manifest, digest: str, *, own: bool) -> None:
        """See ``Vetting``."""
        bundle = self._store.release(digest, release)
        if bundle is None:
            raise SignatureRefused(
                f"{release.reference} is not signed, and here only signed versions are served; "
                f"run: servable sign {release.reference} --key KEY"
            )
        check_release(bundle, release, manifest, digest, self._trusted)
        self.admit(release, digest, own=own)
        if own:
            self._note(release, self._clock.now().timestamp())

    def _returns(self, release: Release, digest: str, served: Served) -> bool:
        """Whether somebody trusted allowed this version after the newest one was last taken up."""
        bundle = self._store.rollback(release.model)
        if bundle is None:
            return False
        allowed = read_return(bundle, release.model, self._trusted)
        return returns(allowed, release, digest, served)

    def _note(self, release: Release, now: float) -> None:
        self._store.note_served(release.model, lambda before: noted(before, release.version, now))


class Refusal(NamedTuple):
    """A version that was not served for its signature.

    Attributes:
        release: the version.
        digest: of its package.
        reason: one sentence.
    """

    release: Release
    digest: str
    reason: str


class Refusals:
    """What a server refused, on its way to the audit log. Safe to share between threads.

    Desired state is read and loading is tried again and again; of each version and package the first refusal
    counts, for as long as the server lives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[tuple[Release, str]] = set()
        self._waiting: list[Refusal] = []

    def add(self, refusal: Refusal) -> None:
        """Take note of one."""
        key = (refusal.release, refusal.digest)
        with self._lock:
            if key not in self._known and len(self._known) < _MOST_REFUSALS:
                self._known.add(key)
                self._waiting.append(refusal)

    def take(self) -> list[Refusal]:
        """Those that were not taken yet."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting


class Noted:
    """Takes note of what is refused.

    Args:
        strict: who refuses.
        refusals: gets what it refused.
    """

    def __init__(self, strict: Vetting, refusals: Refusals) -> None:
        self._strict = strict
        self._refusals = refusals

    def admit(self, release: Release, digest: str, *, own: bool) -> None:
        """See ``Vetting``."""
        with self._noting(release, digest):
            self._strict.admit(release, digest, own=own)

    def check(self, release: Release, manifest: Manifest, digest: str, *, own: bool) -> None:
        """See ``Vetting``."""
        with self._noting(release, digest):
            self._strict.check(release, manifest, digest, own=own)

    @contextmanager
    def _noting(self, release: Release, digest: str) -> Iterator[None]:
        try:
            yield
        except SignatureRefused as error:
            self._refusals.add(Refusal(release, digest, error.message))
            raise


class Warned:
    """The policy ``warn``: what would be refused is served, and the log says so.

    Args:
        strict: who would refuse.
    """

    def __init__(self, strict: Vetting) -> None:
        self._strict = strict

    def admit(self, release: Release, digest: str, *, own: bool) -> None:
        """See ``Vetting``; raises nothing."""
        try:
            self._strict.admit(release, digest, own=own)
        except SignatureRefused as error:
            _warn(release, error)

    def check(self, release: Release, manifest: Manifest, digest: str, *, own: bool) -> None:
        """See ``Vetting``; raises nothing."""
        try:
            self._strict.check(release, manifest, digest, own=own)
        except SignatureRefused as error:
            _warn(release, error)


def vetting_of(settings: ServerSettings, clock: Clock | None = None) -> Vetting:
    """Who says what may be served, by the settings ``signatures`` and ``trusted_keys``.

    Raises:
        SettingInvalid: signatures are asked for and no key is trusted, or a file holds none.
        FileMissing: a file of a key is not there.
        DependencyMissing: the extra ``signing`` is not installed.
    """
    if settings.signatures == "off":
        return NoVetting()
    if not settings.trusted_keys:
        raise SettingInvalid(
            f"signatures is {settings.signatures}, and no key is trusted; name files of public keys in "
            "trusted_keys."
        )
    store = SignatureStore(Path(settings.home), settings.blob_url)
    strict = SignedOnly(store, read_trusted_keys(settings.trusted_keys), clock or SystemClock())
    return strict if settings.signatures == "require" else Warned(strict)


def returns(allowed: Return, release: Release, digest: str, served: Served) -> bool:
    """Whether a signed rollback allows a version, given what was served. Pure."""
    same = (allowed.model, allowed.version, allowed.package) == (release.model, release.version, digest)
    return same and allowed.at > served.since


def noted(before: Served | None, version: int, now: float) -> Served:
    """What is remembered after a version was taken up. Pure.

    Going back keeps the time since which a rollback counts; taking the newest one up again sets it, so that
    the same rollback cannot be used a second time.
    """
    if before is None or version > before.newest:
        return Served(version, version, now)
    if version == before.newest and before.serving != version:
        return Served(version, version, now)
    return msgspec.structs.replace(before, serving=version)


def _warn(release: Release, error: SignatureRefused) -> None:
    _log.warning("the signature is not in order", extra=fields(model=release.reference, reason=error.message))
