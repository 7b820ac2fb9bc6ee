"""How a prediction is asked for in each wire format, and what its answers and errors look like."""

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import grpc
from servable.protocols import tfserving_messages
from servable.protocols.oip_messages import messages
from serving.making import COLUMNS
from serving.making_texts import vector_of

ROW = [5.1, 3.5, 1.4, 0.2]
PREDICT_ROUTE = "/vertex/predict"
_JSON = "application/json"
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Told(NamedTuple):
    """An answer; ``status`` is that of HTTP, or the name of gRPC's."""

    status: int | str
    headers: Mapping[str, str]
    body: bytes


class Way(NamedTuple):
    """One way to name a model: the address, further headers, and what the body says."""

    path: str
    headers: Mapping[str, str] = {}
    model: str = ""


class Form(NamedTuple):
    """One wire format.

    Attributes:
        name: of the format.
        ways: every way to name version 1 of ``model``, which is also its champion.
        absent: ways that name nothing that is there.
        body: of a good request, by what the body says of the model.
        bad: bodies that do not fit, and their statuses.
        right: whether a body answers the good request.
        refused: the message of an error; demands that it has the format's own shape, and nothing else.
        full: the status when there is no room, and in ``late`` when there is no time.
        missing: the status when there is no such model.
        method: of gRPC; empty for forms over HTTP.
    """

    name: str
    ways: tuple[Way, ...]
    absent: tuple[Way, ...]
    body: Callable[[str], bytes]
    bad: tuple[tuple[bytes, int | str], ...]
    right: Callable[[bytes], bool]
    refused: Callable[[Told], str]
    content_type: str = _JSON
    full: int | str = 503
    late: int | str = 504
    missing: int | str = 404
    model: str = "iris"
    method: str = ""

    def ask(self, url: str, way: Way | None = None, body: bytes | None = None, **headers: str) -> Told:
        """Ask; headers are given with underscores."""
        way = way or self.ways[0]
        content = self.body(way.model) if body is None else body
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.method:
            return _call(url, self.method, content, {**way.headers, **more})
        more |= {"content-type": self.content_type, **way.headers}
        return post(url, way.path, content, more)


def post(url: str, path: str, body: bytes, headers: Mapping[str, str]) -> Told:
    """A POST on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("POST", quote(path), body, dict(headers))
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Told(answer.status, told, answer.read())
    finally:
        connection.close()


def _call(url: str, method: str, message: bytes, metadata: Mapping[str, str]) -> Told:
    with grpc.insecure_channel(urlsplit(url).netloc) as channel:
        timeout = float(metadata.get("timeout-s", 60))
        sent = [(name, value) for name, value in metadata.items() if name != "timeout-s"]
        # The call holds its own end, good or bad, once it has one.
        call: Any = channel.unary_unary(method).future(message, timeout=timeout, metadata=sent)
        status, trailers = call.code(), dict(call.trailing_metadata() or ())
        body = call.result() if status is grpc.StatusCode.OK else call.details().encode()
        return Told(status.name, trailers, body)


# ---------------------------------------------------------------------- shapes of errors


def _json_error(told: Told) -> Any:
    assert told.headers["content-type"] == _JSON
    return json.loads(told.body)


def _plain(told: Told) -> str:
    content = _json_error(told)
    assert content.keys() == {"error"}
    assert isinstance(content["error"], str)
    return str(content["error"])


def _native(told: Told) -> str:
    content = _json_error(told)
    assert content.keys() == {"error"}
    assert content["error"].keys() == {"code", "message", "request_id", "details"}
    return str(content["error"]["message"])


def _invocations(told: Told) -> str:
    content = _json_error(told)
    assert content.keys() == {"error_code", "message", "request_id"}
    return str(content["message"])


def _torchserve(told: Told) -> str:
    content = _json_error(told)
    assert content.keys() == {"code", "type", "message"}
    assert content["code"] == told.status
    return str(content["message"])


def _openai(told: Told) -> str:
    content = _json_error(told)
    assert content.keys() == {"error"}
    assert content["error"].keys() == {"message", "type", "param", "code"}
    return str(content["error"]["message"])


def _grpc(told: Told) -> str:
    assert told.status in {code.name for code in grpc.StatusCode} - {"OK", "UNKNOWN", "INTERNAL"}
    return told.body.decode()


# ---------------------------------------------------------------------- bodies


def _of(content: Any) -> Callable[[str], bytes]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda _: body


def _paths(*paths: str) -> tuple[Way, ...]:
    return tuple(Way(path) for path in paths)


def _references(pattern: str, *names: str) -> tuple[Way, ...]:
    return _paths(*(pattern.replace("NAME", name) for name in names))


def _message(model: str, version: str = "", values: Any = ROW, name: str = "input") -> bytes:
    request = messages()["inference.ModelInferRequest"](model_name=model, model_version=version)
    tensor = request.inputs.add(name=name, datatype="FP64", shape=[1, len(values)])
    tensor.contents.fp64_contents.extend(values)
    return bytes(request.SerializeToString())


def _grpc_body(said: str) -> bytes:
    name, _, version = said.partition("/")
    return _message(name, version)


def _grpc_right(body: bytes) -> bool:
    answer = messages()["inference.ModelInferResponse"].FromString(body)
    return (answer.model_name, answer.model_version, answer.outputs[0].name) == ("iris", "1", "prediction")


def _predict_message(said: str, values: Any = ROW) -> bytes:
    """A ``PredictRequest``; a number behind a stroke is a version, a word a label."""
    name, _, version = said.partition("/")
    request = tfserving_messages.messages()["tensorflow.serving.PredictRequest"]()
    request.model_spec.name = name
    if version.isdecimal():
        request.model_spec.version.value = int(version)
    elif version:
        request.model_spec.version_label = version
    tensor = request.inputs["input"]
    tensor.dtype = 2
    for size in (1, len(values)):
        tensor.tensor_shape.dim.add(size=size)
    tensor.double_val.extend(values)
    return bytes(request.SerializeToString())


def _predict_right(body: bytes) -> bool:
    answer = tfserving_messages.messages()["tensorflow.serving.PredictResponse"].FromString(body)
    spec = answer.model_spec
    labels = {name: list(tensor.string_val) for name, tensor in answer.outputs.items()}
    return (spec.name, spec.version.value, labels) == ("iris", 1, {"prediction": [b"setosa"]})


def _label(*keys: Any) -> Callable[[bytes], bool]:
    """Whether the label of an answer, found by keys one after the other, is the right one."""

    def right(body: bytes) -> bool:
        found: Any = json.loads(body)
        for key in keys:
            found = found[key]
        return bool(found == "setosa")

    return right


def _embeds(body: bytes) -> bool:
    return bool(json.loads(body)["data"][0]["embedding"] == vector_of("good").tolist())


_SAME = ("iris", "iris@champion", "iris:1")
_NONE = ("nope", "iris@nope", "iris:9")
_TENSOR = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}
_SPLIT = {"dataframe_split": {"columns": list(COLUMNS), "data": [ROW]}}
_TARGET = "X-Amzn-SageMaker-Target-Model"
_VARIANT = "X-Amzn-SageMaker-Target-Variant"
#: Bodies that are bad wherever JSON is read.
_NO_JSON = (b"", b"{", b"[1", b"\xff\xfe", b"[" * 2000, b'"text"')


def _bad(*wrong: Any, malformed: int = 400, invalid: int = 400) -> tuple[tuple[bytes, int | str], ...]:
    bodies = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in wrong]
    return (*((body, malformed) for body in _NO_JSON), *((body, invalid) for body in bodies))


FORMS = (
    Form(
        "native",
        (
            *_references("/models/NAME/predict", *_SAME),
            *_references("/models/iris/versions/NAME/predict", "1", "champion"),
            Way("/predict"),
        ),
        _references("/models/NAME/predict", *_NONE),
        _of({"input": ROW}),
        _bad({"input": [1, 2, 3, "x"]}, {"inputs": []}, {}, invalid=422),
        _label("prediction"),
        _native,
    ),
    Form(
        "OIP REST",
        (
            *_references("/v2/models/NAME/infer", *_SAME),
            *_references("/v2/models/iris/versions/NAME/infer", "1", "champion"),
        ),
        _references("/v2/models/NAME/infer", *_NONE),
        _of(_TENSOR),
        _bad({"inputs": []}, {"inputs": [{**_TENSOR["inputs"][0], "shape": [1, 3]}]}, {}),
        _label("outputs", 0, "data", 0),
        _plain,
        late=503,
    ),
    Form(
        "OIP gRPC",
        tuple(Way("", {}, said) for said in ("iris", "iris@champion", "iris:1", "iris/1", "iris/champion")),
        tuple(Way("", {}, said) for said in (*_NONE, "iris/9", "iris/nope")),
        _grpc_body,
        (
            (b"\xff", "INVALID_ARGUMENT"),
            (_message("iris", values=ROW[:3]), "INVALID_ARGUMENT"),
            (_message("iris", values=[]), "INVALID_ARGUMENT"),
        ),
        _grpc_right,
        _grpc,
        full="UNAVAILABLE",
        late="DEADLINE_EXCEEDED",
        missing="NOT_FOUND",
        method=_INFER,
    ),
    Form(
        "TensorFlow Serving gRPC",
        tuple(
            Way("", {}, said)
            for said in ("iris", "iris@champion", "iris:1", "iris/1", "iris/0", "iris/champion")
        ),
        tuple(Way("", {}, said) for said in (*_NONE, "iris/9", "iris/nope")),
        _predict_message,
        (
            (b"\xff", "INVALID_ARGUMENT"),
            (_predict_message("iris", ROW[:3]), "INVALID_ARGUMENT"),
            (_predict_message("iris", []), "INVALID_ARGUMENT"),
        ),
        _predict_right,
        _grpc,
        full="UNAVAILABLE",
        late="DEADLINE_EXCEEDED",
        missing="NOT_FOUND",
        method=_PREDICT,
    ),
    Form(
        "TensorFlow Serving",
        (
            *_references("/v1/models/NAME:predict", *_SAME),
            *_references("/v1/models/iris/versions/NAME:predict", "1", "0"),
            Way("/v1/models/iris/labels/champion:predict"),
        ),
        (*_references("/v1/models/NAME:predict", *_NONE), Way("/v1/models/iris/labels/nope:predict")),
        _of({"inputs": {name: [[value]] for name, value in zip(COLUMNS, ROW, strict=True)}}),
        _bad({"inputs": {}}, {"inputs": {COLUMNS[0]: [["x"]]}}, {"instances": [ROW], "inputs": [ROW]}),
        _label("outputs", 0),
        _plain,
    ),
    Form(
        "KServe V1",
        (
            *_references("/v1/models/NAME:predict", *_SAME),
            *_references("/v1/models/iris/versions/NAME:predict", "1", "champion"),
        ),
        _references("/v1/models/NAME:predict", *_NONE),
        _of({"instances": [ROW]}),
        _bad({"instances": 3}, {"instances": [[1, 2, 3, "x"]]}, {"instances": []}),
        _label("predictions", 0),
        _plain,
    ),
    Form(
        "MLflow",
        (*_references("/models/NAME/invocations", *_SAME), Way("/invocations")),
        _references("/models/NAME/invocations", *_NONE),
        _of(_SPLIT),
        _bad({"dataframe_split": {"columns": ["x"], "data": [[1]]}}, {**_SPLIT, "instances": [ROW]}, {}),
        _label("predictions", 0),
        _invocations,
    ),
    Form(
        "SageMaker",
        (
            *_references("/models/NAME/invoke", *_SAME),
            Way("/invocations"),
            *(Way("/invocations", {_TARGET: name}) for name in (*_SAME, "iris.tar.gz")),
            *(Way("/invocations", {_TARGET: "iris", _VARIANT: name}) for name in ("1", "champion")),
        ),
        (
            *_references("/models/NAME/invoke", *_NONE),
            *(Way("/invocations", {_TARGET: name}) for name in _NONE),
            Way("/invocations", {_TARGET: "iris", _VARIANT: "9"}),
        ),
        _of(",".join(map(str, ROW)).encode()),
        ((b"", 400), (b"1,2,3,x", 400), (b"1,2,3", 400), (b"\xff\xfe", 400), (b'"', 400)),
        _label("predictions", 0),
        _invocations,
        content_type="text/csv",
    ),
    Form(
        "TorchServe",
        (
            *_references("/predictions/NAME", *_SAME),
            *_references("/predictions/iris/NAME", "1", "1.0", "champion"),
        ),
        (*_references("/predictions/NAME", *_NONE), Way("/predictions/iris/9.0")),
        _of([ROW]),
        _bad({"data": 3}, [[1, 2, 3, "x"]], []),
        _label(0),
        _torchserve,
    ),
    Form(
        "Vertex AI",
        (Way(PREDICT_ROUTE),),
        (),
        _of({"instances": [ROW], "parameters": {}}),
        _bad({"instances": 3}, {"instances": [[1, 2, 3, "x"]]}, {"instances": []}),
        _label("predictions", 0),
        _plain,
    ),
    Form(
        "OpenAI",
        tuple(
            Way(f"{prefix}/embeddings", {}, name)
            for prefix in ("/v1", "/openai/v1", "/v3")
            for name in ("embedder", "embedder@champion", "embedder:1")
        ),
        tuple(Way("/v1/embeddings", {}, name) for name in ("nope", "embedder@nope", "embedder:9")),
        lambda model: json.dumps({"model": model, "input": "good"}).encode(),
        _bad({"model": "embedder"}, {"model": "embedder", "input": 3.5}, {"model": 7, "input": "good"}),
        _embeds,
        _openai,
        model="embedder",
    ),
)
