"""The wire formats of a server, one file each; here is the list of them."""

from collections.abc import Iterable

from starlette.routing import Route

from servable.protocols.base import Head
from servable.server.desk import Desk
from servable.server.formats import (
    kserve_v1,
    mlflow,
    native,
    oip,
    openai,
    sagemaker,
    tfserving,
    torchserve,
    vertex,
)
from servable.server.formats.base import Asked, Door, Format
from servable.server.problems import NATIVE, Style
from servable.settings import ServerSettings

#: Every format; where two could claim an address, the first one has it.
FORMATS: tuple[Format, ...] = (
    native.FORMAT,
    oip.FORMAT,
    tfserving.FORMAT,
    kserve_v1.FORMAT,
    torchserve.FORMAT,
    vertex.FORMAT,
    mlflow.FORMAT,
    sagemaker.FORMAT,
    openai.FORMAT,
)


def doors_of(settings: ServerSettings) -> tuple[Door, ...]:
    """The doors of a server; those at addresses that its settings name come first."""
    chosen = (door for each in FORMATS for door in each.chosen(settings))
    return (*chosen, *(door for each in FORMATS for door in each.doors))


def asked_for(path: str, head: Head, doors: tuple[Door, ...]) -> Asked | None:
    """What a request for a prediction means; None when the address is none for predictions.

    Args:
        path: decoded, without the query.
        head: the request's headers.
        doors: of the server.
    """
    for door in doors:
        found = door.pattern.fullmatch(path)
        if found is not None:
            return Asked(door, door.reference(found, head))
    return None


def style_of(path: str) -> Style:
    """How an error at an address that is no door is worded."""
    for each in FORMATS:
        if each.covers is not None and each.covers.match(path):
            return each.style
    return NATIVE


def format_routes(desk: Desk, own: Iterable[Route]) -> Iterable[Route]:
    """The routes of all formats, and the server's own among them.

    Args:
        desk: what they read from.
        own: the server's own; only addresses that settings name go before them.
    """
    for each in FORMATS:
        if each.leads:
            yield from each.routes(desk)
    yield from own
    for each in FORMATS:
        if not each.leads:
            yield from each.routes(desk)
