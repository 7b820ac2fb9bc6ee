"""TorchServe's predictions: a bare row or a list of rows in, a bare answer or a list of answers out.

TorchServe hands a body to the model's own code, so there is no one form of it. What that code commonly
takes is taken here: JSON of a row, of a list of rows, or of an object around them; a text for a model of
texts; arrays as at the native addresses; each of them alone or as the part ``data`` of a form. The content
type is believed where it says something; ``curl -T`` and ``curl -d`` say nothing of use, and then the bytes
decide.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from servable.artifact.signature import Signature
from servable.errors import MediaTypeUnsupported, RequestMalformed, ServableError
from servable.protocols.answers import answer_values
from servable.protocols.base import NO_HEAD, Codec, CodecLimits, Head, media_type_of
from servable.protocols.codecs import AUDIO, IMAGE, JSON, NPY, RAW, canonical, native_codecs
from servable.protocols.file_types import file_type_of
from servable.protocols.files import lone_file
from servable.protocols.multipart import FORM, parts_of
from servable.protocols.native_bytes import BytesCodec
from servable.protocols.native_schema import Problems
from servable.protocols.tfserving_large import LargeBodies
from servable.protocols.tfserving_values import Values, combined, plain_bytes
from servable.tensors import Body, Request, Response

#: The status and the class name of an error by its code, as TorchServe writes them into the body.
ERRORS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "invalid_input": (400, "BadRequestException"),
        "invalid_data": (400, "BadRequestException"),
        "malformed_request": (400, "BadRequestException"),
        "invalid_request": (400, "BadRequestException"),
        "poison_request": (400, "BadRequestException"),
        "conflict": (409, "ConflictStatusException"),
        "request_too_large": (413, "RequestEntityTooLargeException"),
        "headers_too_large": (431, "RequestEntityTooLargeException"),
        "request_timeout": (408, "RequestTimeoutException"),
        "unsupported_media_type": (415, "UnsupportedMediaTypeException"),
        "host_refused": (421, "BadRequestException"),
        "not_found": (404, "ResourceNotFoundException"),
        "file_not_found": (404, "ResourceNotFoundException"),
        "route_not_found": (404, "ResourceNotFoundException"),
        "model_not_found": (404, "ModelNotFoundException"),
        "version_not_found": (404, "ModelVersionNotFoundException"),
        "unauthenticated": (401, "InvalidKeyException"),
        "forbidden": (403, "InvalidKeyException"),
        "origin_refused": (403, "BadRequestException"),
        "method_not_allowed": (405, "MethodNotAllowedException"),
        "not_acceptable": (406, "BadRequestException"),
        "not_offered": (501, "NotImplementedException"),
        "limit_reached": (429, "TooManyRequestsException"),
        "rate_limited": (429, "TooManyRequestsException"),
        "concurrency_limited": (429, "TooManyRequestsException"),
        "quota_exhausted": (429, "TooManyRequestsException"),
        "too_many_failures": (429, "TooManyRequestsException"),
        "audit_failed": (503, "ServiceUnavailableException"),
        "unavailable": (503, "ServiceUnavailableException"),
        "model_not_ready": (503, "ServiceUnavailableException"),
        "overloaded": (503, "ServiceUnavailableException"),
        "model_died": (503, "ServiceUnavailableException"),
        "server_stopping": (503, "ServiceUnavailableException"),
        "deadline_exceeded": (504, "RequestTimeoutException"),
    }
)
_UNKNOWN = (500, "InternalServerException")
_WANTED = "send a row, or a list of rows"
#: Content types of which programs make use without looking at what they send.
_SAY_NOTHING = frozenset({"", RAW, "application/x-www-form-urlencoded"})
_JSON_LIKE = re.compile(r"(application|text)/([\w.+-]+\+)?json")
_JSON_ENDS = frozenset({b"[]", b"{}", b'""'})
_NPY_MAGIC = b"\x93NUMPY"
#: Objects around a row or rows that model code of TorchServe, or our own format, knows.
_AROUND = ("instances", "inputs", "input", "data", "body")
_encode = msgspec.json.Encoder().encode


class TorchServeCodec:
    """``/predictions`` for one signature. Immutable and safe to share."""

    media_type = JSON

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self.signature = signature
        self._natives: dict[str, Codec] = native_codecs(
            signature, max_rows=limits.max_rows, max_depth=limits.max_depth
        )
        #: The content type of files that are a row as they are; empty when there are none.
        self._file = ""
        file = lone_file(signature)
        if file is not None:
            self._file = IMAGE if file.kind == "image" else AUDIO
            self._natives[self._file] = BytesCodec(signature)
        self._values = Values(signature, limits, _WANTED)
        self._large = LargeBodies(signature)
        self._labels = signature.classes
        names = {field.name for field in signature.inputs}
        self._around = tuple(key for key in _AROUND if key not in names)
        first = signature.inputs[0]
        #: Levels of lists in the first value of a row.
        self._rank = len(first.shape) if first.is_tensor else 0
        self._one = len(signature.inputs) == 1
        self._one_tensor = self._one and first.is_tensor
        self._text = self._one and not first.is_tensor and first.dtype == "str"

    # ------------------------------------------------------------------ decoding

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not what the content type says, or a form without the part ``data``.
            RequestInvalid: the values do not fit; every problem is named.
            RequestTooLarge: more rows than allowed.
            MediaTypeUnsupported: a content type that this model is not asked in.
        """
        kind = media_type_of(head)
        if kind == FORM:
            parts = parts_of(plain_bytes(body), head[b"content-type"])
            part = next((part for part in parts if part.name in ("data", "body")), None)
            if part is None:
                raise RequestMalformed('The form has no part "data"; send the rows as that part.')
            body, kind = part.body, part.media_type
        if kind in _SAY_NOTHING:
            return self._by_bytes(plain_bytes(body), request_id)
        if _JSON_LIKE.fullmatch(kind):
            return self._json(plain_bytes(body), request_id)
        if kind == "text/plain":
            return self._of_text(plain_bytes(body), request_id)
        kind = canonical(kind)
        if kind in self._natives:
            return self._native(kind, body, request_id, head)
        known = ", ".join([*self._natives, *(["text/plain"] if self._text else []), FORM])
        raise MediaTypeUnsupported(f"The content type is none of {known}; send one of them as Content-Type.")

    def _by_bytes(self, body: bytes, request_id: str) -> Request:
        if body.startswith(_NPY_MAGIC) and NPY in self._natives:
            return self._native(NPY, body, request_id, NO_HEAD)
        if self._file and file_type_of(body):
            return self._native(self._file, body, request_id, NO_HEAD)
        plain = body.strip()
        raw = RAW in self._natives
        if plain[:1] + plain[-1:] in _JSON_ENDS or not (self._text or raw):
            try:
                return self._json(body, request_id)
            except RequestMalformed:
                # A text in brackets, or numbers whose first and last bytes happen to be brackets.
                if not self._text and not (raw and b"\x00" in body):
                    raise
        return self._of_text(body, request_id) if self._text else self._native(RAW, body, request_id, NO_HEAD)

    def _of_text(self, body: bytes, request_id: str) -> Request:
        if not self._text:
            return self._json(body, request_id)
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise RequestMalformed("The body is not UTF-8; send the text encoded as UTF-8.") from error
        arrays, _ = self._values.read_rows([text], "body", Problems(), single=True)
        return Request(arrays, 1, request_id, True)

    def _native(self, kind: str, body: Body, request_id: str, head: Head) -> Request:
        # What the native codec would answer in is not asked for here.
        return msgspec.structs.replace(self._natives[kind].decode(body, request_id, head), wish=None)

    def _json(self, body: bytes, request_id: str) -> Request:
        found = self._large.bare(body)
        if found is not None:
            arrays, count, single = found
            self._values.rows.check_count(count)
            return Request(arrays, count, request_id, single)
        large = self._large.rows(body)
        if large is not None and not large[1]:
            (arrays, count, _), _ = large
            self._values.rows.check_count(count)
            return Request(arrays, count, request_id, wish=True)
        read = [self._read(content) for content in self._values.readings(body)]
        (_, count, single, enveloped), *_ = read
        return Request(combined([arrays for arrays, *_ in read]), count, request_id, single, enveloped)

    def _read(self, content: Any) -> tuple[dict[str, Any], int, bool, bool]:
        """Packed arrays, how many rows, whether it is one on its own, and whether ``instances`` were sent."""
        place = "body"
        key = self._key_around(content) if isinstance(content, dict) else ""
        if key:
            place, content = key, content[key]
        rows = key == "instances" or (isinstance(content, list) and self._is_rows(content))
        found = content if rows else [content]
        arrays, count = self._values.read_rows(found, place, Problems(), single=not rows)
        return arrays, count, not rows, key == "instances"

    def _key_around(self, content: dict[str, Any]) -> str:
        """The key under which the rows stand; empty when the object is a row itself."""
        if "instances" in content and "instances" in self._around:
            # What may stand beside it, such as parameters, is not looked at, as under ``:predict``.
            return "instances"
        return next((key for key in self._around if key in content and len(content) == 1), "")

    def _is_rows(self, values: list[Any]) -> bool:
        """Whether a list holds rows; else it is one row itself."""
        if not values or isinstance(values[0], dict | str | bytes if self._file else dict):
            return True
        if self._one_tensor:
            return _levels(values) != self._rank
        return self._one or _levels(values[0]) > self._rank

    # ------------------------------------------------------------------ encoding

    def encode(self, response: Response) -> bytes:
        """A Response to bytes: the answer to a row, or a list of answers; NaN and infinity become null.

        Rows that were sent as ``instances`` are answered as ``predictions``, as KServe's envelope does.

        Raises:
            IndexError: a class index that the signature does not have.
        """
        answers = answer_values(response.arrays, self._labels)
        if response.wish:
            return _encode({"predictions": answers})
        return _encode(answers[0] if response.single else answers)

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """An error in this format's shape; see ``error_body``."""
        return error_body(error, request_id)


def error_body(error: ServableError, _request_id: str) -> bytes:
    """``{"code": status, "type": class name, "message"}``."""
    status, kind = ERRORS.get(error.code, _UNKNOWN)
    return _encode({"code": status, "type": kind, "message": error.message})


def _levels(value: Any) -> int:
    """How deep lists stand within each other, along the first values."""
    levels = 0
    while isinstance(value, list):
        levels += 1
        value = value[0] if value else None
    return levels
