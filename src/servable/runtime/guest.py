"""A server that shares a model with others, as the keeper of that model sees it.

It speaks as to a model process of its own, see ``framing``: LOAD, batches, streams. Arrays of a large batch
are read where they lie in its shared memory, until it is answered.
"""

import asyncio
import socket
from collections import deque
from typing import Any, Protocol

import msgspec

from servable.errors import ModelDied, ModelFailed, ServableError
from servable.runtime.arena import Area
from servable.runtime.child import IN_FRAME
from servable.runtime.executor import Pieces
from servable.runtime.framing import Failed, Frame, FrameBuffer, Kind, Load, Ready, broken, encode
from servable.runtime.outbox import Outbox
from servable.runtime.packing import Packed, unpack
from servable.runtime.relay import Relay
from servable.tensors import Arrays

_encode = msgspec.msgpack.Encoder().encode


class Model(Protocol):
    """What a guest may ask of the model that it shares."""

    def run(self, guest: "Guest", number: int, arrays: Arrays) -> None:
        """Answer rows; the guest hears of it under the number."""
        ...

    def stream(self, arrays: Arrays) -> Pieces:
        """Begin an answer in pieces."""
        ...


class Landlord(Protocol):
    """Who keeps models for guests."""

    def enter(self, guest: "Guest", load: Load) -> Model:
        """A guest wants a model; it hears later that it is ready, or why not."""
        ...

    def leave(self, guest: "Guest") -> None:
        """A guest is gone; called exactly once."""
        ...


class Guest:
    """The keeper's end of a conversation. Belongs to one event loop.

    Args:
        descriptors: of the socket and the areas of requests and answers; the guest's from now on.
        landlord: keeps the models.

    Attributes:
        alone: so many of its next rows run beside no others', because some before them met a death.
    """

    def __init__(self, descriptors: tuple[int, int, int], landlord: Landlord) -> None:
        first, requests, answers = descriptors
        self.alone = 0
        self._landlord = landlord
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(fileno=first)
        self._socket.setblocking(False)
        self._outbox = Outbox(self._socket, self.close)
        self._frames = FrameBuffer()
        self._requests = Area(requests)
        self._answers = Area(answers)
        self._model: Model | None = None
        self._relays: dict[int, Relay] = {}
        #: Whether the area of answers holds something that was not taken yet, and what waits for it.
        self._untaken = False
        self._held: deque[tuple[Kind, int, Packed]] = deque()
        self._closed = False
        self._loop.add_reader(first, self._readable)

    # ------------------------------------------------------------------ what it hears

    def ready(self, about: Ready) -> None:
        """Its model is loaded."""
        self._send(Frame(Kind.READY, 0, _encode(about), b""))

    def answer(self, number: int, arrays: dict[str, Any]) -> None:
        """The answers to its rows."""
        try:
            packed = Packed(arrays)
        except ModelFailed as error:
            self.fail(number, error)
        else:
            self._give(Kind.ANSWER, number, packed)

    def fail(self, number: int, error: BaseException) -> None:
        """Why there is no answer, or no model."""
        if not isinstance(error, ServableError):
            error = ModelFailed(f"The model failed ({type(error).__name__}).")
        self._send(Frame(Kind.FAILED, number, _encode(Failed(error.code, error.message)), b""))

    def replaced(self) -> None:
        """A process of its model was replaced."""
        self._send(Frame(Kind.REPLACED, 0, b"", b""))

    def piece(self, number: int, arrays: dict[str, Any]) -> None:
        """The next piece of one of its streams.

        Raises:
            ModelFailed: it holds what cannot travel.
        """
        self._give(Kind.PIECE, number, Packed(arrays))

    def ended(self, number: int, error: BaseException | None) -> None:
        """One of its streams is over, and why if not by itself."""
        self._relays.pop(number, None)
        if error is not None:
            self.fail(number, error)
        elif self._held:
            # Behind its last pieces, which wait for room.
            self._held.append((Kind.END, number, Packed({})))
        else:
            self._send(Frame(Kind.END, number, b"", b""))

    def _give(self, kind: Kind, number: int, packed: Packed) -> None:
        """Arrays, through the area where they are large; in the order in which they were given."""
        if self._closed:
            return
        if self._held or (packed.size > IN_FRAME and self._untaken):
            self._held.append((kind, number, packed))
        elif packed.size > IN_FRAME:
            try:
                packed.write(self._answers.to_write(packed.size))
            except (OSError, ValueError):
                full = f"There is no shared memory for {packed.size} bytes of answers."
                self.fail(number, ModelFailed(full))
                return
            self._untaken = True
            self._send(Frame(kind, number, packed.meta, b"", packed.size))
        else:
            self._send(Frame(kind, number, packed.meta, packed.payload()))

    def _send(self, frame: Frame) -> None:
        if not self._closed and not self._outbox.send(encode(frame)):
            self.close()

    # ------------------------------------------------------------------ what it says

    def _readable(self) -> None:
        frames = self._frames
        try:
            count = self._socket.recv_into(frames.room())
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self.close()
            return
        frames.received(count)
        try:
            while not self._closed and (frame := frames.take()) is not None:
                self._obey(frame)
        except (ModelDied, msgspec.MsgspecError, UnicodeDecodeError):
            # What it says is no form of ours, and there is no way back into step.
            self.close()

    def _obey(self, frame: Frame) -> None:
        kind, number = frame.kind, frame.number
        if kind is Kind.LOAD and self._model is None:
            self._model = self._landlord.enter(self, msgspec.msgpack.decode(frame.meta, type=Load))
        elif kind is Kind.RUN and self._model is not None:
            self._model.run(self, number, self._arrays(frame, copy=False))
        elif kind is Kind.STREAM and self._model is not None:
            # The area of requests is written anew while the stream goes on.
            pieces = self._model.stream(self._arrays(frame, copy=True))
            self.answer(number, {})
            self._relays[number] = Relay(self, number, pieces)
        elif kind is Kind.PING:
            self._send(Frame(Kind.PONG, number, b"", b""))
        elif kind is Kind.MORE:
            if number in self._relays:
                self._relays[number].more(msgspec.msgpack.decode(frame.meta, type=int))
        elif kind is Kind.STOP:
            if number in self._relays:
                self._relays[number].stop()
        elif kind is Kind.TAKEN:
            self._untaken = False
            self._resume()
        else:
            raise broken("something out of turn")

    def _resume(self) -> None:
        """Give what waited for the area, until it is full again."""
        held, self._held = self._held, deque()
        while held:
            kind, number, packed = held.popleft()
            if kind is Kind.END:
                self._send(Frame(Kind.END, number, b"", b""))
            else:
                self._give(kind, number, packed)
            if self._held:
                self._held.extend(held)
                return

    def _arrays(self, frame: Frame, *, copy: bool) -> dict[str, Any]:
        payload: Any = frame.payload
        if frame.in_area >= 0:
            payload = self._requests.to_read(frame.in_area)
        return unpack(frame.meta, payload, copy=copy)

    # ------------------------------------------------------------------ end

    @property
    def closed(self) -> bool:
        """Whether it is gone."""
        return self._closed

    def close(self) -> None:
        """End the conversation; what was begun for it is given up."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._outbox.close()
        self._socket.close()
        for relay in tuple(self._relays.values()):
            relay.stop()
        self._requests.close()
        self._answers.close()
        self._landlord.leave(self)
