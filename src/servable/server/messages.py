"""What the HTTP processes of one server say to each other: the messages, and the channel that carries them.

Between a parent and each of its workers there is a private socketpair; over it go frames: four bytes of
length, then one of the messages below in msgpack. Nothing is pickled, sizes are bounded, and an end of file
in the middle of a frame is simply the end.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any

import msgspec

from servable.monitoring.totals import Snapshot
from servable.settings import ServerSettings

#: Largest frame, in bytes; a thousand models fill about one of the 64 MiB.
MOST_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct("!I")
#: A report is left out while so many bytes wait for a parent that does not read.
_BEHIND_BYTES = 1024 * 1024
#: Seconds for which a channel that is closed waits for the other side to take what is left.
_CLOSE_S = 0.2


class Start(msgspec.Struct, frozen=True, tag=True):
    """Parent to worker, first: what to be.

    Attributes:
        settings: this worker's share.
        only: references to serve; every deployment when empty.
        version: of Servable.
        place: on the board.
        places: of the board.
        patient: whether others answer already, so that this one accepts only when it is ready.
        logs: whether to write log lines to standard error.
        workers: how many there are.
    """

    settings: ServerSettings
    only: tuple[str, ...]
    version: str
    place: int
    places: int
    patient: bool = False
    logs: bool = True
    workers: int = 1


class Tell(msgspec.Struct, frozen=True, tag=True):
    """Parent to worker: send your figures now."""

    number: int


class Others(msgspec.Struct, frozen=True, tag=True):
    """Parent to worker: the sum of everybody else's figures; the answer to ``Ask``."""

    number: int
    snapshot: Snapshot


class Change(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: have all others do this. Parent to worker: do this.

    Attributes:
        number: comes back with ``Changed``.
        reference: of a model.
        load: have it in memory, or let it go.
    """

    number: int
    reference: str
    load: bool


class Changed(msgspec.Struct, frozen=True, tag=True):
    """The answer to ``Change``, in either direction; both texts are empty when it was done.

    Attributes:
        number: of the question.
        code: of the error.
        message: of the error.
    """

    number: int
    code: str = ""
    message: str = ""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Parent to worker: end, with or without waiting for what runs."""

    at_once: bool = False


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: every model was tried, requests are answered."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: nothing can be served, and why."""

    code: str
    message: str


class Told(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: its figures; the answer to a ``Tell``, or number 0 when sent by itself."""

    number: int
    snapshot: Snapshot


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: its figures, and the wish for the others'."""

    number: int
    snapshot: Snapshot


ToWorker = Start | Tell | Others | Change | Changed | Stop
ToParent = Ready | Failed | Told | Ask | Change | Changed


class Channel:
    """One end of a private socketpair. Belongs to one event loop.

    Args:
        reader: of the connected end.
        writer: of the connected end.
        incoming: the messages that the other side may send.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(incoming)

    @classmethod
    async def over(cls, end: socket.socket, incoming: Any) -> "Channel":
        """A channel over one end, which it owns from now on."""
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer, incoming)

    @property
    def behind(self) -> bool:
        """Whether the other side has not read for a while."""
        return self._writer.transport.get_write_buffer_size() > _BEHIND_BYTES

    def send(self, message: ToWorker | ToParent) -> None:
        """Send a message; nothing happens when the other side is gone."""
        if self._writer.is_closing():
            return
        content = msgspec.msgpack.encode(message)
        self._writer.write(_LENGTH.pack(len(content)) + content)

    async def receive(self) -> Any:
        """The next message; None when the other side is gone or sent something that is none."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > MOST_BYTES:
                return None
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
            # What cannot be read comes from another version of this code or from a dying process.
            return None

    async def close(self) -> None:
        """Send what is left, then close."""
        with contextlib.suppress(OSError):
            await asyncio.wait_for(self._writer.drain(), _CLOSE_S)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
