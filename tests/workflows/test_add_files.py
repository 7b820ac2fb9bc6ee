"""Networks over pictures, described and added; what does not agree is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import servable
from inputs.models import LABELS, PICTURES, SIDE, colours, logits_of, network, shares_of
from inputs.pictures import noise, saved
from servable.artifact.preparation import ImageInput
from servable.artifact.sample import read_sample
from servable.artifact.signature import Signature
from servable.errors import DataError, SettingInvalid
from servable.frameworks.lookup import adapter
from servable.inputs.image import prepare
from servable.workflows.hints import hints_of

HOW = ImageInput(width=SIDE, height=SIDE, fit="cover")


def described(folder: Path, text: str) -> Path:
    path = folder / "net.toml"
    path.write_text(text)
    return path


def taken_in(model: Path, text: str, labels: str = ",".join(LABELS)) -> tuple[Signature, Any]:
    hints = hints_of(described(model.parent, text), labels=labels)
    trained = adapter("onnx").read(model, sample=None, trust=False, hints=hints)
    return trained.signature, adapter("onnx").wrap(trained)


def test_a_folder_of_pictures_is_a_sample(tmp_path: Path):
    pictures = tmp_path / "pictures"
    for label in LABELS:
        (pictures / label).mkdir(parents=True)
        for number in range(2):
            (pictures / label / f"{number}.png").write_bytes(saved(noise(seed=number), "PNG"))
    (pictures / "notes.txt").write_text("passed over")
    hints = hints_of(described(tmp_path, PICTURES), labels=",".join(LABELS))
    outcome = servable.add(
        colours(tmp_path), name="pets", sample=pictures, hints=hints, home=tmp_path / "home"
    )
    kept = read_sample(Path(outcome.package))["image"]
    want = [prepare(saved(noise(seed=number), "PNG"), HOW) for _ in LABELS for number in range(2)]
    np.testing.assert_array_equal(kept, np.stack(want))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files of kind image"):
        servable.add(
            colours(tmp_path), name="p", sample=tmp_path / "empty", hints=hints, home=tmp_path / "home"
        )
    (pictures / "broken.png").write_bytes(saved(noise(), "PNG")[:60])
    with pytest.raises(DataError, match=r"broken\.png does not fit"):
        servable.add(colours(tmp_path), name="p", sample=pictures, hints=hints, home=tmp_path / "home")
    with pytest.raises(DataError, match="only input is a picture"):
        servable.add(colours(tmp_path), name="p", sample=pictures, home=tmp_path / "home")


@pytest.mark.parametrize(
    ("softmax", "scores", "chances"),
    [
        (False, "", shares_of),
        (False, 'scores = "logits"', shares_of),
        (False, 'scores = "probabilities"', logits_of),
        (True, "", shares_of),
    ],
)
def test_scores_become_what_the_description_says(tmp_path: Path, softmax: bool, scores: str, chances: Any):
    signature, predictor = taken_in(colours(tmp_path, softmax=softmax), scores + PICTURES)
    assert (signature.task, signature.classes) == ("classification", LABELS)
    assert signature.probabilities
    rows = np.random.default_rng(0).random((5, 3, SIDE, SIDE), np.float32)
    answer = predictor.predict({"image": rows})
    np.testing.assert_array_equal(answer["prediction"], logits_of(rows).argmax(axis=1))
    np.testing.assert_allclose(answer["probabilities"], chances(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "operator"), [('scores = "logits"', "Identity"), ("", "Identity"), ("", "Sigmoid")]
)
def test_one_number_is_the_score_of_the_second_of_two_labels(tmp_path: Path, scores: str, operator: str):
    model = network(
        tmp_path / "n.onnx", [helper.make_node(operator, ["x"], ["y"])], ("x", [None, 1]), ("y", [None, 1])
    )
    signature, predictor = taken_in(model, scores, "no,yes")
    assert signature.probabilities
    logits = np.array([[-800.0], [-1.0], [0.5], [800.0]], np.float32)
    answer = predictor.predict({"x": logits})
    assert answer["prediction"].tolist() == [0, 0, 1, 1]
    want = 1 / (1 + np.exp(-np.clip(logits[:, 0].astype(float), -700, 700)))
    np.testing.assert_allclose(answer["probabilities"], np.stack([1 - want, want], axis=1), atol=1e-6)


def test_classes_without_labels_are_numbered(tmp_path: Path):
    signature, predictor = taken_in(colours(tmp_path), 'task = "classification"' + PICTURES, "")
    assert (signature.classes, signature.answer.dtype) == ((0, 1, 2), "int64")
    rows = np.random.default_rng(0).random((5, 3, SIDE, SIDE), np.float32)
    np.testing.assert_allclose(
        predictor.predict({"image": rows})["probabilities"], shares_of(rows), atol=1e-6
    )


@pytest.mark.parametrize("taken", [[None, 1, 4, 4], [None, 16], [None, 4, 4]])
def test_axes_of_one_element_are_added_and_flat_models_are_fed_flat(tmp_path: Path, taken: Any):
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    model = network(tmp_path / "n.onnx", nodes, ("x", taken), ("y", [None, 16]))
    how = 'type = "image"\nwidth = 4\nheight = 4\nchannels = 1\n'
    text = f'[[inputs]]\nname = "image"\n[inputs.preparation]\n{how}'
    signature, predictor = taken_in(model, text, ",".join(map(str, range(16))))
    assert signature.inputs[0].kind == "image"
    rows = np.random.default_rng(0).random((2, 1, 4, 4), np.float32)
    answer = predictor.predict({"image": rows})
    np.testing.assert_array_equal(answer["prediction"], rows.reshape(2, 16).argmax(axis=1))


@pytest.mark.parametrize(
    ("text", "labels", "said"),
    [
        (PICTURES.replace("width = 8", "width = 9"), "a,b,c", "3 x 8 x 9 and the model takes 3 x 8 x 8"),
        (PICTURES + 'layout = "hwc"', "a,b,c", "layout"),
        (PICTURES, "a,b", "2 labels"),
        (PICTURES.replace('kind = "image"', 'kind = "image"\ndtype = "uint8"'), "a,b,c", "takes float32"),
        (PICTURES + PICTURES.replace('"image"\nkind', '"other"\nkind'), "a,b,c", "image, other"),
        ('task = "regression"' + PICTURES, "a,b,c", "regression"),
        (PICTURES.replace("fit", "fitt"), "a,b,c", "fitt"),
        (PICTURES.replace("name", "nome"), "a,b,c", "nome"),
        (PICTURES.replace("width = 8", "width = 0"), "a,b,c", "width is above 0"),
        ('[[inputs]]\nkind = "text"\n[inputs.preparation]\n', "a,b,c", "no text becomes"),
    ],
)
def test_what_contradicts_the_model_is_refused(tmp_path: Path, text: str, labels: str, said: str):
    with pytest.raises(SettingInvalid, match=said):
        taken_in(colours(tmp_path), text, labels)


def test_labels_of_a_model_that_has_its_own_are_its_classes_in_order(tmp_path: Path):
    nodes = [
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node("Softmax", ["x"], ["shares"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 3])],
        [
            helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [None]),
            helper.make_tensor_value_info("shares", onnx.TensorProto.FLOAT, [None, 3]),
        ],
    )
    path = tmp_path / "n.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    signature, predictor = taken_in(path, "")
    assert signature.classes == LABELS
    assert predictor.predict({"x": np.eye(3, dtype=np.float32)})["prediction"].tolist() == [0, 1, 2]
    with pytest.raises(SettingInvalid, match="3 classes"):
        taken_in(path, "", "a,b")


def test_columns_of_a_table_may_be_described(tmp_path: Path):
    nodes = [helper.make_node("Concat", ["age", "size"], ["both"], axis=1)]
    graph = helper.make_graph(
        [*nodes, helper.make_node("ReduceSum", ["both", "axes"], ["y"])],
        "net",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 1]) for name in ("age", "size")],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 1])],
        [onnx.numpy_helper.from_array(np.array([1]), "axes")],
    )
    path = tmp_path / "n.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    said = '[[inputs]]\nname = "age"\nkind = "number"\nmaximum = 99.0\ndescription = "In years"\n'
    signature, _ = taken_in(path, said, "")
    assert [(field.name, field.maximum, field.dtype) for field in signature.inputs] == [
        ("age", 99.0, "float64"),
        ("size", None, "float64"),
    ]
    for text, words in (
        (said.replace("age", "edge"), "no column edge"),
        (said.replace('"number"', '"text"\ndtype = "str"'), "another dtype"),
        (said + '[inputs.preparation]\ntype = "image"\nwidth = 1\nheight = 1\n', "no file becomes"),
    ):
        with pytest.raises(SettingInvalid, match=words):
            taken_in(path, text, "")
