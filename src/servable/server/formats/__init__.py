"""The wire formats of a server, one file each; here is the list of them."""

from collections.abc import Iterable

from starlette.routing import Route

from servable.protocols.base import Head
from servable.server.desk import Desk
from servable.server.formats import mlflow, native, openai, sagemaker
from servable.server.formats.base import Asked, Format
from servable.server.problems import NATIVE, Style

#: Every format; where two could claim an address, the first one has it.
FORMATS: tuple[Format, ...] = (native.FORMAT, mlflow.FORMAT, sagemaker.FORMAT, openai.FORMAT)
_DOORS = tuple(door for each in FORMATS for door in each.doors)


def asked_for(path: str, head: Head) -> Asked | None:
    """What a request for a prediction means; None when the address is none for predictions.

    Args:
        path: decoded, without the query.
        head: the request's headers.
    """
    for door in _DOORS:
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


def format_routes(desk: Desk) -> Iterable[Route]:
    """The routes of all formats."""
    for each in FORMATS:
        yield from each.routes(desk)
