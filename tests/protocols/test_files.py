"""Files in place of tensors in every format; the codec hands on the bytes that were sent."""

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.preparation import AudioInput, ImageInput
from servable.artifact.signature import Field, Signature
from servable.errors import MediaTypeUnsupported, RequestInvalid, RequestMalformed
from servable.inputs.samples import data_url, png, wav
from servable.protocols.base import CodecLimits
from servable.protocols.client_python import python_client
from servable.protocols.client_shape import Subject
from servable.protocols.client_typescript import typescript_client
from servable.protocols.codecs import Reads, native_codecs, read_types
from servable.protocols.file_types import file_type_of
from servable.protocols.files import file_of
from servable.protocols.native_schema import example_row
from servable.protocols.oip_json import OipCodec
from servable.protocols.openapi_models import field_schema
from servable.protocols.tfserving import PredictCodec
from servable.protocols.torchserve import TorchServeCodec
from servable.tensors import PREDICTION, Response
from servable.testing import check_codec
from thoroughness import examples

HOW = ImageInput(width=2, height=2, channels=1)
IMAGE = Field(name="image", kind="image", dtype="float32", shape=HOW.shape, preparation=HOW)
ANSWER = Field(name="y", kind="number", dtype="float64")
ONE = Signature(task="regression", inputs=(IMAGE,), outputs=(ANSWER,))
SOUND = AudioInput(rate=8000)
MIXED = Signature(
    task="regression",
    inputs=(
        IMAGE,
        Field(name="age", kind="number", dtype="float64"),
        Field(name="note", kind="text", dtype="str", missing=True),
        Field(name="sound", kind="audio", dtype="float32", shape=SOUND.shape, preparation=SOUND),
    ),
    outputs=(ANSWER,),
)
FILE, TEXT = png(1), base64.b64encode(png(1)).decode()
URL = data_url("image/png", FILE)
SOUNDS = base64.b64encode(wav()).decode()
TENSOR = [[[1.0, 2.0], [3.0, 4.0]]]
LIMITS = CodecLimits()


def decoded(content: Any, signature: Signature = ONE) -> Any:
    return native_codecs(signature)["application/json"].decode(json.dumps(content).encode(), "id")


@pytest.mark.parametrize(
    ("content", "single"),
    [
        ({"input": TEXT}, True),
        ({"input": URL}, True),
        ({"input": {"image": TEXT}}, True),
        ({"inputs": [TEXT, {"image": URL}]}, False),
        ({"input": "\n".join([TEXT[:40], TEXT[40:]])}, True),
    ],
)
def test_json_carries_files_in_base64(content: Any, single: bool):
    request = decoded(content)
    assert request.single == single
    assert request.arrays["image"].dtype == object
    assert request.arrays["image"].tolist() == [FILE] * request.rows


def test_json_carries_the_tensor_itself():
    for content in ({"input": TENSOR}, {"inputs": [{"image": TENSOR}]}):
        np.testing.assert_array_equal(decoded(content).arrays["image"], np.array([TENSOR], np.float32))


@pytest.mark.parametrize(
    ("content", "path", "said"),
    [
        ({"input": "####"}, "input", "a picture in base64"),
        ({"input": ""}, "input", "a picture in base64"),
        ({"input": "data:image/png,abc"}, "input", "a picture in base64"),
        ({"input": "data:" + "x" * 400}, "input", "a picture in base64"),
        ({"inputs": [TEXT, "a"]}, "inputs[1]", "a picture in base64"),
        ({"inputs": [TEXT, TENSOR]}, "inputs", "either files or tensors"),
        ({"input": [1.0, 2.0]}, "input", "a picture in base64, or a float32 tensor of shape 1 x 2 x 2"),
        ({"input": 5}, "input", "a picture in base64, or a float32 tensor of shape 1 x 2 x 2"),
        ({"input": {}}, "input.image", "a picture in base64, or a float32 tensor"),
    ],
)
def test_what_is_no_file_is_named(content: Any, path: str, said: str):
    with pytest.raises(RequestInvalid) as caught:
        decoded(content)
    assert caught.value.problems[0].path == path
    assert said in caught.value.problems[0].expected


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(min_size=1, max_size=300), st.booleans())
def test_any_bytes_come_out_as_they_went_in(data: bytes, url: bool):
    text = base64.b64encode(data).decode()
    assert file_of(f"data:image/x;base64,{text}" if url else text) == data
    assert decoded({"inputs": [text]}).arrays["image"].tolist() == [data]
    packed = msgspec.msgpack.encode({"inputs": [data, {"image": data}]})
    found = Reads("application/msgpack")(ONE, LIMITS).decode(packed, "id")
    assert found.arrays["image"].tolist() == [data, data]


@settings(max_examples=examples(100), deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_file_or_refused(text: str):
    try:
        assert file_of(text)
    except ValueError:
        with pytest.raises(RequestInvalid):
            decoded({"input": text})


def test_files_stand_beside_columns():
    row = {"image": TEXT, "age": 3, "sound": SOUNDS}
    for content in ({"input": row}, {"inputs": [[TEXT, 3, None, SOUNDS]]}):
        arrays = decoded(content, MIXED).arrays
        assert arrays["image"].tolist() == [FILE]
        assert arrays["sound"].tolist() == [wav()]
        assert (arrays["numbers"].tolist(), arrays["strings"].tolist()) == ([[3.0]], [[""]])


def test_bodies_of_pictures_are_rows():
    assert "image/*" in read_types(ONE)
    assert "audio/*" not in read_types(ONE)
    request = Reads("image/*")(ONE, LIMITS).decode(memoryview(FILE), "id")
    assert (request.arrays["image"].tolist(), request.single) == ([FILE], True)
    with pytest.raises(MediaTypeUnsupported, match="bodies of sound"):
        Reads("audio/*")(ONE, LIMITS)
    with pytest.raises(MediaTypeUnsupported, match="4 inputs"):
        Reads("image/*")(MIXED, LIMITS)


def test_plain_bytes_are_a_file_or_tensors():
    codec = native_codecs(ONE)["application/octet-stream"]
    assert codec.decode(FILE, "id").arrays["image"].tolist() == [FILE]
    tensor = np.array(TENSOR, np.float32)
    np.testing.assert_array_equal(codec.decode(tensor.tobytes(), "id").arrays["image"], tensor[None])
    with pytest.raises(RequestInvalid):
        codec.decode(b"abc", "id")


def test_forms_hold_files():
    codec = Reads("multipart/form-data")(ONE, LIMITS)
    one = codec.decode(*_form([("image", "a.png", FILE, "image/png")]))
    assert (one.arrays["image"].tolist(), one.single) == ([FILE], True)
    several = codec.decode(*_form([("f", "a", FILE, ""), ("g", "b", b"broken", "image/png")]))
    assert several.arrays["image"].tolist() == [FILE, b"broken"]
    assert codec.decode(*_form([("image", None, TEXT.encode(), "")])).arrays["image"].tolist() == [FILE]
    as_json = codec.decode(*_form([("f", "a.json", json.dumps({"input": TEXT}).encode(), "")]))
    assert as_json.arrays["image"].tolist() == [FILE]
    mixed = Reads("multipart/form-data")(MIXED, LIMITS)
    parts = [("image", "a.png", FILE, ""), ("age", None, b"4", ""), ("sound", "a.wav", wav(), "audio/wav")]
    arrays = mixed.decode(*_form(parts)).arrays
    assert (arrays["image"].tolist(), arrays["sound"].tolist()) == ([FILE], [wav()])
    with pytest.raises(RequestInvalid, match="either one file"):
        mixed.decode(*_form([("age", "a.bin", b"4", ""), ("image", "a.png", FILE, "")]))


def _form(parts: list[tuple[str, str | None, bytes, str]]) -> tuple[bytes, str, dict[bytes, bytes]]:
    body = b""
    for name, filename, content, kind in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        head += f'; filename="{filename}"' if filename else ""
        head += f"\r\nContent-Type: {kind}" if kind else ""
        body += b"--limit\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--limit--\r\n", "id", {b"content-type": b"multipart/form-data; boundary=limit"}


def test_open_inference_takes_bytes_of_files():
    codec = OipCodec(ONE, LIMITS)
    given = {"name": "image", "shape": [2], "datatype": "BYTES", "data": [TEXT, URL]}
    found = codec.decode(json.dumps({"inputs": [given]}).encode(), "id")
    assert found.arrays["image"].tolist() == [FILE, FILE]
    raw = len(FILE).to_bytes(4, "little") + FILE
    head = json.dumps(
        {"inputs": [{**given, "shape": [1, 1], "data": None, "parameters": {"binary_data_size": len(raw)}}]}
    )
    head = head.replace('"data": null, ', "")
    lengths = {b"inference-header-content-length": str(len(head)).encode()}
    found = codec.decode(head.encode() + raw, "id", lengths)
    assert found.arrays["image"].tolist() == [FILE]
    tensor = {"name": "image", "shape": [1, 1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    found = codec.decode(json.dumps({"inputs": [tensor]}).encode(), "id")
    np.testing.assert_array_equal(found.arrays["image"], np.array([TENSOR], np.float32))
    for data, shape in ((["#"], [1]), ([TEXT, TEXT], [1, 2]), ([""], [1])):
        wrong = {**given, "shape": shape, "data": data}
        with pytest.raises(RequestInvalid):
            codec.decode(json.dumps({"inputs": [wrong]}).encode(), "id")


@pytest.mark.parametrize(
    "content",
    [
        {"instances": [{"b64": TEXT}]},
        {"instances": [{"image": {"b64": TEXT}}]},
        {"instances": [{"image_bytes": {"b64": TEXT}}]},
        {"inputs": {"image": [{"b64": TEXT}]}},
        {"instances": [TEXT]},
    ],
)
def test_tensorflow_serving_takes_base64(content: Any):
    request = PredictCodec(ONE, LIMITS).decode(json.dumps(content).encode(), "id")
    assert request.arrays["image"].tolist() == [FILE]


def test_torchserve_takes_the_file_as_it_is():
    codec = TorchServeCodec(ONE, LIMITS)
    bodies = [(FILE, ""), (FILE, "image/png"), (FILE, "application/octet-stream"), (f'"{TEXT}"'.encode(), "")]
    for body, kind in bodies:
        request = codec.decode(body, "id", {b"content-type": kind.encode()})
        assert (request.arrays["image"].tolist(), request.single) == ([FILE], True)
    several = codec.decode(json.dumps([TEXT, TEXT]).encode(), "id")
    assert (several.arrays["image"].tolist(), several.single) == ([FILE, FILE], False)
    with pytest.raises(RequestMalformed):
        codec.decode(b"neither", "id", {b"content-type": b"application/json"})


@pytest.mark.parametrize("column", [pa.array([FILE, FILE]), pa.array([TEXT, URL])])
def test_columns_hold_files(column: pa.Array):
    sink = pa.BufferOutputStream()
    table = pa.table({"image": column})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    codec = Reads("application/vnd.apache.arrow.stream")(ONE, LIMITS)
    assert codec.decode(sink.getvalue().to_pybytes(), "id").arrays["image"].tolist() == [FILE, FILE]
    wrong = Reads("text/csv")(ONE, LIMITS)
    assert wrong.decode(f"image\n{TEXT}\n".encode(), "id").arrays["image"].tolist() == [FILE]
    with pytest.raises(RequestInvalid, match="a picture in base64"):
        wrong.decode(b"image\n####\n", "id")


def test_lines_hold_files():
    body = json.dumps({"image": TEXT}) + "\n" + json.dumps({"input": URL}) + "\n"
    found = Reads("application/x-ndjson")(ONE, LIMITS).decode(body.encode(), "id")
    assert found.arrays["image"].tolist() == [FILE, FILE]


def test_the_example_can_be_sent_and_the_schema_says_so():
    for signature in (ONE, MIXED):
        row = example_row(signature)
        arrays = decoded({"input": row}, signature).arrays
        assert arrays["image"].tolist() == [FILE]
    schema = field_schema(IMAGE)
    assert [kind["type"] for kind in schema["oneOf"]] == ["string", "array"]
    assert schema["examples"] == [URL]


@pytest.mark.parametrize("media_type", ["application/json", "application/msgpack"])
def test_the_codecs_conform(media_type: str):
    wire = media_type.endswith("json")
    encode: Any = msgspec.json.encode if wire else msgspec.msgpack.encode
    file: Any = TEXT if wire else FILE
    codec = native_codecs(ONE)[media_type] if wire else Reads(media_type)(ONE, LIMITS)
    check_codec(
        codec,
        good={encode({"input": file}): 1, encode({"inputs": [file, file]}): 2},
        invalid=[encode({"input": 3}), encode({"inputs": [file, TENSOR]})],
        response=Response({PREDICTION: np.array([1.5])}, 1, "id", "m", 1),
    )


def test_files_are_known_by_their_beginning():
    assert (file_type_of(FILE), file_type_of(wav()), file_type_of(b"RIFF")) == (
        "image/png",
        "audio/wav",
        "",
    )


def test_generated_clients_know_files():
    python, typescript = (make(Subject("pets", 1, "", MIXED)) for make in (python_client, typescript_client))
    assert "    image: bytes | str | Sequence[Sequence[Sequence[float]]]" in python
    assert "  image: Uint8Array | string | readonly (readonly (readonly number[])[])[];" in typescript
    assert "JSON.stringify(content, carried)" in typescript
    assert "function carried(" in typescript
    plain = Signature(task="regression", inputs=(ANSWER,), outputs=(ANSWER,))
    assert "carried" not in typescript_client(Subject("plain", 1, "", plain))
    compile(python, "made.py", "exec")
