"""Server reflection: a generic client asks which services there are and what their messages look like."""

from typing import Any

from servable.errors import RequestMalformed, ServableError
from servable.protocols.oip_messages import (
    HEALTH_PACKAGE,
    HEALTH_SERVICE,
    PACKAGE,
    REFLECTION_PACKAGES,
    REFLECTION_SERVICE,
    SERVICE,
    messages,
)
from servable.protocols.tfserving_messages import MODEL_SERVICE, PREDICTION_SERVICE
from servable.protocols.tfserving_messages import PACKAGE as TENSORFLOW_PACKAGE
from servable.protocols.tfserving_messages import messages as tensorflow_messages
from servable.server.http import HttpRequest
from servable.server.http2_stream import Carrier
from servable.server.rpc.framing import INVALID_ARGUMENT, NOT_FOUND
from servable.server.rpc.streams import StreamCall

SERVICES = (
    f"{PACKAGE}.{SERVICE}",
    f"{TENSORFLOW_PACKAGE}.{PREDICTION_SERVICE}",
    f"{TENSORFLOW_PACKAGE}.{MODEL_SERVICE}",
    f"{HEALTH_PACKAGE}.{HEALTH_SERVICE}",
    *(f"{package}.{REFLECTION_SERVICE}" for package in REFLECTION_PACKAGES),
)


class Reflection(StreamCall):
    """Answers each question as it comes."""

    __slots__ = ("_package",)

    def __init__(
        self, carrier: Carrier, number: int, request: HttpRequest, request_id: str, package: str
    ) -> None:
        super().__init__(carrier, number, request, request_id)
        self._package = package

    def message(self, message: bytes, packed: bool) -> None:
        """One question."""
        try:
            self.send(reply(self._package, bytes(self.unpacked(message)) if packed else message))
        except ServableError as error:
            self.refuse(error)

    def end(self) -> None:
        """No more questions."""
        self.finish()

    def lost(self) -> None:
        """Nobody asks any more."""

    def closing(self) -> None:
        """The server goes down."""
        self.finish()


def reply(package: str, message: bytes) -> bytes:
    """The answer to a ``ServerReflectionRequest``.

    Args:
        package: ``grpc.reflection.v1`` or ``grpc.reflection.v1alpha``.
        message: the request.

    Raises:
        RequestMalformed: no such message.
    """
    known = messages()
    # Whatever the library raises here is about the bytes.
    try:
        request = known[f"{package}.ServerReflectionRequest"].FromString(message)
    except Exception as error:  # Protobuf has an error class for each of its implementations.
        raise RequestMalformed("The message is no ServerReflectionRequest.") from error
    answer = known[f"{package}.ServerReflectionResponse"](valid_host=request.host, original_request=request)
    question = request.WhichOneof("message_request")
    if question == "list_services":
        for name in SERVICES:
            answer.list_services_response.service.add(name=name)
    elif question in ("file_by_filename", "file_containing_symbol"):
        _describe(answer, question, getattr(request, question))
    elif question is None:
        _error(answer, INVALID_ARGUMENT, "The request asks for nothing.")
    else:
        _error(answer, NOT_FOUND, "There are no extensions.")
    data: bytes = answer.SerializeToString()
    return data


def _describe(answer: Any, question: str, name: str) -> None:
    for known in (messages(), tensorflow_messages()):
        pool: Any = known.pool
        find = pool.FindFileByName if question == "file_by_filename" else pool.FindFileContainingSymbol
        try:
            file = find(name)
        except KeyError:
            continue
        answer.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
        return
    _error(answer, NOT_FOUND, "There is no such file or symbol.")


def _error(answer: Any, code: int, message: str) -> None:
    answer.error_response.error_code = code
    answer.error_response.error_message = message
