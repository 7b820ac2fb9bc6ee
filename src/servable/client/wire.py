"""What the client sends and how it reads what comes back. Pure; the two clients are shells around it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from servable.client import encoding, parts
from servable.client.replies import Reply, not_ours, remote_error
from servable.client.results import Piece, Prediction, Predictions, ServedModel, Source
from servable.errors import FieldProblem, RequestInvalid, SettingInvalid
from servable.protocols.file_types import file_type_of

T = TypeVar("T")

JSON = "application/json"
NPY = "application/x-npy"
NDJSON = "application/x-ndjson"
RAW = "application/octet-stream"


class Call(NamedTuple, Generic[T]):
    """One operation: what to send, and how to read a good answer.

    Attributes:
        method: the HTTP verb.
        path: below the server's address.
        read: a good answer's body to the result; raises ``msgspec.MsgspecError`` when it is something else.
        body: what is sent, or None.
        request_id: the caller's own id, empty to let the server make one.
        media_type: of the body.
        accept: the media types in which the answer may come.
        instead: makes the call for a server that does not read this media type for this model.
        parts: what reads a good answer that comes in parts, by its headers; None for one that comes whole.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    body: bytes | None = None
    request_id: str = ""
    media_type: str = JSON
    accept: str = JSON
    instead: "Callable[[], Call[T]] | None" = None
    parts: "Callable[[httpx.Headers], parts.Parts[Any] | None]" = lambda _headers: None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of this call."""
        headers = {"accept": self.accept}
        if self.body is not None:
            headers["content-type"] = self.media_type
        if self.request_id:
            headers["x-request-id"] = self.request_id
        return headers


class How(TypedDict, total=False):
    """What may be said about one prediction besides the model and the rows; see ``Client.predict``."""

    version: int | None
    request_id: str | None
    timeout_s: float | None
    single: bool | None


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
) -> "Call[Any]":
    """Ask for predictions; see ``encoding.read`` for the forms of ``rows``.

    An array of numbers goes as it is, in the form of ``numpy.save``, and so does a single file; everything
    else goes as JSON.

    Args:
        model: a name, ``name:3`` or ``name@alias``; None for the server's only or default model.
        rows: one row or several.
        version: asks for exactly this version.
        request_id: an id of the caller's own.
        single: says whether ``rows`` is one row, where its form does not.

    Returns:
        A call that gives a ``Prediction`` for one row, and ``Predictions`` for several.

    Raises:
        RequestInvalid: a value that JSON cannot carry.
        SettingInvalid: a version without a model.
        FileMissing: a path is that of no file.
    """
    path = _path(model, version)
    file = encoding.file_body(rows)
    rows = rows if file is None else file
    table = encoding.read(rows)
    one = table.single if single is None else single
    read: Callable[[bytes], Any] = _read_one if one else partial(_read_many, source=table.source)

    def as_json() -> "Call[Any]":
        return Call("POST", path, read, encoding.json_body(table, one), request_id or "")

    if file is not None and one:
        kind = file_type_of(file) or RAW
        return Call("POST", path, read, file, request_id or "", kind, instead=as_json)
    array = encoding.npy_body(table)
    if array is None:
        return as_json()
    return Call("POST", path, read, array, request_id or "", NPY, instead=as_json)


def predict_lines(
    model: str | None, rows: Any, *, version: int | None = None, request_id: str | None = None
) -> "Call[Predictions]":
    """Ask for predictions line by line; the arguments are those of ``predict``.

    The rows go as lines as well, because a server that reads lines answers each as it is ready.

    Raises:
        RequestInvalid: a value that JSON cannot carry.
        SettingInvalid: a version without a model.
    """
    table = encoding.read(rows)
    path = _path(model, version)
    read = partial(_read_many, source=table.source)
    reader = partial(parts.of_lines, record=Prediction)

    def as_json() -> "Call[Predictions]":
        body = encoding.json_body(table, single=False)
        return Call("POST", path, read, body, request_id or "", accept=parts.LINES, parts=reader)

    body = encoding.lines_body(table)
    return Call("POST", path, read, body, request_id or "", NDJSON, parts.LINES, as_json, reader)


def stream(
    model: str | None, row: Any, *, version: int | None = None, request_id: str | None = None
) -> "Call[tuple[Piece, ...]]":
    """Ask for the answer to one row in pieces; the arguments are those of ``predict``, and raise as there."""
    return _in_pieces(predict(model, row, version=version, request_id=request_id, single=True))


def _in_pieces(call: "Call[Any]") -> "Call[tuple[Piece, ...]]":
    """The same request, at the address of answers in pieces."""
    instead = call.instead
    return call._replace(
        path=f"{call.path.removesuffix('predict')}stream",
        read=_never_whole,
        accept=parts.PIECES,
        instead=None if instead is None else lambda: _in_pieces(instead()),
        parts=partial(parts.of_pieces, record=Piece),
    )


def _path(model: str | None, version: int | None) -> str:
    """The address at which a model is asked."""
    if model is None:
        if version is not None:
            raise SettingInvalid("A version was given without a model; name the model too.")
        return "/predict"
    if version is not None:
        return f"/models/{quote(model, safe='')}/versions/{int(version)}/predict"
    return f"/models/{quote(model, safe='@:')}/predict"


def feedback(
    model: str, about: str | Prediction | Predictions, outcome: Any, row: int, said: Mapping[str, Any]
) -> Call[int]:
    """Say what turned out about one answered row, or about all rows of one request.

    Args:
        model: its name.
        about: the request's id, or its answer.
        outcome: what came true; for the answer to several rows a list with one outcome for each.
        row: place of the row within the request.
        said: what else is said about it; None values count as not said.

    Raises:
        RequestInvalid: a value that JSON cannot carry, or another number of outcomes than of answers.
    """
    request_id = about if isinstance(about, str) else about.request_id
    further = {name: value for name, value in said.items() if value is not None}
    if not isinstance(about, Predictions):
        given = {"request_id": request_id, "row": row, "outcome": outcome, **further}
        return feedback_rows(model, [given])
    outcomes = [outcome] * len(about) if outcome is None else list(outcome)
    if len(outcomes) != len(about):
        expected = f"{len(about)} outcomes, one for each answer"
        raise RequestInvalid([FieldProblem("outcome", expected, str(len(outcomes)))])
    rows = [
        {"request_id": request_id, "row": place, "outcome": each, **further}
        for place, each in enumerate(outcomes)
    ]
    return feedback_rows(model, rows)


def feedback_rows(model: str, rows: Any) -> Call[int]:
    """Say what turned out about many answered rows.

    Args:
        model: its name.
        rows: in any form that ``predict`` takes, with the columns ``request_id``, ``row``, ``outcome``,
            ``reward`` and ``observed_at`` as far as they are needed.

    Raises:
        RequestInvalid: a value that JSON cannot carry, or no rows.
    """
    body = encoding.listed_body(encoding.read(rows), "feedback")
    return Call("POST", f"/models/{quote(model, safe='@:')}/feedback", _read_accepted, body)


def models() -> Call[tuple[ServedModel, ...]]:
    """Ask for what the server serves."""
    return Call("GET", "/models", _read_models)


def model(name: str) -> Call[ServedModel]:
    """Ask for one model's description."""
    return Call("GET", f"/models/{quote(name, safe='@:')}", _read_model)


def ready() -> Call[bool]:
    """Ask whether the server has loaded its models; its body does not matter."""
    return Call("GET", "/readyz", lambda _body: True)


def connection(url: str, headers: Mapping[str, str] | None, api_key: str | None) -> dict[str, Any]:
    """How the underlying HTTP client is set up.

    A server on this machine is never looked for through the proxy that the environment names.

    Args:
        url: of the server.
        headers: sent with every request.
        api_key: sent likewise; None for none.
    """
    sent = dict(headers or {})
    if api_key is not None:
        sent["authorization"] = f"Bearer {api_key}"
    host = urlsplit(url).hostname or ""
    local = host in {"localhost", "::1"} or host.startswith("127.")
    return {"base_url": url, "headers": sent, "trust_env": not local}


def result(call: Call[T], reply: Reply, url: str) -> T:
    """The outcome of a call.

    Raises:
        RemoteError: the server answered with an error, or with something that is no answer of Servable.
    """
    if not reply.good:
        raise remote_error(reply, url)
    try:
        return call.read(reply.content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as strange:
        raise not_ours(reply.status, reply.headers, url + call.path) from strange


def _never_whole(_body: bytes) -> tuple[Piece, ...]:
    """An answer in another form than pieces, which nobody asked for."""
    raise msgspec.ValidationError("no pieces in the answer")


def _read_one(body: bytes) -> Prediction:
    """One answer; a body without ``prediction`` is none of Servable's.

    Raises:
        RequestInvalid: the server found several rows in an array that was said to be one.
    """
    if "predictions" in msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
        raise RequestInvalid([FieldProblem("input", "one row", "an array of several rows")])
    _require(body, "prediction")
    return msgspec.json.decode(body, type=Prediction)


def _read_many(body: bytes, source: Source) -> Predictions:
    """Several answers; a body without ``predictions`` is none of Servable's."""
    if "prediction" in msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
        # An array without the axis of the rows, which only the server can know to be one row.
        one = msgspec.json.decode(body, type=Prediction)
        chances = None if one.probabilities is None else (one.probabilities,)
        return Predictions(
            predictions=(one.prediction,),
            probabilities=chances,
            model=one.model,
            version=one.version,
            request_id=one.request_id,
        ).of(source)
    _require(body, "predictions")
    return msgspec.json.decode(body, type=Predictions).of(source)


def _require(body: bytes, key: str) -> None:
    """Refuse a JSON object without this key, which a record with defaults would accept."""
    if key not in msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
        raise msgspec.ValidationError(f"no {key!r} in the answer")


def _read_accepted(body: bytes) -> int:
    """How many rows of feedback were kept."""
    accepted = msgspec.json.decode(body, type=dict[str, Any]).get("accepted")
    if not isinstance(accepted, int):
        raise msgspec.ValidationError("no 'accepted' in the answer")
    return accepted


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
