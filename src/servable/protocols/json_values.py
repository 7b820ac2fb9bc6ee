"""Any JSON text as plain values, refused before it can cost much: for all formats that read JSON.

Clients of some formats send Python's ``NaN``, which JSON does not have, for what is missing. Where the
strict parser stops and such a word is there, a second one reads it.
"""

import gc
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from servable.errors import RequestMalformed, RequestTooLarge
from servable.protocols.native_depth import MAX_DEPTH, deeper_than, more_commas_than

#: Bytes from which on the collector is kept away from a body.
_LARGE = 1 << 16
_decode = msgspec.json.Decoder().decode
# Numbers that no float holds become infinity here, so that their path can be named.
_decode_beyond = msgspec.json.Decoder(float_hook=float).decode
#: In columns NaN is what is missing.
_CONSTANTS: Mapping[str, Any] = {"NaN": None, "Infinity": float("inf"), "-Infinity": float("-inf")}


def _decode_anything(body: bytes) -> Any:
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        return _decode_beyond(body)


def read_json(
    body: bytes,
    hint: str,
    *,
    max_depth: int = MAX_DEPTH,
    max_commas: int | None = None,
    nan: bool = False,
    constants: Mapping[str, Any] = _CONSTANTS,
    called: str = "The body",
) -> Any:
    """A body as plain JSON values.

    Args:
        body: the whole body.
        hint: what to send instead, as the end of a sentence: ``send {...}``.
        max_depth: most levels of lists and objects within each other.
        max_commas: most commas outside of texts; None for any number.
        nan: whether ``NaN`` and ``Infinity`` are read, NaN as None and infinity as itself.
        constants: what ``NaN``, ``Infinity`` and ``-Infinity`` are read as instead.
        called: what it is, as the beginning of a sentence.

    Raises:
        RequestMalformed: not JSON, or nested too deeply.
        RequestTooLarge: more values than ``max_commas`` allows.
    """
    if max_commas is not None and len(body) > max_commas and more_commas_than(body, max_commas):
        raise RequestTooLarge(f"{called} holds more values than are allowed; send fewer rows at once.")
    try:
        # What is nested without end stops the parser long before its outline could be looked at.
        content = _parsed(body, constants if nan else None)
        too_deep = deeper_than(body, max_depth)
    except RecursionError:
        too_deep = True
    except UnicodeDecodeError as error:
        raise RequestMalformed(f"{called} is not UTF-8; send JSON encoded as UTF-8.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        reason = str(error) if isinstance(error, msgspec.MsgspecError) else "a number of too many digits"
        what = f"{called} is empty" if not body.strip() else f"{called} is not JSON ({reason})"
        raise RequestMalformed(f"{what}; {hint}.") from error
    if too_deep:
        raise RequestMalformed(f"{called} is nested more than {max_depth} levels deep; send flatter values.")
    return content


def _parsed(body: bytes, constants: Mapping[str, Any] | None) -> Any:
    try:
        return undisturbed(_decode_anything, body)
    except msgspec.MsgspecError:
        if constants is None or not has_constants(body):
            raise
        try:
            return undisturbed(partial(_loosely, constants.__getitem__), body)
        except json.JSONDecodeError:
            # The words of the strict parser are the better ones.
            pass
        raise


def has_constants(body: bytes) -> bool:
    """Whether one of the words for numbers that JSON does not have may stand in a body."""
    return b"NaN" in body or b"Infinity" in body


def _loosely(constant: Callable[[str], Any], body: bytes) -> Any:
    return json.loads(body.decode("utf-8"), parse_constant=constant)


def undisturbed(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Decode; with a large body the collector does not look at every thousand new values.

    JSON makes no cycles, so there is nothing to collect, and looking took four fifths of the time of a
    body of many small lists. Two threads may do this at once: at worst the collector runs a little early.
    """
    if len(body) < _LARGE or not gc.isenabled():
        return decode(body)
    gc.disable()
    try:
        return decode(body)
    finally:
        gc.enable()
