"""Puts models into an application that speaks WSGI: Flask, Django, or any other.

The models live in one thread with an event loop, which begins with the first request of a process: a
server that loads the application first and forks then gets one in each of its workers. The server's own
threads read the body, hand the request over, and wait for the answer.
"""

import asyncio
import contextlib
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from servable.engines.tenant import Keeper, Plan, Tenant, plan_of
from servable.errors import RequestMalformed, ServableError
from servable.logs import logger
from servable.server.checks import too_large
from servable.server.refusing import refuse

_log = logger("embedded")
_CHUNK = 256 * 1024
#: Headers that belong to the connection, which is the server's.
_CONNECTIONS = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_UNPREFIXED = {"CONTENT_TYPE": b"content-type", "CONTENT_LENGTH": b"content-length"}

Message = Mapping[str, Any]


def wsgi(
    *models: str | Path,
    home: str | Path | None = None,
    sample: str | Path | None = None,
    trust: bool = False,
    **settings: Any,
) -> "EmbeddedWsgi":
    """Models as a WSGI application, to be mounted under Flask or Django or served by any WSGI server.

    Nothing is read or loaded before the first request of a process. Everything else is as with ``asgi``.

    Args:
        models: as of ``asgi``.
        home: as of ``asgi``.
        sample: as of ``asgi``.
        trust: as of ``asgi``.
        settings: as of ``asgi``.

    Raises:
        SettingInvalid: a setting does not exist or cannot be used.
    """
    return EmbeddedWsgi(plan_of(models, home, sample, trust, settings))


class EmbeddedWsgi:
    """A WSGI application of the models of a plan. Safe to call from any thread.

    Args:
        plan: what is to be served.
    """

    def __init__(self, plan: Plan) -> None:
        self._keeper = Keeper(plan)
        self._most = plan.settings.max_body_bytes

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request; see PEP 3333."""
        scope = scope_of(environ)
        body: bytes | ServableError
        try:
            body = body_of(environ, self._most)
        except ServableError as error:
            body = error
        tenant, loop = self._keeper.found()
        answer = _Answer(tenant, loop, scope, body)
        try:
            status, headers = answer.head()
        except BaseException:
            answer.close()
            raise
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return answer

    def close(self) -> None:
        """Close every model after its last request. A later request loads anew."""
        self._keeper.close()


def scope_of(environ: Mapping[str, Any]) -> dict[str, Any]:
    """The ASGI scope of a WSGI request."""
    # WSGI holds bytes in texts, each character one of them.
    prefix = _bytes(environ.get("SCRIPT_NAME", "")).rstrip(b"/")
    inner = _bytes(environ.get("PATH_INFO", "")) or b"/"
    headers = [
        (name[5:].replace("_", "-").lower().encode("latin-1"), _bytes(value))
        for name, value in environ.items()
        if name.startswith("HTTP_") and isinstance(value, str)
    ]
    headers += [(header, _bytes(environ[name])) for name, header in _UNPREFIXED.items() if environ.get(name)]
    port = str(environ.get("SERVER_PORT", ""))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")).rpartition("/")[2],
        "method": str(environ["REQUEST_METHOD"]).upper(),
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": _text(prefix) + _text(inner),
        "raw_path": quote(prefix + inner).encode("ascii"),
        "query_string": _bytes(environ.get("QUERY_STRING", "")),
        "root_path": _text(prefix),
        "headers": headers,
        "client": (str(environ.get("REMOTE_ADDR", "")), 0),
        "server": (str(environ.get("SERVER_NAME", "")), int(port) if port.isdigit() else None),
    }


def body_of(environ: Mapping[str, Any], most: int) -> bytes:
    """The whole body of a WSGI request.

    Args:
        environ: of the request. Without a length the body ends where the server says so
            (``wsgi.input_terminated``); a server that says nothing has none.
        most: bytes that are allowed.

    Raises:
        RequestTooLarge: it is larger.
        RequestMalformed: its length is no number, it ended early, or its end cannot be known.
    """
    said = str(environ.get("CONTENT_LENGTH") or "").strip()
    if said and not (said.isascii() and said.isdigit() and len(said) < 20):
        raise RequestMalformed("The header Content-Length must be a whole number of bytes.")
    ends = bool(environ.get("wsgi.input_terminated"))
    if not said and not ends:
        if environ.get("HTTP_TRANSFER_ENCODING"):
            raise RequestMalformed("The body has no length, which this server needs; send Content-Length.")
        return b""
    wanted = int(said) if said else most + 1
    if said and wanted > most:
        raise too_large(most)
    body = _read(environ["wsgi.input"], wanted)
    if len(body) > most:
        raise too_large(most)
    if said and len(body) < wanted:
        raise RequestMalformed("The body ended before the bytes that Content-Length names.")
    return body


def _read(stream: Any, wanted: int) -> bytes:
    parts, missing = [], wanted
    # A server raises whatever it likes when its client left; a body that ended early says the same.
    with contextlib.suppress(OSError):
        while missing:
            part = stream.read(min(missing, _CHUNK))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
    return b"".join(parts)


class _Answer:
    """One request in the loop of the models, and its answer as the server's thread takes it.

    Args:
        tenant: answers.
        loop: that it belongs to.
        scope: of ASGI.
        body: whole, or what is wrong with it.
    """

    def __init__(
        self,
        tenant: Tenant,
        loop: asyncio.AbstractEventLoop,
        scope: Mapping[str, Any],
        body: bytes | ServableError,
    ) -> None:
        self._tenant = tenant
        self._loop = loop
        self._scope = scope
        self._body: bytes | ServableError | None = body
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._taken: asyncio.Event | None = None
        self._over = False
        self._future: Future[None] = asyncio.run_coroutine_threadsafe(self._run(), loop)
        # Also when the loop ends before the answer, so that the server's thread never waits for nothing.
        self._future.add_done_callback(lambda _: self._messages.put(None))

    # ------------------------------------------------------------------ in the server's thread

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Wait for the status and the headers."""
        message = self._messages.get()
        if message is None:
            self._over = True
            return 500, [("content-length", "0")]
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in message["headers"]
            if name.lower() not in _CONNECTIONS
        ]
        return message["status"], headers

    def __iter__(self) -> Iterator[bytes]:
        while not self._over:
            message = self._messages.get()
            if message is None:
                break
            self._over = not message.get("more_body", False)
            if self._taken is not None and not self._over:
                self._loop.call_soon_threadsafe(self._taken.set)
            data = message.get("body", b"")
            if data and self._scope["method"] != "HEAD":
                yield bytes(data)

    def close(self) -> None:
        """The server has sent everything, or its client left."""
        if not self._over:
            self._future.cancel()

    # ------------------------------------------------------------------ in the loop

    async def _run(self) -> None:
        self._taken = asyncio.Event()
        begun = False

        async def send(message: Message) -> None:
            nonlocal begun
            begun = True
            self._messages.put(message)
            if message.get("more_body", False):
                # The next piece is made when this one was taken.
                taken = self._taken
                if taken is not None:
                    await taken.wait()
                    taken.clear()

        try:
            await self._tenant(self._scope, self._receive, send)
        except Exception as error:  # noqa: BLE001 - the border to the server: it gets an answer, the log the cause
            _log.exception("a request failed inside")
            if not begun:
                await refuse(error, self._scope, send, self._tenant.settings)

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if isinstance(body, ServableError):
            raise body
        if body is None:
            # That a client left is only found out by the server, when it sends; ``close`` cancels this.
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": body, "more_body": False}


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", errors="replace")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
