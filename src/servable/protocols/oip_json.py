"""The Open Inference Protocol over REST, compiled for one signature.

::

    {"id", "parameters", "inputs": [{"name", "shape", "datatype", "parameters", "data"}], "outputs": [...]}
    {"model_name", "model_version", "id", "outputs": [{"name", "datatype", "shape", "data"}]}

Any tensor may be bytes behind the JSON instead (``oip_binary``), in both directions. NaN and infinity are
null in JSON and themselves in bytes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import UNSET

from servable.artifact.signature import Signature
from servable.errors import RequestMalformed, RequestTooLarge, ServableError
from servable.protocols.base import NO_HEAD, CodecLimits, Encoded, Head
from servable.protocols.datatypes import DATATYPES, from_raw
from servable.protocols.face import Face
from servable.protocols.native import most_cells
from servable.protocols.native_array import refuse
from servable.protocols.native_depth import more_commas_than
from servable.protocols.native_large import LARGE_BYTES
from servable.protocols.native_schema import shown
from servable.protocols.oip_answers import JSON, assembled, coding_of, error_body, output_of
from servable.protocols.oip_binary import SIZE, Blobs, json_length, raw_tensor
from servable.protocols.oip_envelope import Envelope, Given, read
from servable.protocols.oip_parameters import Chosen, chosen, flag, no_shared_memory, terms_of
from servable.protocols.oip_quick import QuickReader
from servable.protocols.oip_values import array_of, from_base64
from servable.tensors import Body, Request, Response, Terms

#: Commas beyond those of a full request that are still looked at: shapes, parameters and small mistakes.
_SPARE_COMMAS = 10_000
#: The parameters of a request whose outputs are all binary and which says nothing else.
_BINARY_OUTPUT = {"binary_data_output": True}
#: What the values of an input may be said to be; anything else would change their meaning.
_CONTENT_TYPES = frozenset({"np", "pd", "str", "base64", "datetime"})


class Wish(NamedTuple):
    """What a caller asks of the form of the answer.

    Attributes:
        id: of the caller's own; None for none.
        outputs: in which forms.
        coding: that the caller accepts.
    """

    id: str | None
    outputs: tuple[Chosen, ...]
    coding: str = ""


class OipCodec:
    """The protocol's REST form for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: what is refused.
    """

    media_type = JSON

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._face = face = Face(signature, limits)
        self._quick = QuickReader(signature, limits)
        self._limits = limits
        cells = most_cells(signature)
        self._most_commas = None if cells is None else limits.max_rows * cells + _SPARE_COMMAS
        self._outputs = {tensor.name: tensor for tensor in face.outputs}
        self._all = {
            binary: tuple(Chosen(name, binary) for name in self._outputs) for binary in (False, True)
        }
        self._plain = Wish(None, self._all[False])
        self._labels = {tensor.name: tensor.labels for tensor in face.outputs}

    # ------------------------------------------------------------------ decoding

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: neither JSON nor JSON with bytes behind it, or something that is not served.
            RequestInvalid: the values do not fit; the problems are named.
            RequestTooLarge: more rows than allowed.
        """
        accepted = head.get(b"accept-encoding")
        coding = coding_of(accepted) if accepted else ""
        length = json_length(head, body)
        if length == 0:
            tensors = {self._face.inputs[0].name: raw_tensor(self._face.inputs, body)}
            arrays, rows = self._face.request(tensors)
            return Request(arrays, rows, request_id, False, Wish(None, self._all[True], coding))
        envelope: Envelope
        if length is not None:
            view = memoryview(body)
            envelope = self._read(view[:length])
            rest = view[length:]
            arrays, rows = self._quick.read_bytes(envelope, rest) or self._slowly(envelope, Blobs(rest))
        elif len(body) < LARGE_BYTES and (plain := self._quick.read_text(body)) is not None:
            (arrays, rows), envelope = plain
        else:
            envelope = self._read(body)
            found = None if envelope.parameters else self._quick.read(envelope)
            arrays, rows = found or self._slowly(envelope, None)
        if envelope.outputs is None and not coding:
            if envelope.parameters is None:
                wish = self._plain if envelope.id is None else Wish(envelope.id, self._all[False])
                return Request(arrays, rows, request_id, False, wish)
            if envelope.parameters == _BINARY_OUTPUT:
                return Request(arrays, rows, request_id, False, Wish(envelope.id, self._all[True]))
        wish, terms = self._wish(envelope, coding)
        return Request(arrays, rows, request_id, False, wish, terms)

    def _read(self, text: Body) -> Envelope:
        if len(text) >= LARGE_BYTES:
            self._check_size(bytes(text))
        return read(text, self._limits.max_depth)

    def _slowly(self, envelope: Envelope, blobs: Blobs | None) -> tuple[dict[str, Any], int]:
        return self._face.request(self._tensors(envelope, blobs))

    def _check_size(self, text: bytes) -> None:
        if self._most_commas is not None and more_commas_than(text, self._most_commas):
            raise RequestTooLarge(
                f"The body holds more values than the {self._limits.max_rows} rows that are allowed; "
                "send them in several requests."
            )

    def _tensors(self, envelope: Envelope, blobs: Blobs | None) -> dict[str, Any]:
        tensors: dict[str, Any] = {}
        common = envelope.parameters.get("content_type") if envelope.parameters else None
        for index, given in enumerate(envelope.inputs):
            place = f"inputs[{index}]"
            array = given.data
            if given.parameters is not None or blobs is not None or type(array) is not list:
                array = self._unusual(given, blobs, place)
            else:
                array = array_of(given.datatype, given.shape, array, place)
            own = given.parameters.get("content_type") if given.parameters else None
            if own is not None or common is not None:
                array = _as_content(own or common, array, place)
            if given.name in tensors:
                raise refuse(f"{place}.name", "each name once", shown(given.name))
            tensors[given.name] = array
        if blobs is not None:
            blobs.end()
        if not tensors:
            raise refuse("inputs", "at least one input", "an empty list")
        return tensors

    def _unusual(self, given: Given, blobs: Blobs | None, place: str) -> Any:
        """The values of an input that is no plain list, or has parameters."""
        parameters = given.parameters or {}
        if "shared_memory_region" in parameters:
            raise no_shared_memory(place)
        size = parameters.get(SIZE)
        data = given.data
        if size is None:
            if data is UNSET:
                raise refuse(f"{place}.data", "the values of the input", "nothing")
            # A large text was read into arrays at once.
            return data if hasattr(data, "dtype") else array_of(given.datatype, given.shape, data, place)
        if data is not UNSET:
            raise refuse(f"{place}", f"either data or {SIZE}", "both")
        if blobs is None:
            blobs = Blobs(b"")
        if given.datatype not in DATATYPES:
            raise RequestMalformed(f"{place} has no known datatype; use one of {', '.join(DATATYPES)}.")
        return from_raw(given.datatype, given.shape, blobs.take(size, place), place)

    def _wish(self, envelope: Envelope, coding: str) -> tuple[Wish, Terms | None]:
        parameters = envelope.parameters
        terms = terms_of(parameters) if parameters else None
        binary = flag(parameters, "binary_data_output", False, "")
        if not envelope.outputs:
            return Wish(envelope.id, self._all[binary], coding), terms
        outputs: dict[str, Chosen] = {}
        for index, wished in enumerate(envelope.outputs):
            place = f"outputs[{index}]"
            if wished.name in outputs:
                raise refuse(f"{place}.name", "each name once", shown(wished.name))
            outputs[wished.name] = chosen(
                wished.name, wished.parameters, self._outputs, binary=binary, place=place
            )
        return Wish(envelope.id, tuple(outputs.values()), coding), terms

    # ------------------------------------------------------------------ encoding

    def encode(self, response: Response) -> bytes | Encoded:
        """A Response to bytes.

        Raises:
            IndexError: a class index that the signature does not have.
            ValueError: the model did not give an output that it has.
        """
        wish: Wish = response.wish or self._plain
        answers = self._face.answers(response)
        blobs: list[bytes] = []
        try:
            outputs = [output_of(answers[each.name], each, self._labels, blobs) for each in wish.outputs]
        except KeyError as error:
            raise ValueError("the model left an output out") from error
        content: dict[str, Any] = {"model_name": response.model, "model_version": str(response.version)}
        if wish.id is not None:
            content["id"] = wish.id
        content["outputs"] = outputs
        return assembled(content, blobs, wish.coding)

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """See ``oip_answers.error_body``."""
        return error_body(error, request_id)


def _as_content(kind: Any, array: Any, place: str) -> Any:
    """Values as their content type says."""
    if not isinstance(kind, str) or kind not in _CONTENT_TYPES:
        known = ", ".join(sorted(_CONTENT_TYPES))
        raise refuse(f"{place}.parameters.content_type", f"one of {known}", shown(kind))
    return from_base64(array, place) if kind == "base64" else array


#: Makes the codec of a model.
make: Callable[[Signature, CodecLimits], OipCodec] = OipCodec
