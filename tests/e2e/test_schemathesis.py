"""Every request that the OpenAPI document allows is answered as it says, and every other is refused."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

import servable
from servable.protocols.openapi_oip import oip_document
from serving.making import publish_heavy, publish_iris

Document = dict[str, Any]

HERE = Path(__file__).parent
COMMAND = (sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"))
REPORT = b"<!doctype html><title>report</title>"


def write_sum(path: Path, kind: int) -> Path:
    """A graph that adds the six numbers of each row: as little as can be wrong with a tensor."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["wide", "axes"], ["total"], keepdims=0),
        ],
        "sum",
        [helper.make_tensor_value_info("pixels", kind, [None, 2, 3])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def customers() -> pd.DataFrame:
    """A table with a column of every kind; the young on the basic plan leave."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 80, 300),
            "income": random.normal(3000, 500, 300).round(2),
            "plan": random.choice(["basic", "family", "premium"], 300),
            "member": random.choice([True, False], 300),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, 300), unit="D"),
        }
    )
    frame.loc[::17, "income"] = np.nan
    frame["churned"] = np.where((frame.age < 40) & (frame["plan"] == "basic"), "yes", "no")
    return frame


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of two classifiers of tables, a regression and two models of tensors."""
    folder = tmp_path_factory.mktemp("schemathesis")
    home = folder / "home"
    servable.train(
        customers(),
        target="churned",
        name="churn",
        model="logistic",
        time_budget_s=0.1,
        home=home,
        deploy=True,
    )
    publish_iris(home, report=REPORT, default=True)
    publish_heavy(home, "value", width=8, layers=1)
    for name, kind in (("floats", TensorProto.FLOAT), ("bytes", TensorProto.UINT8)):
        path = write_sum(folder / f"{name}.onnx", kind)
        servable.add(path, name=name, home=home, deploy=True)
    server = servable.serve(home=home, port=0, background=True)
    assert server is not None
    yield server.url
    server.stop()


def run(location: str, *words: str) -> str:
    """Let schemathesis ask a server everything that a description allows and much that it does not.

    Its own command is used, so that examples, corner cases, random bodies and sequences are all asked, and
    each answer passes every check that it has.
    """
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*COMMAND, "run", location, "--no-color", *words],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-20_000:]
    return said


def whole(url: str) -> Document:
    """Our document."""
    return dict(httpx.get(f"{url}/openapi.json").json())


def without_twins(document: Document) -> Document:
    """A document in which each kind of body is asked for once, a third as long to go through.

    The paths of a version and of the model that ``/predict`` asks take the very bodies of others, which is
    looked at; feedback is the same for all models but for what an outcome is, a class or a number.
    """
    paths = dict(document["paths"])

    def body(path: str) -> Any:
        return paths[path]["post"]["requestBody"]

    assert body("/models/iris/predict") == body("/predict")
    del paths["/models/iris/predict"], paths["/models/iris/versions/1/predict"]
    for name in ("bytes", "floats", "value", "churn"):
        assert body(f"/models/{name}/versions/1/predict") == body(f"/models/{name}/predict")
        if name != "churn":
            del paths[f"/models/{name}/versions/1/predict"]
    for name in ("bytes", "floats", "iris"):
        del paths[f"/models/{name}/feedback"]
    return {**document, "paths": paths}


def described_bodies(document: Document) -> Document:
    """A document with those bodies alone whose form a schema, or the strategy of the hooks, describes.

    No schema says which texts are records and which bytes are a file.
    """
    document = copy.deepcopy(document)
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            for media_type in set(content) - {"application/json", "application/octet-stream"}:
                del content[media_type]
    return document


def written(document: Document, path: Path) -> str:
    """Where a document lies, as schemathesis is told it."""
    path.write_text(json.dumps(document))
    return str(path)


def hold(document: Document, url: str, folder: Path, *words: str) -> None:
    """Hold a server against a document of ours."""
    # Whether what is described is accepted is asked where the form of the bodies is described.
    location = written(described_bodies(document), folder / "described.json")
    accepted = ("--checks", "positive_data_acceptance", "--mode", "positive", "--phases", "coverage,fuzzing")
    assert "No issues found" in run(location, "--url", url, *accepted, *words)
    # Everything else is checked for all forms.
    location = written(document, folder / "openapi.json")
    checks = ("--checks", "all", "--exclude-checks", "positive_data_acceptance")
    assert "No issues found" in run(location, "--url", url, *checks, *words)


@pytest.mark.slow
def test_our_own_document_holds(url: str, tmp_path: Path) -> None:
    hold(without_twins(whole(url)), url, tmp_path, "--seed", "20", "--max-examples", "8")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_path_of_our_own_document_holds(url: str, tmp_path: Path) -> None:
    hold(whole(url), url, tmp_path, "--seed", "20", "--max-examples", "8")


#: What a protocol that leaves names, shapes and values open can be held to.
OPEN_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)


@pytest.mark.slow
def test_the_open_inference_protocol_holds(url: str, tmp_path: Path) -> None:
    if httpx.get(f"{url}/v2").status_code == 404:
        pytest.skip("the Open Inference Protocol is not served here")
    open_protocol(url, tmp_path, "--max-examples", "8")


def open_protocol(url: str, folder: Path, *words: str) -> None:
    """Hold a server against the description of the Open Inference Protocol."""
    document = oip_document(["churn", "iris", "value", "floats", "bytes", "nobody"], ["1", "7"])
    description = folder / "oip.json"
    description.write_text(json.dumps(document))
    said = run(str(description), "--url", url, "--checks", OPEN_CHECKS, "--seed", "20", *words)
    # It warns that one of the names, which is served by nobody, is never found: that is meant.
    assert " passed" in said


def formats(url: str) -> Document:
    """The description of the other formats."""
    return dict(httpx.get(f"{url}/openapi-formats.json").json())


def without_others(document: Document) -> Document:
    """Those of the other formats that nothing else holds the server against.

    The Open Inference Protocol has a test of its own; and of the paths of TensorFlow Serving that name a
    version or a label, which take the bodies of those that do not, one verb is asked for each.
    """
    paths = {path: held for path, held in document["paths"].items() if not path.startswith("/v2")}
    assert len(paths) < len(document["paths"])
    for part, kept in (("versions/{version}", "predict"), ("labels/{label}", "regress")):
        for verb in ("predict", "classify", "regress"):
            plain, named = f"/v1/models/{{model_name}}:{verb}", f"/v1/models/{{model_name}}/{part}:{verb}"
            assert paths[named]["post"]["requestBody"] == paths[plain]["post"]["requestBody"]
            if verb != kept:
                del paths[named]
    return {**document, "paths": paths}


def hold_formats(document: Document, url: str, folder: Path) -> None:
    """Hold a server against a description of other formats."""
    words = ("--checks", OPEN_CHECKS, "--seed", "20", "--max-examples", "6")
    # It warns that most bodies are refused: which rows a model takes, no schema of these says.
    assert " passed" in run(written(document, folder / "formats.json"), "--url", url, *words)


@pytest.mark.slow
def test_the_other_formats_hold(url: str, tmp_path: Path) -> None:
    hold_formats(without_others(formats(url)), url, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_path_of_the_other_formats_holds(url: str, tmp_path: Path) -> None:
    hold_formats(formats(url), url, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_open_inference_protocol_holds_for_long(url: str, tmp_path: Path) -> None:
    open_protocol(url, tmp_path, "--max-examples", "100")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
def test_our_own_document_holds_for_long(seed: int, url: str, tmp_path: Path) -> None:
    location = written(described_bodies(whole(url)), tmp_path / "openapi.json")
    words = ("--checks", "all", "--seed", str(seed), "--max-examples", "100")
    said = run(location, "--url", url, *words)
    print(*re.findall(r"\d+ generated, .*", said))
    assert "No issues found" in said
