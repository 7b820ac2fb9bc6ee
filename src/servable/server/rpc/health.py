"""The health service of gRPC: ``Check`` and ``Watch``."""

from collections.abc import Callable
from typing import Any

from servable.errors import AccessError, ModelNotReady, RequestMalformed, ServableError
from servable.protocols.oip_messages import HEALTH_PACKAGE, PACKAGE, SERVICE, messages
from servable.security.callers import Caller, Hidden
from servable.server.desk import Desk
from servable.server.http import HttpRequest
from servable.server.http2_stream import Carrier
from servable.server.rpc.streams import StreamCall
from servable.serving.live import Cold, Live

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
#: Services that are healthy when the server is.
_SERVICES = frozenset({"", f"{PACKAGE}.{SERVICE}", f"{HEALTH_PACKAGE}.Health"})


def asked(message: bytes) -> str:
    """The service that a ``HealthCheckRequest`` names; a model's name is taken as well.

    Raises:
        RequestMalformed: no such message.
    """
    # Whatever the library raises here is about the bytes.
    try:
        name: str = messages()["grpc.health.v1.HealthCheckRequest"].FromString(message).service
    except Exception as error:  # Protobuf has an error class for each of its implementations.
        raise RequestMalformed("The message is no HealthCheckRequest.") from error
    return name


def status_of(desk: Desk, caller: Caller, service: str) -> int:
    """How a service, or the model of that name, is.

    Raises:
        Unauthenticated: a model is asked for without a key.
    """
    if service in _SERVICES:
        return SERVING if desk.ready else NOT_SERVING
    try:
        found: Live | Cold = desk.find(caller, service)
    except ModelNotReady:
        return NOT_SERVING
    except AccessError:
        raise
    except ServableError:
        return SERVICE_UNKNOWN
    return SERVING if found is not None and desk.ready else NOT_SERVING


def answer(status: int) -> bytes:
    """A ``HealthCheckResponse``."""
    data: bytes = messages()["grpc.health.v1.HealthCheckResponse"](status=status).SerializeToString()
    return data


class Watch(StreamCall):
    """Tells how a service is, and again whenever that changed."""

    __slots__ = ("_desk", "_known", "_service")

    def __init__(
        self, carrier: Carrier, number: int, request: HttpRequest, request_id: str, desk: Desk
    ) -> None:
        super().__init__(carrier, number, request, request_id)
        self._desk = desk
        self._service: str | None = None
        self._known = 0

    def message(self, message: bytes, packed: bool) -> None:
        """Which service."""
        # Whatever is wrong with the message is the caller's to know.
        try:
            service = asked(bytes(self.unpacked(message)) if packed else message)
            if status_of(self._desk, self.request.caller, service) == SERVICE_UNKNOWN:
                self._note(service)
        except ServableError as error:
            self.refuse(error)
            return
        self._service = service
        self._tell()

    def end(self) -> None:
        """The question is whole; the answers go on."""
        if self._service is None:
            self.refuse(RequestMalformed("The call holds no message."))

    def lost(self) -> None:
        """Nobody listens any more."""

    def tick(self) -> None:
        """Tell of a change."""
        try:
            self._tell()
        except ServableError as error:
            # The caller may see the model no more.
            self.refuse(error)

    def closing(self) -> None:
        """The server goes down: say so, and end."""
        self._tell()
        self.finish()

    def _note(self, service: str) -> None:
        """Take note of a model that the caller must not know of; they are told of an unknown service."""
        try:
            self._desk.find(self.request.caller, service)
        except Hidden as error:
            self._desk.audit.denied(error, *self.asked())
        except ServableError:
            return

    def _tell(self) -> None:
        if self._service is None:
            return
        status = status_of(self._desk, self.request.caller, self._service)
        if status != self._known:
            self._known = status
            self.send(answer(status))


def check(desk: Desk) -> Callable[[bytes, Caller], Any]:
    """The method ``Check``."""

    async def method(message: bytes, caller: Caller) -> bytes:
        status = status_of(desk, caller, asked(message))
        if status == SERVICE_UNKNOWN:
            # By the service's definition an unknown service is an error here, and a status in Watch.
            desk.find(caller, asked(message))
        return answer(status)

    return method
