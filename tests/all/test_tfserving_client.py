"""TensorFlow Serving's own client (tensorflow-serving-api and TensorFlow) against a real server over gRPC."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

tf: Any = pytest.importorskip("tensorflow", reason="needs the extra tensorflow; make test-all has it")
pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api; make test-all has it")

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

import grpc
from servable.engines.local import LocalServer
from servable.protocols.tfserving_messages import messages
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import BIAS, COLUMNS, expected, publish_iris
from serving.making_mixed import embedded
from serving.making_mixed import publish_image as publish_net
from serving.making_tensors import cost_of, publish_image, publish_plans, publish_shout, scores_of

pytestmark = pytest.mark.frameworks
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
ROWS = np.array([[5.0, 3.5, 1.5, 0.25], [7.0, 7.0, 7.0, 7.0]])
LABELS = [expected(row)[0].encode() for row in ROWS.tolist()]
CHANCES = np.array([expected(row)[1] for row in ROWS.tolist()])
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens; of ``iris`` the second version is served, which is also the champion."""
    home = tmp_path_factory.mktemp("tfserving") / "home"
    publish_iris(home, bias=BIAS[::-1], deploy=False)
    publish_iris(home)
    for publish in (publish_image, publish_net, publish_plans, publish_shout):
        publish(home)
    with open_home(home) as opened:
        opened.models.set_alias("iris", "champion", 2)
    with LocalServer(ServerSettings(home=str(home), port=0, memory=2**31)) as server:
        yield server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[SimpleNamespace]:
    """Both stubs on one channel."""
    with grpc.insecure_channel(address) as channel:
        yield SimpleNamespace(
            prediction=prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model=model_service_pb2_grpc.ModelServiceStub(channel),
        )


def named(model: str, **more: Any) -> Any:
    """A ``ModelSpec``; ``version`` is a plain number here."""
    version = more.pop("version", None)
    spec = model_pb2.ModelSpec(name=model, **more)
    if version is not None:
        spec.version.value = version
    return spec


def predict(client: SimpleNamespace, spec: Any, inputs: dict[str, Any], *wanted: str, **how: Any) -> Any:
    """Ask with arrays, and the outputs as arrays."""
    request = predict_pb2.PredictRequest(model_spec=spec, output_filter=wanted)
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    answer = client.prediction.Predict(request, timeout=30, **how)
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}


def example(**features: Any) -> Any:
    """A ``tf.train.Example`` of one value for each feature."""
    made = {}
    for name, value in features.items():
        if isinstance(value, bytes):
            made[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        elif isinstance(value, int):
            made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        else:
            made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=made))


def flowers() -> list[Any]:
    return [example(**dict(zip(COLUMNS, row, strict=True))) for row in ROWS.tolist()]


def scores(result: Any) -> list[list[float]]:
    return [[each.score for each in row.classes] for row in result.classifications]


def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    assert "Traceback" not in caught.value.details()
    return caught.value.code(), caught.value.details()


# ---------------------------------------------------------------------- Predict


@pytest.mark.parametrize("dtype", [np.float64, np.float32, tf.bfloat16.as_numpy_dtype])
@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_table_is_one_tensor(client: SimpleNamespace, dtype: Any, compression: Any) -> None:
    array = ROWS.astype(dtype)
    found = predict(client, named("iris"), {"input": array}, compression=compression)
    assert {name: each.tolist() for name, each in found.items()} == {"prediction": LABELS}
    found = predict(client, named("iris", signature_name="predict_proba"), {"input": array})
    chances = [expected(row)[1] for row in array.astype(np.float64).tolist()]
    np.testing.assert_allclose(found["probabilities"], chances, rtol=1e-6)


def test_a_table_is_its_columns(client: SimpleNamespace) -> None:
    columns = {name: ROWS[:, [index]] for index, name in enumerate(COLUMNS)}
    found = predict(client, named("iris"), columns, "prediction", "probabilities")
    assert found["prediction"].tolist() == LABELS
    np.testing.assert_allclose(found["probabilities"], CHANCES)
    mixed = {"age": np.array([1.0, np.nan]), "plan": np.array([b"pro", b"basic"], object)}
    found = predict(client, named("plans"), mixed)
    assert found["prediction"].tolist() == [cost_of(1.0, "pro"), cost_of(None, "basic")]


def test_pictures_texts_and_several_outputs(client: SimpleNamespace) -> None:
    pictures = np.random.default_rng(3).random((2, 3, 224, 224), np.float32)
    found = predict(client, named("image"), {"image": pictures})
    np.testing.assert_allclose(found["scores"], scores_of(pictures), rtol=1e-4, atol=1e-4)
    for shape in ((2,), (2, 1)):
        texts = np.array(["grüße".encode(), b""], object).reshape(shape)
        told = predict(client, named("shout"), {"text": texts})["shouted"]
        assert [each.decode() for each in told.tolist()] == ["grüße!", "!"]
    small = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    found = predict(client, named("net"), {"image": small})
    assert found.keys() == {"embedding", "peak"}
    np.testing.assert_allclose(found["embedding"], embedded(small), rtol=1e-5)
    assert predict(client, named("net"), {"image": small}, "peak").keys() == {"peak"}
    # One value and a shape stand for a tensor full of it.
    request = predict_pb2.PredictRequest(model_spec=named("image"))
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(0.5, tf.float32, [1, 3, 224, 224]))
    answer = client.prediction.Predict(request, timeout=30)
    full = np.full((1, 3, 224, 224), 0.5, np.float32)
    np.testing.assert_allclose(
        tf.make_ndarray(answer.outputs["scores"]), scores_of(full), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("spec", [{}, {"version": 2}, {"version": 0}, {"version_label": "champion"}])
def test_versions_and_labels(client: SimpleNamespace, spec: dict[str, Any]) -> None:
    request = predict_pb2.PredictRequest(model_spec=named("iris", **spec))
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(ROWS))
    answer = client.prediction.Predict(request, timeout=30)
    assert list(answer.outputs["prediction"].string_val) == LABELS
    told = answer.model_spec
    assert (told.name, told.version.value, told.signature_name) == ("iris", 2, "serving_default")


def test_the_asynchronous_client(address: str) -> None:
    async def course() -> list[Any]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest(model_spec=named("iris"))
            request.inputs["input"].CopyFrom(tf.make_tensor_proto(ROWS))
            return await asyncio.gather(*(stub.Predict(request, timeout=30) for _ in range(50)))

    for answer in asyncio.run(course()):
        assert list(answer.outputs["prediction"].string_val) == LABELS


# ---------------------------------------------------------------------- Classify, Regress, MultiInference


def test_classify(client: SimpleNamespace) -> None:
    request = classification_pb2.ClassificationRequest(model_spec=named("iris"))
    request.input.example_list.examples.extend(flowers())
    answer = client.prediction.Classify(request, timeout=30)
    np.testing.assert_allclose(scores(answer.result), CHANCES, rtol=1e-6)
    best = [max(row.classes, key=lambda each: each.score).label for row in answer.result.classifications]
    assert [each.encode() for each in best] == LABELS
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("iris", 2)


def test_regress_with_a_context(client: SimpleNamespace) -> None:
    request = regression_pb2.RegressionRequest(model_spec=named("plans"))
    held = request.input.example_list_with_context
    held.context.CopyFrom(example(plan=b"pro"))
    held.examples.extend([example(age=3), example(age=2.5, plan=b"basic"), example()])
    answer = client.prediction.Regress(request, timeout=30)
    wanted = [cost_of(3.0, "pro"), cost_of(2.5, "basic"), cost_of(None, "pro")]
    assert [each.value for each in answer.result.regressions] == wanted


def test_multi_inference(client: SimpleNamespace) -> None:
    request = inference_pb2.MultiInferenceRequest()
    request.input.example_list.examples.extend(flowers())
    for signature in ("", "classification"):
        request.tasks.add(model_spec=named("iris", signature_name=signature), method_name=CLASSIFY)
    answer = client.prediction.MultiInference(request, timeout=30)
    for each in answer.results:
        np.testing.assert_allclose(scores(each.classification_result), CHANCES, rtol=1e-6)
    assert [each.model_spec.signature_name for each in answer.results] == [
        "serving_default",
        "classification",
    ]
    request = inference_pb2.MultiInferenceRequest()
    request.input.example_list.examples.append(example(age=3, plan=b"pro"))
    request.tasks.add(model_spec=named("plans"), method_name=REGRESS)
    (told,) = client.prediction.MultiInference(request, timeout=30).results
    assert [each.value for each in told.regression_result.regressions] == [cost_of(3.0, "pro")]


# ---------------------------------------------------------------------- what is told of models


def test_a_request_can_be_made_from_the_metadata_alone(client: SimpleNamespace) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=named("net"), metadata_field=["signature_def"]
    )
    answer = client.prediction.GetModelMetadata(request, timeout=30)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("net", 1)
    known = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(known)
    signature = known.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    inputs = {}
    for name, told in signature.inputs.items():
        shape = tf.TensorShape(told.tensor_shape).as_list()
        assert shape[0] is None
        inputs[name] = np.ones([2, *shape[1:]], tf.dtypes.as_dtype(told.dtype).as_numpy_dtype)
    found = predict(client, named("net"), inputs)
    assert found.keys() == signature.outputs.keys()
    for name, told in signature.outputs.items():
        assert tf.TensorShape(told.tensor_shape).is_compatible_with(found[name].shape)
        assert tf.dtypes.as_dtype(told.dtype).as_numpy_dtype == found[name].dtype


def test_the_signatures_of_a_classifier(client: SimpleNamespace) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=named("iris"), metadata_field=["signature_def"]
    )
    known = get_model_metadata_pb2.SignatureDefMap()
    client.prediction.GetModelMetadata(request, timeout=30).metadata["signature_def"].Unpack(known)
    assert known.signature_def.keys() == {"serving_default", "predict_proba"}
    outputs = known.signature_def["predict_proba"].outputs
    assert tf.TensorShape(outputs["probabilities"].tensor_shape).as_list() == [None, 3]


def test_states_of_models(client: SimpleNamespace) -> None:
    for spec in ({}, {"version": 2}, {"version_label": "champion"}):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=named("iris", **spec))
        (told,) = client.model.GetModelStatus(request, timeout=30).model_version_status
        state = get_model_status_pb2.ModelVersionStatus.State.Name(told.state)
        assert (told.version, state, told.status.error_code) == (2, "AVAILABLE", 0)


# ---------------------------------------------------------------------- errors


def test_what_is_not_there(client: SimpleNamespace) -> None:
    for spec in (named("nobody"), named("iris", version=9), named("iris", version_label="nobody")):
        request = predict_pb2.PredictRequest(model_spec=spec)
        request.inputs["input"].CopyFrom(tf.make_tensor_proto(ROWS))
        assert refused(client.prediction.Predict, request)[0] == NOT_FOUND
        for kind, call in (
            (get_model_metadata_pb2.GetModelMetadataRequest, client.prediction.GetModelMetadata),
            (get_model_status_pb2.GetModelStatusRequest, client.model.GetModelStatus),
        ):
            assert refused(call, kind(model_spec=spec))[0] == NOT_FOUND
    reload = model_management_pb2.ReloadConfigRequest()
    assert refused(client.model.HandleReloadConfigRequest, reload)[0] == UNIMPLEMENTED


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"input": ROWS[:, :3]}, "4"),
        ({"input": np.array([[b"x"] * 4], object)}, "input"),
        ({"input": ROWS, "nope": ROWS}, "nope"),
        ({"input": np.full((1, 4), np.inf)}, "input"),
        ({"input": np.ones((1, 4), np.complex64)}, "input"),
        ({}, "input"),
    ],
)
def test_tensors_that_do_not_fit(client: SimpleNamespace, inputs: dict[str, Any], words: str) -> None:
    request = predict_pb2.PredictRequest(model_spec=named("iris"))
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    code, said = refused(client.prediction.Predict, request)
    assert (code, words in said) == (INVALID, True), said


def test_what_does_not_go_together(client: SimpleNamespace) -> None:
    request = regression_pb2.RegressionRequest(model_spec=named("iris"))
    request.input.example_list.examples.extend(flowers())
    assert refused(client.prediction.Regress, request)[0] == INVALID
    asked = classification_pb2.ClassificationRequest(model_spec=named("plans"))
    asked.input.example_list.examples.append(example(age=3, plan=b"pro"))
    assert refused(client.prediction.Classify, asked)[0] == INVALID
    tasks = inference_pb2.MultiInferenceRequest()
    tasks.input.example_list.examples.extend(flowers())
    for model in ("iris", "plans"):
        tasks.tasks.add(model_spec=named(model), method_name=CLASSIFY)
    assert refused(client.prediction.MultiInference, tasks)[0] == INVALID
    unknown = predict_pb2.PredictRequest(model_spec=named("iris", signature_name="nope"))
    unknown.inputs["input"].CopyFrom(tf.make_tensor_proto(ROWS))
    code, said = refused(client.prediction.Predict, unknown)
    assert (code, "signature_name" in said) == (INVALID, True)


# ---------------------------------------------------------------------- descriptions


def described(field: Any) -> tuple[Any, ...]:
    kind = field.message_type or field.enum_type
    choice = field.containing_oneof
    return field.number, field.type, field.is_repeated, kind and kind.full_name, choice and choice.name


def test_every_field_is_the_real_one() -> None:
    """Of all messages that the two services are asked with and answer with, all the way down."""
    theirs = {}
    waiting = [
        message
        for file in (prediction_service_pb2, model_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        for message in (method.input_type, method.output_type)
    ]
    waiting.append(get_model_metadata_pb2.SignatureDefMap.DESCRIPTOR)
    while waiting:
        message = waiting.pop()
        if message.full_name not in theirs:
            theirs[message.full_name] = message
            waiting.extend(field.message_type for field in message.fields if field.message_type)
    compared = 0
    for name, message in theirs.items():
        try:
            ours = messages().pool.FindMessageTypeByName(name)
        except KeyError:
            continue
        for field in ours.fields:
            assert described(field) == described(message.fields_by_name[field.name]), field.full_name
            compared += 1
            if field.enum_type:
                numbers = field.enum_type.values_by_name
                real = message.fields_by_name[field.name].enum_type.values_by_name
                assert {each: value.number for each, value in numbers.items()} == {
                    each: real[each].number for each in numbers
                }
    assert compared > 80
