"""How several HTTP processes of one server are one server to whoever calls it.

One parent holds the listening socket and keeps some workers, each a process of its own that accepts
on it. What they say to each other is in ``messages``. ``Link`` is what a worker's HTTP part sees of all this;
``NoLink`` is the link of a process that is alone.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from servable.errors import ServableError, ServerStopping
from servable.logs import fields, logger
from servable.monitoring.totals import Snapshot, merge
from servable.runtime.sharing import ALONE, Sharing
from servable.server.limit_area import LimitArea
from servable.server.messages import Ask, Change, Changed, Channel, Others, Stop, Tell, Told
from servable.server.turns import Accepting, Acceptor, Place, Secure, accept_alone
from servable.settings import ServerSettings

_log = logger("workers")
#: Loads (True) or unloads the model of a reference.
Changing = Callable[[str, bool], Awaitable[None]]
#: Seconds between two reports of a worker.
REPORT_S = 0.5
#: Seconds for which a scrape waits for the figures of the others before it takes the last known.
ASK_S = 0.2


class Link(Protocol):
    """What one HTTP process knows of the others. Belongs to one event loop."""

    #: Whether others answer already, so that this process should accept only when it is ready.
    patient: bool
    #: How models are shared with the others.
    sharing: Sharing
    #: What all of them count of limited callers.
    limits: LimitArea

    async def totals(self, own: Snapshot) -> Snapshot:
        """The figures of all processes together, fresh or not older than the last report.

        Args:
            own: of this process, now.
        """
        ...

    async def accept(
        self, listening: socket.socket, factory: Callable[[], asyncio.Protocol], secure: Secure
    ) -> Accepting:
        """Accept this process's share of the connections.

        Args:
            listening: the socket; stays the caller's.
            factory: makes the protocol of a connection.
            secure: how they are encrypted.
        """
        ...

    async def change(self, reference: str, load: bool) -> None:
        """Have all other processes load or unload a model; returns when they have.

        Raises:
            ServableError: why one of them did not.
        """
        ...

    def connected(self, connections: int) -> None:
        """Take note of how many connections this process has; called whenever that changes."""
        ...


class NoLink:
    """The link of a process that is alone."""

    patient = False
    sharing = ALONE

    def __init__(self) -> None:
        self.limits = LimitArea()

    async def totals(self, own: Snapshot) -> Snapshot:
        """Its own figures are all there are."""
        return own

    async def accept(
        self, listening: socket.socket, factory: Callable[[], asyncio.Protocol], secure: Secure
    ) -> Accepting:
        """All of them."""
        return await accept_alone(listening, factory, secure)

    async def change(self, reference: str, load: bool) -> None:
        """There are no others."""

    def connected(self, connections: int) -> None:
        """Nobody needs to know."""


class ParentLink:
    """A worker's side of the conversation. Belongs to one event loop.

    Args:
        channel: to the parent.
        place: on the board of connections.
        patient: whether others answer already.
        limits: what all of them count of limited callers; of this process alone when None.
        sharing: how models are shared with the others.
        wait_s: how long a scrape waits for the others' figures.
    """

    def __init__(
        self,
        channel: Channel,
        place: Place,
        *,
        patient: bool,
        limits: LimitArea | None = None,
        sharing: Sharing = ALONE,
        wait_s: float = ASK_S,
    ) -> None:
        self.patient = patient
        self.sharing = sharing
        self.limits = limits or LimitArea()
        self._channel = channel
        self._place = place
        self._wait_s = wait_s
        self._others = Snapshot()
        self._number = 0
        self._asked: dict[int, asyncio.Future[Snapshot]] = {}
        self._changing: dict[int, asyncio.Future[Changed]] = {}

    async def totals(self, own: Snapshot) -> Snapshot:
        """See ``Link``; when the parent is late the others' last known figures are taken."""
        self._number += 1
        answer: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._asked[self._number] = answer
        self._channel.send(Ask(self._number, own))
        try:
            with contextlib.suppress(TimeoutError):
                self._others = await asyncio.wait_for(answer, self._wait_s)
        finally:
            self._asked = {number: each for number, each in self._asked.items() if each is not answer}
        return merge([own, self._others])

    async def accept(
        self, listening: socket.socket, factory: Callable[[], asyncio.Protocol], secure: Secure
    ) -> Accepting:
        """See ``Link``: in turn with the others."""
        return Acceptor(listening, factory, self._place, secure)

    async def change(self, reference: str, load: bool) -> None:
        """See ``Link``."""
        self._number += 1
        number, answer = self._number, asyncio.get_running_loop().create_future()
        self._changing[number] = answer
        self._channel.send(Change(number, reference, load))
        try:
            changed = await answer
        finally:
            del self._changing[number]
        if changed.code:
            raise error_of(changed.code, changed.message)

    def connected(self, connections: int) -> None:
        """See ``Link``: the others see it."""
        self._place.connected(connections)

    async def follow(
        self, snapshot: Callable[[], Snapshot], stop: Callable[[bool], None], change: Changing
    ) -> None:
        """Report regularly and do what the parent says, until it is gone or this is cancelled.

        Args:
            snapshot: this process's figures, now.
            stop: ends this process; True: without waiting. Also called when the parent is gone.
            change: loads (True) or unloads the model of a reference in this process.
        """
        reporting = asyncio.create_task(self._keep_reporting(snapshot))
        changes: set[asyncio.Task[None]] = set()
        try:
            while (message := await self._channel.receive()) is not None:
                match message:
                    case Tell(number):
                        self._channel.send(Told(number, snapshot()))
                    case Others(number, others):
                        asked = self._asked.get(number)
                        if asked is not None and not asked.done():
                            asked.set_result(others)
                    case Change():
                        task = asyncio.create_task(self._change(message, change))
                        changes.add(task)
                        task.add_done_callback(changes.discard)
                    case Changed(number):
                        changing = self._changing.get(number)
                        if changing is not None and not changing.done():
                            changing.set_result(message)
                    case Stop(at_once):
                        stop(at_once)
            stop(False)
        finally:
            reporting.cancel()
            for task in changes:
                task.cancel()
            gone = Changed(0, ServerStopping.code, "The server is stopping; ask another one.")
            for changing in self._changing.values():
                if not changing.done():
                    changing.set_result(gone)

    async def _change(self, wanted: Change, change: Changing) -> None:
        try:
            await change(wanted.reference, wanted.load)
        except ServableError as error:
            self._channel.send(Changed(wanted.number, error.code, error.message))
        else:
            self._channel.send(Changed(wanted.number))

    def report(self, own: Snapshot) -> None:
        """Tell the parent this process's figures now."""
        if not self._channel.behind:
            self._channel.send(Told(0, own))

    async def _keep_reporting(self, snapshot: Callable[[], Snapshot]) -> None:
        while True:
            self.report(snapshot())
            await asyncio.sleep(REPORT_S)


def error_of(code: str, message: str) -> ServableError:
    """The error that another process met, as one of ours."""
    todo = [ServableError]
    while todo:
        kind = todo.pop()
        if kind.code == code:
            return kind(message)
        todo.extend(kind.__subclasses__())
    _log.warning("a worker met an error that is not known here", extra=fields(code=code))
    return ServableError(message)


def share(settings: ServerSettings, workers: int) -> ServerSettings:
    """What each of so many workers may take of limits that hold for all together: at least one each."""
    if workers == 1:
        return settings
    parts = {
        name: max(1, getattr(settings, name) // workers)
        for name in ("queue_requests", "max_connections", "memory", "capture_rows", "capture_memory")
        # No budget divided stays no budget.
        if getattr(settings, name)
    }
    return msgspec.structs.replace(settings, **parts)
