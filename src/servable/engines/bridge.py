"""Carries one ASGI exchange from the event loop of a host into another one, with few changes of thread."""

import asyncio
from collections.abc import Mapping
from typing import Any


async def across(
    loop: asyncio.AbstractEventLoop, application: Any, scope: Mapping[str, Any], receive: Any, send: Any
) -> None:
    """Answer a request in another loop. Cancelling this cancels it there.

    Args:
        loop: that the application belongs to; runs in another thread.
        application: of ASGI.
        scope: of the request; copied.
        receive: of ASGI, called in the present loop.
        send: of ASGI, called in the present loop.
    """
    exchange = _Crossing(receive, send, await receive())
    work = application(dict(scope), exchange.receive, exchange.send)
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


class _Crossing:
    """The two ends of an exchange; ``receive`` and ``send`` are called in the other loop.

    Args:
        receive: of the host.
        send: of the host.
        first: message of the request, which most often is all of it.
    """

    def __init__(self, receive: Any, send: Any, first: Mapping[str, Any]) -> None:
        self._here = asyncio.get_running_loop()
        self._host_receive = receive
        self._host_send = send
        self._first: Mapping[str, Any] | None = first
        self._held: list[Mapping[str, Any]] = []

    async def receive(self) -> Any:
        """The next message of the request."""
        first, self._first = self._first, None
        return first if first is not None else await self._here_do(self._host_receive())

    async def send(self, message: Mapping[str, Any]) -> None:
        """Hand over a message of the answer; its head waits for the first of the body."""
        self._held.append(message)
        if message["type"] != "http.response.start":
            held, self._held = self._held, []
            await self._here_do(self._send_all(held))

    async def _send_all(self, messages: list[Mapping[str, Any]]) -> None:
        for message in messages:
            await self._host_send(message)

    async def _here_do(self, work: Any) -> Any:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._here)
        except RuntimeError:
            # The host's loop is closed: nobody is left to hear it.
            work.close()
            return {"type": "http.disconnect"}
        return await asyncio.wrap_future(future)
