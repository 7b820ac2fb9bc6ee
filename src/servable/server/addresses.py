"""What an address is called where it is written down: its form, without anything that a caller chose."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from starlette.routing import Route

from servable.server.cycle import split_target

if TYPE_CHECKING:
    from servable.server.formats.base import Door

#: What is said of an address that a server does not have.
UNKNOWN = "unknown"


class Addresses:
    """Forms of addresses, such as ``/models/{name}/predict``.

    Args:
        doors: for predictions.
        routes: everything else over HTTP.
        calls: gives the addresses of methods of gRPC, as soon as there was a call.
    """

    def __init__(
        self, doors: "Sequence[Door]", routes: Iterable[Route], calls: Callable[[], Iterable[bytes]]
    ) -> None:
        self._doors = tuple(doors)
        self._routes = tuple((route.path_regex, route.path) for route in routes)
        self._calls = calls

    def form(self, target: bytes) -> str:
        """The form of what stood after the method in a request."""
        if target in self._calls():
            return target.decode("latin-1")
        path = split_target(target)[0]
        for regex, form in self._routes:
            if regex.fullmatch(path):
                return form
        for door in self._doors:
            found = door.pattern.fullmatch(path)
            if found is not None:
                return _without_groups(path, found)
        return UNKNOWN


def _without_groups(path: str, found: re.Match[str]) -> str:
    """The path with the name of each group in place of what it matched."""
    spans = sorted((*found.span(name), name) for name, text in found.groupdict().items() if text is not None)
    parts, end = [], 0
    for start, stop, name in spans:
        if start >= end:
            parts += [path[end:start], f"{{{name}}}"]
            end = stop
    return "".join(parts) + path[end:]
