"""The parameters of a request in the Open Inference Protocol: what they change, and what is refused. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from servable.errors import RequestMalformed
from servable.protocols.datatypes import BYTES
from servable.protocols.face import Tensor
from servable.protocols.native_array import refuse
from servable.protocols.native_schema import close_to, shown
from servable.tensors import Terms

#: The weight of the most urgent priority, and the least weight that a priority gives.
_MOST_WEIGHT, _LEAST_WEIGHT = 4.0, 0.25
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


class Chosen(NamedTuple):
    """One output that is answered.

    Attributes:
        name: of the output.
        binary: whether it goes behind the JSON.
        classes: the best so many of each row as texts ``value:index:label``; 0 for the values as they are.
    """

    name: str
    binary: bool = False
    classes: int = 0


def terms_of(parameters: Mapping[str, Any]) -> Terms | None:
    """What a request's parameters say about when it is answered.

    ``priority`` 1 weighs four times as much in a queue as a request that names none, 2 twice, 4 and 0 as
    much, and so on, at least a quarter. ``timeout`` is in microseconds.

    Args:
        parameters: of the request.

    Raises:
        RequestInvalid: a value that is none.
        RequestMalformed: the request belongs to a sequence, which no model here keeps.
    """
    sequence = parameters.get("sequence_id")
    if sequence not in (None, 0, "") or parameters.get("sequence_start") or parameters.get("sequence_end"):
        raise RequestMalformed(
            "The models here keep nothing from one request to the next; leave the sequence parameters out."
        )
    priority = _count(parameters, "priority")
    timeout = _count(parameters, "timeout")
    if not priority and not timeout:
        return None
    weight = max(_LEAST_WEIGHT, _MOST_WEIGHT / priority) if priority else None
    return Terms(timeout * 1e-6 if timeout else None, weight)


def _count(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < 2**64:
        raise refuse(f"parameters.{name}", "a whole number of 0 or more", shown(value))
    return value


def flag(parameters: Mapping[str, Any] | None, name: str, default: bool, place: str) -> bool:
    """A parameter that is true or false.

    Raises:
        RequestInvalid: it is neither.
    """
    value = parameters.get(name) if parameters else None
    if value is None:
        return default
    if type(value) is not bool:
        raise refuse(f"{place}.parameters.{name}".lstrip("."), "true or false", shown(value))
    return value


def chosen(
    name: str,
    parameters: Mapping[str, Any] | None,
    outputs: Mapping[str, Tensor],
    *,
    binary: bool,
    place: str,
) -> Chosen:
    """One output that is asked for.

    Args:
        name: as the caller wrote it.
        parameters: of the output.
        outputs: of the model, by name.
        binary: whether it is binary unless it says otherwise.
        place: where it stands, for messages.

    Raises:
        RequestInvalid: no such output, or a parameter that does not fit it.
    """
    tensor = outputs.get(name)
    if tensor is None:
        known = ", ".join(outputs)
        hint = close_to(name, list(outputs))
        raise refuse(f"{place}.name", f"one of {known}{hint}", shown(name))
    if not parameters:
        return Chosen(name, binary)
    if "shared_memory_region" in parameters:
        raise no_shared_memory(place)
    binary = flag(parameters, "binary_data", binary, place)
    classes = parameters.get("classification")
    if classes is None:
        return Chosen(name, binary)
    if type(classes) is not int or not 0 <= classes < 2**31:
        raise refuse(f"{place}.parameters.classification", "a whole number of 1 or more", shown(classes))
    if classes and tensor.datatype == BYTES:
        raise refuse(f"{place}.parameters.classification", "an output of numbers", f"{name}, which is BYTES")
    return Chosen(name, binary, classes)


def no_shared_memory(place: str) -> RequestMalformed:
    """What a caller is told who points at memory in place of sending data."""
    return RequestMalformed(f"{place} lies in shared memory, which is not served; send the data itself.")
