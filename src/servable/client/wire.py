"""What the client sends and how it reads what comes back. Pure; the two clients are shells around it."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from servable.client import encoding
from servable.client.results import Prediction, Predictions, ServedModel
from servable.errors import FieldProblem, RemoteError, ServableError, ServerUnreachable, SettingInvalid

T = TypeVar("T")


class Call(NamedTuple, Generic[T]):
    """One operation: what to send, and how to read a good answer.

    Attributes:
        method: the HTTP verb.
        path: below the server's address.
        read: a good answer's body to the result; raises ``msgspec.MsgspecError`` when it is something else.
        body: JSON, or None.
        request_id: the caller's own id, empty to let the server make one.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    body: bytes | None = None
    request_id: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of this call."""
        headers = {"accept": "application/json"}
        if self.body is not None:
            headers["content-type"] = "application/json"
        if self.request_id:
            headers["x-request-id"] = self.request_id
        return headers


class _ErrorDetail(msgspec.Struct):
    path: str = ""
    expected: str = ""
    got: str = ""


class _ErrorRecord(msgspec.Struct):
    code: str = ""
    message: str = ""
    request_id: str = ""
    details: list[_ErrorDetail] = []


class _ErrorBody(msgspec.Struct):
    error: _ErrorRecord


def base_url(url: str) -> str:
    """The address of a server, checked and without a slash at the end; ``localhost:8000`` gets ``http://``.

    Raises:
        SettingInvalid: not an http or https address.
    """
    text = url.strip() if "://" in url else f"http://{url.strip()}"
    text = text.rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingInvalid(f"{url!r} is no address of a server; give one such as http://127.0.0.1:8000.")
    return text


def predict(
    model: str | None,
    rows: Any,
    *,
    version: int | None = None,
    request_id: str | None = None,
    single: bool | None = None,
) -> "Call[Prediction] | Call[Predictions]":
    """Ask for predictions; see ``encoding.body`` for the forms of ``rows``.

    Args:
        model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
        rows: one row or several.
        version: asks for exactly this version.
        request_id: an id of the caller's own.
        single: see ``encoding.body``.

    Raises:
        RequestInvalid: a value that JSON cannot carry.
        SettingInvalid: a version without a model.
    """
    if model is None and version is not None:
        raise SettingInvalid("A version was given without a model; name the model too.")
    body, one = encoding.body(rows, single=single)
    path = "/predict" if model is None else f"/models/{quote(model, safe='@:')}/predict"
    if model is not None and version is not None:
        path = f"/models/{quote(model, safe='')}/versions/{int(version)}/predict"
    identity = request_id or ""
    if one:
        return Call("POST", path, _read_one, body, identity)
    return Call("POST", path, _read_many, body, identity)


def models() -> Call[tuple[ServedModel, ...]]:
    """Ask for what the server serves."""
    return Call("GET", "/models", _read_models)


def model(name: str) -> Call[ServedModel]:
    """Ask for one model's description."""
    return Call("GET", f"/models/{quote(name, safe='@:')}", _read_model)


def ready() -> Call[bool]:
    """Ask whether the server has loaded its models; its body does not matter."""
    return Call("GET", "/readyz", lambda _body: True)


def connection(url: str, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """How the underlying HTTP client is set up.

    A server on this machine is never looked for through the proxy that the environment names.
    """
    host = urlsplit(url).hostname or ""
    local = host in {"localhost", "::1"} or host.startswith("127.")
    return {"base_url": url, "headers": dict(headers or {}), "trust_env": not local}


def not_ready(url: str, timeout_s: float) -> ServerUnreachable:
    """The error for a server that did not become ready."""
    return ServerUnreachable(f"{url} was not ready within {timeout_s:g} s; look at the server's log.")


def result(call: Call[T], response: httpx.Response, url: str) -> T:
    """The outcome of a call.

    Raises:
        RemoteError: the server answered with an error, or with something that is no answer of Servable.
    """
    if not response.is_success:
        raise remote_error(response, url)
    try:
        return call.read(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as strange:
        kind = response.headers.get("content-type", "no content type")
        raise RemoteError(
            f"{url}{call.path} answered with something that is not an answer of Servable ({kind}); "
            "check that the address is a Servable server's.",
            response.status_code,
        ) from strange


def remote_error(response: httpx.Response, url: str) -> RemoteError:
    """The error that a server's answer stands for, as one sentence, with its code, fields and request id."""
    request_id = response.headers.get("x-request-id", "")
    try:
        record = msgspec.json.decode(response.content, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = f"{url} answered {response.status_code} {response.reason_phrase}.".replace(" .", ".")
        return RemoteError(message, response.status_code, request_id=request_id)
    problems = [FieldProblem(one.path, one.expected, one.got) for one in record.details]
    text = record.message or f"{url} answered {response.status_code}"
    return RemoteError(
        text, response.status_code, record.code, record.request_id or request_id, problems=problems
    )


def unreachable(failure: httpx.HTTPError | httpx.InvalidURL, url: str, timeout_s: float) -> ServableError:
    """The error for a call that got no answer at all."""
    if isinstance(failure, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return SettingInvalid(f"{url!r} is no address of a server; give one such as http://127.0.0.1:8000.")
    if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout):
        return ServerUnreachable(
            f"No server answers at {url}; start one with `servable serve`, or check the address."
        )
    if isinstance(failure, httpx.TimeoutException):
        return ServerUnreachable(
            f"{url} did not answer within {timeout_s:g} s; try again or allow more time."
        )
    what = str(failure).strip().rstrip(".") or type(failure).__name__
    return ServerUnreachable(f"The connection to {url} broke before an answer came ({what}); try again.")


def _read_one(body: bytes) -> Prediction:
    """One answer; a body without ``prediction`` is none of Servable's."""
    _require(body, "prediction")
    return msgspec.json.decode(body, type=Prediction)


def _read_many(body: bytes) -> Predictions:
    """Several answers; a body without ``predictions`` is none of Servable's."""
    _require(body, "predictions")
    return msgspec.json.decode(body, type=Predictions)


def _require(body: bytes, key: str) -> None:
    """Refuse a JSON object without this key, which a record with defaults would accept."""
    if key not in msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
        raise msgspec.ValidationError(f"no {key!r} in the answer")


def _read_models(body: bytes) -> tuple[ServedModel, ...]:
    """The list under ``models``."""
    listed = msgspec.json.decode(body, type=dict[str, Any]).get("models")
    if not isinstance(listed, list):
        raise msgspec.ValidationError("no list of models in the answer")
    return tuple(_served(entry) for entry in listed)


def _read_model(body: bytes) -> ServedModel:
    """One description."""
    return _served(msgspec.json.decode(body, type=dict[str, Any]))


def _served(entry: Any) -> ServedModel:
    """A description with its name and version found."""
    name = entry.get("name") or entry.get("model") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise msgspec.ValidationError("a model without a name in the answer")
    version = entry.get("version")
    return ServedModel(name=name, version=version if isinstance(version, int) else None, details=entry)
