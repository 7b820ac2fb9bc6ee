"""An application inside another one: which part of an address is its own, and bodies that nobody counted.

A server of our own hands over whole requests at the root. Where the application is mounted elsewhere, the
address begins with the mount's prefix (``root_path`` of ASGI, ``SCRIPT_NAME`` of WSGI), and the limit on
bodies was kept by nobody yet.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from servable.server.checks import too_large

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


def prefix_of(scope: Mapping[str, Any]) -> str:
    """The path under which the application is mounted, without a slash at its end; empty at the root."""
    root = str(scope.get("root_path") or "").rstrip("/")
    return root if root.startswith("/") else f"/{root}" if root else ""


def target_of(scope: Mapping[str, Any]) -> bytes:
    """The part of the address that is the application's own, undecoded; ``/`` for the mount itself.

    Args:
        scope: of ASGI. Its path holds the prefix, as the specification says, or not, as some hosts do.
    """
    path, prefix = str(scope["path"]), prefix_of(scope)
    raw: bytes = scope.get("raw_path") or quote(path).encode("ascii")
    raw = raw.partition(b"?")[0]
    if not prefix or not (path == prefix or path.startswith(prefix + "/")):
        return raw or b"/"
    # The prefix may be escaped in its own way; an escaped slash inside of it counts as none.
    parts = raw.split(b"/")
    count = prefix.count("/") + 1
    if unquote(b"/".join(parts[:count]).decode("latin-1")) == prefix:
        return b"/" + b"/".join(parts[count:])
    return quote(path[len(prefix) :] or "/").encode("ascii")


def routed(scope: Mapping[str, Any]) -> dict[str, Any]:
    """A scope for a router, which may write to it; the address of the mount itself ends in a slash."""
    path = str(scope["path"])
    return {**scope, "path": f"{path}/" if path == prefix_of(scope) else path, "root_path": prefix_of(scope)}


def limited(receive: Receive, most: int) -> Receive:
    """A ``receive`` that counts the body.

    Args:
        receive: of ASGI.
        most: bytes of a body that are allowed; beyond them it raises ``RequestTooLarge``.
    """
    taken = 0

    async def counted() -> Mapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise too_large(most)
        return message

    return counted
