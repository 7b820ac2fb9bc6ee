"""What the ways to a prediction share, over HTTP and over gRPC: ids, and exchanges before and after one."""

import asyncio
import itertools
import os
from collections.abc import Coroutine, Mapping
from typing import Any

from servable.server.checks import REQUEST_ID
from servable.server.http import Exchange


class RequestIds:
    """Gives each request the id under which it is answered and logged. Belongs to one event loop."""

    __slots__ = ("_numbers", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)

    def of(self, head: Mapping[bytes, bytes]) -> str:
        """The id that the caller chose, if nothing in it is special; else a new one."""
        given = head.get(b"x-request-id")
        if given is not None and REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{self._prefix}{next(self._numbers):08x}"

    def new(self) -> str:
        """One that no other request has."""
        return f"{self._prefix}{next(self._numbers):08x}"


class AtOnce:
    """The exchange of a request that was answered at once."""

    over = True

    def cancel(self) -> None:
        """Nothing is on its way."""


AT_ONCE = AtOnce()


class Later:
    """A prediction that cannot begin at once: a body to unpack or long to read, or a model to load.

    Args:
        work: begins it; gives None when it was answered with an error instead.
    """

    def __init__(self, work: Coroutine[Any, Any, Exchange | None]) -> None:
        self.over = False
        self._prediction: Exchange | None = None
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._begun)

    def _begun(self, task: "asyncio.Task[Exchange | None]") -> None:
        if not task.cancelled():
            self._prediction = task.result()
            self.over = self._prediction is None

    def cancel(self) -> None:
        """The caller left."""
        self._task.cancel()
        if self._prediction is not None:
            self._prediction.cancel()
