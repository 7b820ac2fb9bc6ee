"""The JSON of a request in the Open Inference Protocol: names, shapes, parameters, and values as they came.

Small texts are decoded straight into typed objects; texts of many numbers by simdjson, which leaves the
numbers where they are. Whatever these refuse is read again, slowly, and accepted or named: also the words
``NaN`` and ``Infinity``, which are no JSON and which clients send all the same.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import simdjson
from msgspec import UNSET

from servable.errors import FieldProblem, RequestInvalid, RequestMalformed, ServableError
from servable.protocols.native_array import refuse
from servable.protocols.native_depth import deeper_than
from servable.protocols.native_large import LARGE_BYTES
from servable.protocols.native_schema import shown
from servable.protocols.oip_values import large_array_of
from servable.tensors import Body

_T = TypeVar("_T")
_Value = str | int | float | bool | None
#: Parameters of a request, an input or an output. The protocol knows single values only; MLServer's clients
#: also send what their own server keeps there, such as headers as an object, which nothing here looks at.
Parameters = dict[str, _Value | dict[str, _Value]]

_KEPT_BYTES = 4 * 1024 * 1024
_PLACE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
_SPECIAL = (b"NaN", b"Infinity")
# Parsers that wait for use. Taking and giving back are atomic, so threads share the list without a lock.
_idle: list[simdjson.Parser] = []


class Given(msgspec.Struct, gc=False):
    """One input as it came.

    Attributes:
        name: as the caller calls it.
        shape: as the caller claims.
        datatype: as the caller claims.
        parameters: of the input.
        data: JSON values, nested or flat, or an array of simdjson; unset when they are behind the JSON.
    """

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: Any = UNSET


class Wished(msgspec.Struct, gc=False):
    """One output that is asked for.

    Attributes:
        name: of the output.
        parameters: of it.
    """

    name: str
    parameters: Parameters | None = None


class Envelope(msgspec.Struct, gc=False):
    """A whole request.

    Attributes:
        inputs: at least one.
        id: that the caller chose; None for none.
        parameters: of the request.
        outputs: that are asked for; all when there are none.
    """

    inputs: list[Given]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Wished] | None = None


_decode = msgspec.json.Decoder(Envelope).decode


def read(text: Body, max_depth: int) -> Envelope:
    """A request from its JSON text.

    Args:
        text: the JSON.
        max_depth: most levels of lists and objects within each other.

    Returns:
        The request; the values of a large text are arrays already.

    Raises:
        RequestMalformed: not JSON, nested too deeply, or not an object.
        RequestInvalid: the object is not of the form of the protocol; the place is named.
    """
    if len(text) >= LARGE_BYTES:
        found = _read_large(bytes(text))
        if found is not None:
            return found
    else:
        try:
            return _decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
    return shaped(read_slowly(bytes(text), max_depth), Envelope)


def _read_large(text: bytes) -> Envelope | None:
    """The good case of a large text; None when anything at all is unusual."""
    try:
        parser = _idle.pop()
    except IndexError:
        parser = simdjson.Parser()
    try:
        envelope = _from_document(parser.parse(text), text.count(b"["))
    except (ServableError, ValueError, TypeError, RuntimeError, LookupError, OverflowError, AttributeError):
        # What simdjson and numpy raise for a text that is not of this kind. The parser is let go
        # with the exception, which may still hold parts of the document.
        return None
    if envelope is not None and len(text) <= _KEPT_BYTES:
        _idle.append(parser)
    return envelope


def _from_document(document: Any, lists: int) -> Envelope | None:
    content = _members(document, "inputs")
    used = 1 if content.get("outputs") is None else 2
    inputs = []
    for index, each in enumerate(document["inputs"]):
        found = msgspec.convert(_members(each, "data"), Given)
        used += 1
        if "data" in each.keys():  # noqa: SIM118 - simdjson knows no other way
            array = large_array_of(found.datatype, found.shape, each["data"], f"inputs[{index}]")
            if array is None:
                return None
            found.data, more = array
            used += more
        inputs.append(found)
    # Otherwise some number stands in a list of its own, or a name holds a bracket.
    if used != lists:
        return None
    envelope = msgspec.convert({**content, "inputs": []}, Envelope)
    envelope.inputs = inputs
    return envelope


def _members(value: Any, without: str) -> dict[str, Any]:
    """An object's members but one.

    Raises:
        ValueError: a key is given twice, of which simdjson hands out the first.
    """
    keys = list(value.keys())
    if len(set(keys)) != len(keys):
        raise ValueError(without)
    return {key: _plain(value[key]) for key in keys if key != without}


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def read_slowly(text: bytes, max_depth: int) -> dict[str, Any]:
    """The object of a JSON text; ``NaN`` and ``Infinity`` are taken for what they mean.

    Raises:
        RequestMalformed: not JSON, nested too deeply, or not an object.
        RequestInvalid: a number that no float holds.
    """
    try:
        content = _values(text)
        too_deep = deeper_than(text, max_depth)
    except RecursionError:
        too_deep = True
    except UnicodeDecodeError as error:
        raise RequestMalformed("The body is not UTF-8; send JSON encoded as UTF-8.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        what = "The body is empty" if not text.strip() else "The body is not JSON"
        raise RequestMalformed(f'{what}; send {{"inputs": [...]}} of the Open Inference Protocol.') from error
    if too_deep:
        raise RequestMalformed(f"The body is nested more than {max_depth} levels deep; send flatter values.")
    if not isinstance(content, dict):
        raise RequestMalformed(f"The body is {shown(content)}; send an object of the protocol.")
    return content


def _values(text: bytes) -> Any:
    try:
        return _slow_decode(text)
    except msgspec.MsgspecError:
        if not any(word in text for word in _SPECIAL):
            raise
    return json.loads(text, parse_float=_finite)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise refuse("inputs", "numbers that 64 bits hold", "a number out of range")
    return value


_slow_decode: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=_finite).decode


def shaped(content: dict[str, Any], form: type[_T]) -> _T:
    """An object as a typed one.

    Raises:
        RequestInvalid: it is of another form; the place is named.
    """
    try:
        return msgspec.convert(content, form)
    except msgspec.ValidationError as error:
        found = _PLACE.fullmatch(str(error))
        what, place = (found[1], found[2]) if found else ("another form", None)
        expected, _, got = what.partition(", got ")
        problem = FieldProblem(
            place or "body",
            expected.removeprefix("Expected ")
            .removeprefix("Object missing required field ")
            .replace("`", '"'),
            got.replace("`", '"') or "an object without it",
        )
        raise RequestInvalid([problem]) from error
