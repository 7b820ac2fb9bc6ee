"""An answer in pieces on its way from a shared model to the server that asked for it."""

import asyncio
from typing import Any, Protocol

from servable.runtime.executor import Pieces
from servable.runtime.framing import AHEAD


class Hears(Protocol):
    """Where the pieces go."""

    def piece(self, number: int, arrays: dict[str, Any]) -> None:
        """The next piece."""
        ...

    def ended(self, number: int, error: BaseException | None) -> None:
        """There are no more, and why if not by themselves."""
        ...


class Relay:
    """Hands pieces on, not more than were asked for. Belongs to one event loop.

    Args:
        hears: where they go.
        number: of the stream there.
        pieces: where they come from; closed at the end.
    """

    def __init__(self, hears: Hears, number: int, pieces: Pieces) -> None:
        self._hears = hears
        self._number = number
        self._pieces = pieces
        self._credit = asyncio.Semaphore(AHEAD)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def more(self, pieces: int) -> None:
        """So many more are taken."""
        for _ in range(pieces):
            self._credit.release()

    def stop(self) -> None:
        """Nobody wants more."""
        self._task.cancel()

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            await self._credit.acquire()
            async for piece in self._pieces:
                self._hears.piece(self._number, piece)
                await self._credit.acquire()
        except asyncio.CancelledError:
            # Stopping is all that cancels it, and it is answered as an end.
            pass
        except Exception as raised:  # noqa: BLE001 - whatever ended the stream is told to its reader
            error = raised
        await self._pieces.aclose()
        self._hears.ended(self._number, error)
