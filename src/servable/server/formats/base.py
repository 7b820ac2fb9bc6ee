"""How a wire format is attached to addresses.

A ``Format`` is data: the doors at which its predictions are asked for, the routes of everything else it
has, and how its errors are worded. ``server.formats.FORMATS`` lists all of them, and nothing else of the
server knows one of them by name.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.routing import Route

from servable.protocols.base import Codec, Head
from servable.server.desk import Desk
from servable.server.http import HttpRequest
from servable.server.problems import NATIVE, Style
from servable.server.streaming import Streamed
from servable.serving.live import Live
from servable.settings import ServerSettings


def by_path(found: re.Match[str], _head: Head) -> str:
    """The reference that an address names by its groups ``name``, ``version`` and ``label``.

    A name may be a reference already. Without a name it means the only or the default model.
    """
    return reference_of(found.groupdict())


def reference_of(parts: Mapping[str, str | None]) -> str:
    """The reference that the parts ``name``, ``version`` and ``label`` of an address make.

    A version that is no number is an alias.
    """
    name, version, label = parts.get("name") or "", parts.get("version"), parts.get("label")
    if version and version.isdecimal():
        return f"{name}:{version}"
    alias = version or label
    return f"{name}@{alias}" if alias else name


class OpenRoute(Route):
    """An address that also answers callers without a key: a sign of life, which says nothing of any model."""


class Streaming(NamedTuple):
    """How requests at a door are answered piece by piece.

    Attributes:
        asked: whether a request is one of them, by its headers.
        begin: the answer to one, by the reference of its model, the request and its id; raises
            ``ServableError`` as long as nothing was sent.
    """

    asked: Callable[[Head], bool]
    begin: Callable[[Desk, str, HttpRequest, str], Awaitable[Streamed]]


class Door(NamedTuple):
    """Where predictions are asked for in one wire format, always with POST.

    Attributes:
        pattern: of the whole decoded path.
        codec: the codec of a request to a model, by its headers; raises ``MediaTypeUnsupported``.
        style: how errors are worded.
        reference: which model is meant; the empty one is the only or default model.
        lasting: whether the path alone says which model, so that it is looked up once.
        streaming: how some of its requests are answered piece by piece; None when none is.
    """

    pattern: re.Pattern[str]
    codec: Callable[[Live, Head], Codec]
    style: Style = NATIVE
    reference: Callable[[re.Match[str], Head], str] = by_path
    lasting: bool = True
    streaming: Streaming | None = None

    def streams(self, method: bytes, head: Head) -> bool:
        """Whether a request is answered piece by piece."""
        return self.streaming is not None and method == b"POST" and self.streaming.asked(head)


class Asked(NamedTuple):
    """A door that a request came to, and the model that it means."""

    door: Door
    reference: str


class Format(NamedTuple):
    """One wire format.

    Attributes:
        name: for people.
        doors: where its predictions are asked for.
        routes: everything else of it, made for one server; errors raised there are worded in its style.
        style: how errors are worded at addresses that ``covers`` matches and no door does.
        covers: the addresses that belong to the format, from their beginning; None for no others.
        chosen: further doors, at addresses that settings name.
        leads: whether its routes go before the server's own, because settings name their addresses.
    """

    name: str
    doors: tuple[Door, ...] = ()
    routes: Callable[[Desk], list[Route]] = lambda _: []
    style: Style = NATIVE
    covers: re.Pattern[str] | None = None
    chosen: Callable[[ServerSettings], tuple[Door, ...]] = lambda _: ()
    leads: bool = False
