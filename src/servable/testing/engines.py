"""The Engine seam: a fake, and the check for all engines."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from servable.engines.base import Engine
from servable.testing.expect import expect, expect_error


class _Alive(BaseHTTPRequestHandler):
    """Answers every GET with 200."""

    def do_GET(self) -> None:
        """200, and nothing more."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Silent."""


class FakeEngine:
    """Runs a server that is alive and serves no model."""

    def __init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The one address while it runs."""
        if self._server is None:
            return ()
        return (f"http://127.0.0.1:{self._server.server_address[1]}",)

    def start(self) -> None:
        """Listen on a free port."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Alive)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End. Stopping what is stopped does nothing."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None


def check_engine(make: Callable[[], Engine]) -> None:
    """Try what the Engine seam promises.

    Args:
        make: makes an engine, not started, on a free port.

    Raises:
        AssertionError: a promise is broken.
    """
    engine = make()
    expect(engine.urls == (), "there are no addresses before the start")
    engine.stop()
    engine.start()
    try:
        urls = engine.urls
        expect(len(urls) > 0, "there are addresses after the start")
        for url in urls:
            expect(not url.endswith("/"), "an address has no slash at its end")
            for path in ("/healthz", "/readyz"):
                status = httpx.get(f"{url}{path}", timeout=10.0, trust_env=False).status_code
                expect(status == 200, f"{path} answers 200 once start returned")
    finally:
        engine.stop()
    for url in urls:
        with expect_error(httpx.TransportError, "nobody listens after the stop"):
            httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False)
    engine.stop()
