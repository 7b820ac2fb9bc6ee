"""What a server adds to the audit log: whom it refused, and what its callers changed.

Refusals are taken note of in the event loop and written by a thread, a second later, so that neither they nor
good requests wait for a disk; when they cannot be written, that is counted and recorded later. What a caller
changes is recorded before it is done, and not done when it cannot be recorded.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servable.clock import SystemClock, timestamp
from servable.errors import AuditFailed, Forbidden, LimitReached, ServableError, Unauthenticated
from servable.logs import fields, logger
from servable.registry.audit_file import OpenAuditLog
from servable.registry.vetting import Refusal, Refusals
from servable.security.actors import Actor, actor, service
from servable.security.audit_chain import Entry
from servable.security.callers import EVERYBODY, NOBODY, Caller, Hidden
from servable.server.addresses import Addresses
from servable.server.authentication import Authentication
from servable.server.denials import (
    EACH,
    EACH_LIMIT,
    Denial,
    Denials,
    Limited,
    More,
    address_of,
    limit_of,
)
from servable.server.http import HttpRequest
from servable.settings import ServerSettings

_log = logger("audit")
#: Seconds between two writes of what was refused.
_WRITE_S = 1.0
#: Models and callers whose feedback is counted by itself in one window.
_COUNTED = 100
#: Seconds between two records of what is counted.
_COUNT_S = 60.0
_wall = time.time
#: Codes of refusals because of limits.
_LIMITS = frozenset({LimitReached.code, *(kind.code for kind in LimitReached.__subclasses__())})


class ServerAudit:
    """The audit log of one server process. Belongs to one event loop.

    Args:
        settings: which registry.
        authentication: knows keys by their ids.
        now: the wall clock, in seconds since 1970.

    Attributes:
        addresses: says what addresses are called; None for no refusals that were read.
        refusals: versions that are not served for their signatures.
    """

    def __init__(
        self, settings: ServerSettings, authentication: Authentication, now: Callable[[], float] = _wall
    ) -> None:
        self._now = now
        self._log = OpenAuditLog(Path(settings.home), settings.database_url, SystemClock())
        self._authentication = authentication
        self._denials = Denials(now, address_of, EACH)
        self._limits = Denials(now, limit_of, EACH_LIMIT)
        self._counts: dict[tuple[str, str, str, str], int] = {}
        self._counted_at = now()
        self._lost = 0
        self._failing = False
        #: They come once, so they wait until they can be written.
        self._unserved: list[Refusal] = []
        self._thread: ThreadPoolExecutor | None = None
        self.addresses: Addresses | None = None
        self.refusals = Refusals()

    def denied(self, error: ServableError, request: HttpRequest, address: str) -> None:
        """Take note of a request that was refused for who asked, or for how much."""
        need, model = (error.need, error.model) if isinstance(error, Forbidden | Hidden) else ("", "")
        kind = self._limits if isinstance(error, LimitReached) else self._denials
        kind.add(
            Denial(
                self._now(),
                address,
                error.code,
                _who(request.caller),
                (error.key or "?" * error.shown) if isinstance(error, Unauthenticated) else "",
                request.method,
                request.target,
                need,
                model,
            )
        )

    def unseen(self, error: Hidden, path: bytes) -> None:
        """Take note that somebody asked for a model that is hidden from them, and was told of none.

        Args:
            error: what is not said to them.
            path: of the method of gRPC by which they asked.
        """
        who = actor()
        address = who.where.removeprefix("address:")
        self._denials.add(
            Denial(self._now(), address, error.code, who.who, "", b"POST", path, error.need, error.model)
        )

    def count(self, what: str, model: str, number: int) -> None:
        """Take note of something that happens too often for a record of its own, such as feedback."""
        who = actor()
        key = (what, model, who.who, who.where)
        if key in self._counts or len(self._counts) < _COUNTED:
            self._counts[key] = self._counts.get(key, 0) + number
        else:
            other = (what, "", "", "")
            self._counts[other] = self._counts.get(other, 0) + number

    async def change(self, what: str, **details: Any) -> None:
        """Record what whoever asks is about to change.

        Raises:
            AuditFailed: it cannot be recorded, so it must not be done.
        """
        who = actor()
        entry = Entry(self._at(self._now()), what, who.who, who.where, details)
        try:
            await self._aside(lambda: self._log.log.add((entry,)))
        except ServableError as error:
            self._failed(error)
            raise AuditFailed from error

    async def follow(self) -> None:
        """Write what was refused until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_S)
            await self._write()

    async def close(self) -> None:
        """Write the rest, and give back the registry."""
        await self._write(last=True)
        if self._thread is not None:
            self._thread.submit(self._log.close)
            self._thread.shutdown(wait=True)

    async def _write(self, *, last: bool = False) -> None:
        denials, more = self._denials.take(last=last)
        limited, limits = self._limits.take(last=last)
        counts = self._taken(last=last)
        here = len(denials) + len(limited) + sum(counts.values())
        here += sum(each.number for each in more) + sum(each.number for each in limits)
        self._unserved += self.refusals.take()
        if not here and not self._unserved:
            return
        self._lost += here
        lost = self._lost - here
        try:
            await self._aside(
                lambda: self._add(
                    [*denials, *limited], [*self._more(more), *self._limited(limits)], counts, lost
                )
            )
            self._lost, self._failing, self._unserved = 0, False, []
        except ServableError as error:
            self._failed(error)

    def _taken(self, *, last: bool) -> dict[tuple[str, str, str, str], int]:
        """What was counted, once in a while."""
        now = self._now()
        if not last and 0 <= now - self._counted_at < _COUNT_S:
            return {}
        self._counted_at = now
        taken, self._counts = self._counts, {}
        return taken

    def _add(
        self,
        denials: Sequence[Denial],
        more: Sequence[Entry],
        counts: dict[tuple[str, str, str, str], int],
        lost: int,
    ) -> None:
        """Write records; in the thread."""
        entries = [*(self._denied(denial) for denial in denials), *more]
        now = self._at(self._now())
        for (what, model, who, where), number in counts.items():
            entries.append(Entry(now, what, who, where, {"model": model, "count": number}))
        if lost:
            entries.append(Entry(now, "audit.lost", "service:server", "", {"count": lost}))
        # Every HTTP process of a server refuses the same version.
        self._log.log.add(entries, [self._refused(refusal, now) for refusal in self._unserved])

    def _refused(self, refusal: Refusal, now: str) -> Entry:
        server = service("server")
        details = {**refusal.release._asdict(), "package": refusal.digest, "reason": refusal.reason}
        return Entry(now, "version.refuse", server.who, server.where, details)

    def _more(self, more: Sequence[More[str]]) -> Iterator[Entry]:
        """Refusals that are told as a number."""
        now = self._at(self._now())
        for each in more:
            details = {"more": each.number, "since": self._at(each.since)}
            yield Entry(now, "denied.more", "unknown", f"address:{each.place or 'others'}", details)

    def _limited(self, more: Sequence[More[Limited]]) -> Iterator[Entry]:
        """Likewise, because of limits."""
        now = self._at(self._now())
        for each in more:
            who, code, address = each.place or Limited("unknown", LimitReached.code, "others")
            details = {"code": code, "more": each.number, "since": self._at(each.since)}
            yield Entry(now, "limited.more", who, f"address:{address}" if address else "", details)

    def _denied(self, denial: Denial) -> Entry:
        details: dict[str, Any] = {
            "code": denial.code,
            "method": denial.method[:16].decode("ascii", "replace"),
            "route": self.addresses.form(denial.target) if self.addresses is not None else "",
        }
        if denial.code == Unauthenticated.code:
            details |= self._authentication.reason(denial.key, denial.at)
        if denial.need:
            details["need"] = denial.need
        if denial.model:
            details["model"] = denial.model
        what = "limited" if denial.code in _LIMITS else "denied"
        return Entry(self._at(denial.at), what, denial.caller, f"address:{denial.address}", details)

    def _failed(self, error: ServableError) -> None:
        if not self._failing:
            _log.error("the audit log cannot be written", extra=fields(reason=error.message))
        self._failing = True

    def _at(self, seconds: float) -> str:
        return timestamp(datetime.fromtimestamp(seconds, UTC))

    async def _aside(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-audit")
        await asyncio.get_running_loop().run_in_executor(self._thread, work)


def actor_of(caller: Caller, address: str) -> Actor:
    """Who acts when a request is answered."""
    return Actor(_who(caller), f"address:{address}")


def _who(caller: Caller) -> str:
    if caller is EVERYBODY:
        return "anybody"
    return "unknown" if caller is NOBODY else f"{caller.kind}:{caller.name}"
