"""Pictures over a real server, in every format that has a way to say it."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

import servable
from inputs.models import LABELS, PICTURES, SIDE, colours, shares_of
from inputs.pictures import huge_png, noise, saved
from servable.artifact.preparation import ImageInput
from servable.inputs.image import prepare
from servable.inputs.samples import data_url
from servable.workflows.hints import hints_of

HOW = ImageInput(width=SIDE, height=SIDE, fit="cover")
FILES = [saved(noise(30, 20, seed), form) for seed, form in enumerate(["PNG", "JPEG", "WEBP"])]
TENSORS = np.stack([prepare(data, HOW) for data in FILES])
SHARES = shares_of(TENSORS)
WANT = [LABELS[place] for place in SHARES.argmax(axis=1)]
TEXTS = [base64.b64encode(data).decode() for data in FILES]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with one network over pictures and a cache of answers."""
    folder: Path = tmp_path_factory.mktemp("files")
    (folder / "net.toml").write_text('scores = "logits"' + PICTURES)
    hints = hints_of(folder / "net.toml", labels=",".join(LABELS))
    servable.add(colours(folder), name="pets", hints=hints, deploy=True, home=folder / "home")
    server = servable.serve(home=folder / "home", port=0, background=True)
    yield server.url
    server.stop()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as opened:
        yield opened


def check(answer: httpx.Response, place: int = 0) -> None:
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["prediction"] == WANT[place]
    np.testing.assert_allclose(
        [content["probabilities"][label] for label in LABELS], SHARES[place], atol=1e-6
    )


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("media_type", ["image/png", "image/whatever", "application/octet-stream"])
def test_a_picture_is_a_body(client: httpx.Client, place: int, media_type: str):
    check(client.post("/predict", content=FILES[place], headers={"content-type": media_type}), place)


def test_a_picture_stands_in_json(client: httpx.Client):
    for row in (TEXTS[1], {"image": TEXTS[1]}, data_url("image/jpeg", FILES[1]), TENSORS[1].tolist()):
        check(client.post("/models/pets/predict", json={"input": row}), 1)
    several = client.post("/predict", json={"inputs": TEXTS}).json()
    assert several["predictions"] == WANT


def test_pictures_stand_in_forms_lines_and_messagepack(client: httpx.Client):
    check(client.post("/predict", files={"image": ("a.jpg", FILES[1], "image/jpeg")}), 1)
    several = client.post("/predict", files=[("f", (f"{i}.png", data)) for i, data in enumerate(FILES)])
    assert several.json()["predictions"] == WANT
    lines = "".join(json.dumps({"image": text}) + "\n" for text in TEXTS)
    answers = client.post("/predict", content=lines, headers={"content-type": "application/x-ndjson"})
    assert [json.loads(line)["prediction"] for line in answers.text.splitlines()] == WANT
    packed = msgspec.msgpack.encode({"inputs": FILES})
    answer = client.post("/predict", content=packed, headers={"content-type": "application/msgpack"})
    assert answer.json()["predictions"] == WANT


def test_a_wrong_line_spoils_no_other(client: httpx.Client):
    lines = "".join(json.dumps({"image": text}) + "\n" for text in (TEXTS[0], "####", TEXTS[2]))
    answers = client.post("/predict", content=lines, headers={"content-type": "application/x-ndjson"})
    found = [json.loads(line) for line in answers.text.splitlines()]
    assert [found[0]["prediction"], found[2]["prediction"]] == [WANT[0], WANT[2]]
    assert found[1]["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("module", [triton_http, triton_grpc])
@pytest.mark.parametrize("binary", [True, False])
def test_triton_sends_tensors_or_files(url: str, module: Any, binary: bool):
    if module is triton_grpc and not binary:
        pytest.skip("gRPC knows bytes only")
    client = module.InferenceServerClient(url.removeprefix("http://"))
    files: Any = np.empty(3, object)
    files[:] = FILES if binary else TEXTS
    for array, datatype in ((TENSORS, "FP32"), (files, "BYTES")):
        entry = module.InferInput("image", list(array.shape), datatype)
        if module is triton_http:
            entry.set_data_from_numpy(array, binary_data=binary)
        else:
            entry.set_data_from_numpy(array)
        answer = client.infer("pets", [entry])
        assert [label.decode() if isinstance(label, bytes) else label for label in
                answer.as_numpy("prediction").tolist()] == WANT  # fmt: skip
        np.testing.assert_allclose(answer.as_numpy("probabilities"), SHARES, atol=1e-6)
    client.close()


def test_tensorflow_serving_and_torchserve(client: httpx.Client):
    instances = [{"image_bytes": {"b64": text}} for text in TEXTS]
    assert client.post("/v1/models/pets:predict", json={"instances": instances}).json() == {
        "predictions": WANT
    }
    assert client.post("/predictions/pets", content=FILES[2]).json() == WANT[2]
    assert client.post("/predictions/pets", files={"data": FILES[2]}).json() == WANT[2]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (FILES[0][:100], "a whole picture"),
        (b"nothing at all", "a picture (PNG"),
        (b"", "empty"),
        (huge_png(8_192), "at most 50000000 pixels"),
    ],
)
def test_what_is_no_picture_is_one_sentence(client: httpx.Client, body: bytes, said: str):
    answer = client.post("/predict", content=body, headers={"content-type": "image/png"})
    assert answer.status_code in (400, 422)
    assert said in answer.text
    assert "Traceback" not in answer.text
    check(client.post("/predict", content=FILES[0], headers={"content-type": "image/png"}))


def test_a_sound_is_no_picture(client: httpx.Client):
    answer = client.post("/predict", content=b"RIFF", headers={"content-type": "audio/wav"})
    assert answer.status_code == 415
    assert "image/*" in answer.text


def test_the_description_is_callable(client: httpx.Client):
    document = client.get("/openapi.json").json()
    assert "image/*" in json.dumps(document)
    content = document["paths"]["/models/pets/predict"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert client.post("/models/pets/predict", json=example["value"]).status_code == 200
    assert client.get("/docs").status_code == 200


def test_the_library_client_sends_files(url: str, tmp_path: Path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(FILES[1])
    with servable.Client(url) as client:
        assert client.predict("pets", path).prediction == WANT[1]
        assert client.predict("pets", FILES[1]).prediction == WANT[1]
        assert client.predict("pets", {"image": path}).prediction == WANT[1]
        assert client.predict("pets", [FILES[0], path]).predictions == tuple(WANT[:2])
        answers = client.predict_stream("pets", (data for data in FILES), batch_rows=2)
        assert [answer.prediction for answer in answers] == WANT
        with pytest.raises(servable.ServableError, match="a whole picture"):
            client.predict("pets", FILES[0][:60])


def test_the_generated_client_sends_files(url: str):
    source = servable.generate_client("pets", language="python", url=url).source
    assert "bytes | str | Sequence" in source
    names: dict[str, Any] = {"__name__": "made"}
    exec(compile(source, "made.py", "exec"), names)
    with names["PetsClient"](url) as client:
        assert client.predict({"image": FILES[1]}).prediction == WANT[1]
        assert client.predict({"image": TEXTS[1]}).prediction == WANT[1]
