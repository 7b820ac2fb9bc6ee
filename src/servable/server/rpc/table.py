"""Every method of gRPC by its address."""

from collections.abc import Callable

from servable.errors import MediaTypeUnsupported, MethodNotAllowed, ServableError
from servable.protocols.oip_messages import (
    HEALTH_PACKAGE,
    HEALTH_SERVICE,
    PACKAGE,
    REFLECTION_PACKAGES,
    REFLECTION_SERVICE,
    REFUSED,
    SERVICE,
    messages,
)
from servable.server.admission import Admission
from servable.server.desk import Desk
from servable.server.http import Handler, HttpRequest
from servable.server.http2_stream import Carrier, Stream
from servable.server.rpc import control, health, tensorflow
from servable.server.rpc.calls import InferCall, OtherType, RefusedCall, UnaryCall
from servable.server.rpc.framing import MEDIA_TYPES
from servable.server.rpc.inference import OPEN_INFERENCE, Inference
from servable.server.rpc.reflection import Reflection
from servable.server.rpc.streams import InferStream

#: Methods that also answer callers without a key: signs of life, of a server and not of a model.
OPEN = frozenset(
    f"/{service}/{name}".encode()
    for service, names in {
        f"{PACKAGE}.{SERVICE}": ("ServerLive", "ServerReady"),
        f"{HEALTH_PACKAGE}.{HEALTH_SERVICE}": ("Check", "Watch"),
    }.items()
    for name in names
)
Opener = Callable[[Carrier, int, HttpRequest], Stream]


class Calls:
    """Opens calls. Belongs to one event loop.

    Args:
        application: words the errors.
        desk: finds models.
        admission: lets calls in.
    """

    def __init__(self, application: Handler, desk: Desk, admission: Admission) -> None:
        # Made now, so that no call waits for it.
        messages()
        self._desk = desk
        self._admission = admission
        self._inference = Inference(application, desk, admission, OPEN_INFERENCE)
        self._tensorflow = {
            address: Inference(application, desk, admission, spoken)
            for address, spoken in tensorflow.SPOKEN.items()
        }
        self._openers = self._table()
        #: Of every method.
        self.addresses = frozenset(self._openers)

    def open(self, carrier: Carrier, number: int, request: HttpRequest) -> Stream:
        """The stream of a call.

        Args:
            carrier: the connection.
            number: of the stream.
            request: its headers.
        """
        given = request.headers[b"content-type"]
        if given not in MEDIA_TYPES and given.partition(b";")[0].strip().lower() not in MEDIA_TYPES:
            return OtherType(carrier, number, request, MediaTypeUnsupported(
                "Calls of gRPC are read as application/grpc or application/grpc+proto."
            ))  # fmt: skip
        opener = self._openers.get(request.target)
        try:
            self._admission.admit(request, OPEN.__contains__)
            if opener is None or request.method != b"POST":
                raise MethodNotAllowed(
                    "There is no such method here; reflection lists those that there are.", []
                )
        except ServableError as error:
            return RefusedCall(carrier, number, request, error)
        return opener(carrier, number, request)

    def _table(self) -> dict[bytes, Opener]:
        desk, inference = self._desk, self._inference
        base = f"/{PACKAGE}.{SERVICE}/"
        table: dict[str, Opener] = {
            f"{base}ModelInfer": _asking(inference),
            f"{base}ModelStreamInfer": lambda carrier, number, request: InferStream(
                carrier, number, request, inference
            ),
            f"/{HEALTH_PACKAGE}.{HEALTH_SERVICE}/Check": self._unary(health.check(desk)),
            f"/{HEALTH_PACKAGE}.{HEALTH_SERVICE}/Watch": lambda carrier, number, request: health.Watch(
                carrier, number, request, inference.request_id(request.headers), desk
            ),
        }
        for address, others in self._tensorflow.items():
            table[address] = _asking(others)
        for address, method in tensorflow.methods(desk).items():
            table[address] = self._unary(method)
        for name, method in control.methods(desk).items():
            table[base + name] = self._unary(method)
        for name in REFUSED:
            table[base + name] = _refused(name)
        for package in REFLECTION_PACKAGES:
            table[f"/{package}.{REFLECTION_SERVICE}/ServerReflectionInfo"] = self._reflection(package)
        return {path.encode(): opener for path, opener in table.items()}

    def _unary(self, method: control.Method) -> Opener:
        return lambda carrier, number, request: UnaryCall(
            carrier, number, request, method, self._inference.request_id(request.headers)
        )

    def _reflection(self, package: str) -> Opener:
        return lambda carrier, number, request: Reflection(
            carrier, number, request, self._inference.request_id(request.headers), package
        )


def _asking(inference: Inference) -> Opener:
    return lambda carrier, number, request: InferCall(carrier, number, request, inference)


def _refused(name: str) -> Opener:
    error = MethodNotAllowed(
        f"{name} does not exist here: tensors travel in messages, and settings are files.", []
    )
    return lambda carrier, number, request: RefusedCall(carrier, number, request, error)
