"""A connection that turns out to speak HTTP/2 is handed over to one that does."""

import asyncio

from servable.server.shared import Member, Shared


def become_http2(connection: Member, shared: Shared, transport: asyncio.Transport, came: bytes) -> None:
    """Speak HTTP/2 from now on, as soon as everything for it is imported.

    Args:
        connection: that speaks HTTP/1.1 and reads nothing more.
        shared: with all connections.
        transport: to the client.
        came: everything that came, the preface first.
    """
    loading = shared.load_http2()
    if loading is None:
        _hand_over(connection, shared, transport, came)
        return

    def loaded(done: "asyncio.Future[None]") -> None:
        if transport.is_closing():
            return
        if done.cancelled() or done.exception() is not None:
            transport.abort()
            return
        transport.resume_reading()
        _hand_over(connection, shared, transport, came)

    transport.pause_reading()
    loading.add_done_callback(loaded)


def _hand_over(connection: Member, shared: Shared, transport: asyncio.Transport, came: bytes) -> None:
    # Lazily: most servers have no such clients.
    from servable.server.http2 import Http2Connection

    successor = Http2Connection(shared, transport)
    shared.replaced(connection, successor)
    transport.set_protocol(successor)
    successor.begin(came)
