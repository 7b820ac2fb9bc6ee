"""What the addresses of a wire format may do: find models, ask them, read figures; every limit holds.

This is where it is decided what a caller may do: every way to a model takes the caller, and whoever may do
nothing with a model does not find it here.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from servable.artifact.signature import Signature
from servable.errors import DeadlineExceeded, ServableError
from servable.monitoring.totals import Snapshot
from servable.protocols.base import Codec, Encoded, Head
from servable.protocols.compression import decompress
from servable.security.callers import Caller
from servable.security.scopes import Need
from servable.server import checks as check
from servable.server.audit import ServerAudit
from servable.server.known import KnownFindings
from servable.server.workers import Link
from servable.serving.answer import answer
from servable.serving.changes import change
from servable.serving.host import Host
from servable.serving.live import Cold, Live, ModelStatus
from servable.serving.split import Split
from servable.settings import ServerSettings
from servable.tensors import Body

#: In the state of a request whose end, good or bad, is among the figures of its model.
COUNTED = "counted"
#: In the state of every request.
CALLER = "caller"
#: Likewise: says whether the caller is let in still.
ADMITS = "admits"


class Desk:
    """One server's models for the routes of the formats. Belongs to one event loop.

    Args:
        host: the live models.
        settings: limits.
        version: of Servable.
        link: to the other processes of the server, whose figures belong to the sum.
        audit: records what callers change.
        ready: says whether new requests should be sent here.

    Attributes:
        audit: as given.
        host: as given.
        settings: as given.
        version: as given.
    """

    def __init__(
        self,
        host: Host,
        settings: ServerSettings,
        version: str,
        link: Link,
        audit: ServerAudit,
        ready: Callable[[], bool],
    ) -> None:
        self.audit = audit
        self.host = host
        self.settings = settings
        self.version = version
        self._link = link
        self._ready = ready
        self._known = KnownFindings(settings)

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self._ready()

    def find(self, caller: Caller, reference: str, need: Need = "see") -> Live | Cold:
        """The model of a reference, loaded or not; see ``Host.find``.

        Args:
            caller: who asks.
            reference: of the model.
            need: what the caller wants to do with it.

        Raises:
            Forbidden: the caller sees it and may not do that.
            ServableError: as ``Host.find``; to a caller who does not see a model, it is not there.
        """
        with _worded_for(caller, reference):
            found = self.host.find(reference)
        caller.require(need, found.model)
        return found

    def target(self, caller: Caller, reference: str) -> Live | Cold | Split:
        """What the predictions of a reference mean; see ``find`` and ``Host.target``."""
        with _worded_for(caller, reference):
            found = self.host.target(reference)
        caller.require("predict", found.model)
        return found

    def meant(self, caller: Caller, reference: str, head: Head) -> Live | Cold:
        """The version that answers a request; see ``find`` and ``Host.meant``."""
        with _worded_for(caller, reference):
            found = self.host.meant(reference, head)
        caller.require("predict", found.model)
        return found

    def statuses(self, caller: Caller, need: Need = "see") -> list[ModelStatus]:
        """Every version that should be served, of the models with which a caller may do something."""
        return [status for status in self.host.table.statuses if caller.may(need, status.model)]

    async def live(self, caller: Caller, reference: str, head: Head, limit_s: float | None = None) -> Live:
        """The model that answers a request, loaded; call ``answer`` or ``enter`` at once.

        Args:
            caller: who asks.
            reference: of the model.
            head: the request's headers; of a divided model they decide which version it is.
            limit_s: seconds that its caller has; None for as long as it takes. A load goes on without
                those who wait for it no more.

        Raises:
            DeadlineExceeded: it was not loaded within them.
            ServableError: as ``meant`` and ``Cold.warm``.
        """
        while True:
            found = self.meant(caller, reference, head)
            if isinstance(found, Cold):
                try:
                    async with asyncio.timeout(limit_s):
                        await found.warm(reference)
                except TimeoutError:
                    raise DeadlineExceeded(
                        f"The time for this request was over while {found.model} was still being loaded."
                    ) from None
                # Desired state may have moved on meanwhile, so that another version answers this request.
                found = self.meant(caller, reference, head)
            if isinstance(found, Live) and not found.retired:
                return found

    async def signature(self, caller: Caller, reference: str) -> Signature:
        """What the model of a reference takes and gives; a cold one stays cold.

        Raises:
            ServableError: as ``find``, or the package cannot be read.
        """
        found = self.find(caller, reference)
        return found.signature if isinstance(found, Live) else (await self.host.outline(found)).signature

    async def totals(self) -> Snapshot:
        """The figures of all processes of this server; whoever shows them asks ``find`` or ``statuses``."""
        return await self._link.totals(self.host.metrics.snapshot())

    async def figures(self, caller: Caller) -> bytes:
        """The figures of all processes of this server and what is known of its versions, for Prometheus.

        Raises:
            Forbidden: the caller may not read those of every model.
        """
        caller.require("read")
        return self.host.metrics.render(await self.totals(), await self._known.read())

    async def change(self, caller: Caller, reference: str, load: bool) -> str:
        """Load or unload a model in every process of this server.

        Args:
            caller: who asks.
            reference: of the model.
            load: or unload.

        Returns:
            Its name.

        Raises:
            AuditFailed: it cannot be recorded, and was not done.
            ServableError: as ``find`` and ``serving.changes.change``, here or in another process.
        """
        found = self.find(caller, reference, "deploy")
        model, version = found.model, found.version
        await self.audit.change("model.load" if load else "model.unload", model=model, version=version)
        await change(self.host, reference, load)
        await self._link.change(reference, load)
        return model

    async def body_of(self, request: Request) -> Body:
        """The whole body of a request, unpacked.

        Raises:
            ServableError: too large, or not of the encoding that it claims.
        """
        body = await request.body()
        encoding = request.headers.get("content-encoding", "")
        if encoding.lower() in ("", "identity"):
            return body
        return await asyncio.to_thread(decompress, encoding, body, self.settings.max_body_bytes)

    async def ask(
        self, reference: str, body: Body, request: Request, choose: Callable[[Live, Head], Codec]
    ) -> Encoded:
        """Have one request answered, with the deadline and the priority that its headers name.

        Args:
            reference: of the model.
            body: as the codec reads it.
            request: whose headers count.
            choose: the codec for the model.

        Raises:
            ServableError: whatever is wrong with it.
        """
        head = dict(request.scope["headers"])
        limit = check.limit_of(head, self.settings.request_timeout_s)
        weight = check.weight_of(head)
        started = asyncio.get_running_loop().time()
        live = await self.live(caller_of(request), reference, head, limit)
        left = limit - (asyncio.get_running_loop().time() - started)
        codec = choose(live, head)
        request.scope["state"][COUNTED] = True
        return await answer(
            live, body, request_id_of(request), codec=codec, head=head, limit_s=left, weight=weight
        )

    def models(self, caller: Caller) -> dict[str, Live | Cold]:
        """What takes requests and a caller sees, by the name of the model, sorted."""
        table = self.host.table
        found: dict[str, Live | Cold] = {cold.model: cold for cold in table.cold.values()}
        found |= dict(table.models)
        return {name: found[name] for name in sorted(found) if caller.may("see", name)}


@contextmanager
def _worded_for(caller: Caller, reference: str) -> Iterator[None]:
    """What is said of a model that was not found is what the caller may know."""
    try:
        yield
    except ServableError as error:
        name = reference.partition("@")[0].partition(":")[0]
        raise caller.worded(error, name) from error


def caller_of(request: Request) -> Caller:
    """Who asks."""
    caller: Caller = request.scope["state"][CALLER]
    return caller


def request_id_of(request: Request) -> str:
    """The id under which a request is answered and logged."""
    return str(request.scope["state"]["request_id"])


def json_response(content: Any, status: int = 200) -> Response:
    """A plain answer of JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
