"""An answer in pieces that is made in a model process, as the server sees it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, Self

import msgspec

from servable.errors import ModelFailed
from servable.runtime.framing import AHEAD, Failed, Frame, Kind


class Maker(Protocol):
    """The process that makes a stream."""

    def more(self, number: int, pieces: int) -> None:
        """It may make so many more pieces."""
        ...

    def stop(self, number: int) -> None:
        """Nobody wants more."""
        ...


class Remote:
    """Implements ``executor.Pieces``. Belongs to one event loop.

    Args:
        among: the open ones; this one stands there until it is closed.

    Attributes:
        owed: how many pieces the process may make before it hears of more.
        over: whether nobody wants it any more.
    """

    def __init__(self, among: "set[Remote]") -> None:
        self.owed = 0
        self.over = False
        self._among = among
        self._maker: Maker | None = None
        self._number = 0
        self._pieces: deque[dict[str, Any]] = deque()
        self._taken = 0
        self._ended = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        among.add(self)

    # ------------------------------------------------------------------ the reader

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next piece."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended or self.over:
                await self.aclose()
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._taken += 1
        if self._maker is not None and not self._ended and 2 * self._taken >= AHEAD:
            self.owed += self._taken
            self._maker.more(self._number, self._taken)
            self._taken = 0
        return piece

    async def aclose(self) -> None:
        """Tell the process that nobody wants more."""
        if self.over:
            return
        self.over = True
        self._pieces.clear()
        self._among.discard(self)
        if self._maker is not None and not self._ended:
            self._maker.stop(self._number)

    # ------------------------------------------------------------------ the process

    def begun(self, maker: Maker, number: int) -> None:
        """A process took it under this number."""
        self._maker, self._number = maker, number
        self.owed = AHEAD
        if self.over:
            maker.stop(number)

    def came(self, piece: dict[str, Any]) -> None:
        """A piece."""
        self.owed -= 1
        if not self.over:
            self._pieces.append(piece)
            self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """There are no more, or why there are none. A second end changes nothing."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class RemoteStreams:
    """The streams of one process. Belongs to one event loop.

    Args:
        arrays: reads the arrays of a frame.
    """

    def __init__(self, arrays: Callable[[Frame], dict[str, Any]]) -> None:
        self._arrays = arrays
        self._open: dict[int, Remote] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def steps(self) -> bool:
        """Whether the process may be making a piece, or letting go of a stream."""
        return any(pieces.owed > 0 or pieces.over for pieces in self._open.values())

    def add(self, maker: Maker, number: int, pieces: Remote) -> None:
        """The process began a stream."""
        self._open[number] = pieces
        pieces.begun(maker, number)

    def told(self, frame: Frame) -> bool:
        """Take a frame; whether it was about a stream.

        Raises:
            ModelDied: it is not what it claims to be.
            MsgspecError: as well.
        """
        pieces = self._open.get(frame.number)
        if pieces is None or frame.kind not in (Kind.PIECE, Kind.END, Kind.FAILED):
            return False
        if frame.kind is Kind.PIECE:
            pieces.came(self._arrays(frame))
            return True
        del self._open[frame.number]
        failed = frame.kind is Kind.FAILED
        pieces.end(msgspec.msgpack.decode(frame.meta, type=Failed).error(ModelFailed) if failed else None)
        return True

    def lost(self, error: BaseException) -> None:
        """The process is gone."""
        streams, self._open = self._open, {}
        for pieces in streams.values():
            pieces.end(error)
