"""Keras and TensorFlow: their files, what they take, what they would execute, and their compiled form."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the extra tensorflow; make test-all has it")
pytest.importorskip("keras", reason="needs the extra keras; make test-all has it")
pytestmark = [
    pytest.mark.frameworks,
    # What the libraries use of each other and of Python that is going away.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

import h5py

from all.serving import COMPILED
from frameworks import networks
from servable.artifact.preparation import ImageInput
from servable.artifact.signature import Field
from servable.errors import (
    ArtifactUnreadable,
    ArtifactUnsupported,
    ArtifactUntrusted,
    SettingInvalid,
)
from servable.frameworks import lookup
from servable.frameworks.base import Hints
from servable.optimization.choose import optimise
from servable.tensors import PREDICTION, PROBABILITIES
from servable.testing import check_adapter
from servable.testing.adapters import Specimen

THREE = Hints(labels=("a", "b", "c"))
TWO = Hints(labels=("no", "yes"))
MAKERS = {"keras": networks.saved, "tensorflow": networks.exported}
FORMS = pytest.mark.parametrize("form", sorted(MAKERS))


def read(path: Path, hints: Hints = THREE, *, trust: bool = False) -> Any:
    return lookup.adapter(lookup.framework_of(path)).read(path, sample=None, trust=trust, hints=hints)


def asked(trained: Any, kind: str) -> dict[str, Any]:
    """The rows of a network under the names of the signature: SavedModels sort their inputs."""
    given = networks.rows(kind)
    if len(given) == 1:
        return {trained.signature.inputs[0].name: next(iter(given.values()))}
    return given


@FORMS
@pytest.mark.parametrize(
    ("kind", "hints", "logits"),
    [("pictures", THREE, False), ("logits", THREE, True), ("sequence", THREE, True), ("sure", TWO, False)],
)
def test_labels_make_a_classifier_whose_last_activation_is_looked_at(form, kind, hints, logits, tmp_path):
    trained = read(MAKERS[form](kind, tmp_path), hints)
    assert trained.signature.classes == hints.labels
    assert trained.options["head"]["logits"] is logits
    arrays = asked(trained, kind)
    raw = networks.network(kind).predict(next(iter(arrays.values())), verbose=0)
    answer = lookup.adapter(form).wrap(trained).predict(arrays)
    chances = np.asarray(networks.keras.ops.softmax(raw)) if logits else raw
    if kind == "sure":
        chances = np.hstack([1 - raw, raw])
    np.testing.assert_allclose(answer[PROBABILITIES], chances, atol=1e-6)
    assert np.array_equal(answer[PREDICTION], np.argmax(chances, axis=1))


@FORMS
@pytest.mark.parametrize("kind", ["pictures", "logits", "sure", "value", "several", "sequence"])
def test_the_compiled_form_is_equal(form, kind, tmp_path):
    hints = {"sure": TWO, "value": Hints(), "several": Hints()}.get(kind, THREE)
    trained = read(MAKERS[form](kind, tmp_path), hints)
    folder = tmp_path / "package"
    (folder / "variants").mkdir(parents=True)
    variant = lookup.adapter(form).write(trained, folder)
    found = optimise(trained, asked(trained, kind), folder, fallback=variant, batches=(1,))
    (compiled,) = (each for each in found.variants if each.name == "onnx-fp32")
    assert compiled.proof is not None
    assert compiled.proof.worst_difference < 1e-5
    assert found.serving in COMPILED


def test_without_labels_outputs_come_under_their_own_names(tmp_path):
    trained = read(networks.saved("several", tmp_path), Hints())
    assert trained.signature.task == "transform"
    assert {field.name: field.shape for field in trained.signature.inputs} == {
        "first": (3,),
        "second": (2,),
    }
    answer = lookup.adapter("keras").wrap(trained).predict(networks.rows("several"))
    expected = networks.network("several").predict(networks.rows("several"), verbose=0)
    assert set(answer) == {"sum", "part"}
    for name, values in expected.items():
        np.testing.assert_allclose(answer[name], values, atol=1e-6)


def test_a_description_says_what_the_scores_are_and_what_goes_in(tmp_path):
    path = networks.saved("logits", tmp_path)
    assert read(path, THREE._replace(scores="probabilities")).options["head"]["logits"] is False
    field = Field(name="measures", kind="tensor", dtype="float32", shape=(4,), description="four of them")
    (told,) = read(path, THREE._replace(inputs=(field,))).signature.inputs
    assert (told.name, told.dtype, told.shape, told.description) == (
        "measures",
        "float32",
        (4,),
        "four of them",
    )


@pytest.mark.parametrize(
    ("kind", "hints", "said"),
    [
        ("logits", Hints(labels=("a", "b")), "2 labels were given"),
        ("several", TWO, "one output of scores"),
        (
            "value",
            Hints(task="transform", inputs=(Field(name="x", kind="number", dtype="float32"),)),
            "takes a tensor",
        ),
        ("logits", Hints(inputs=(Field(name="x", kind="tensor", dtype="", shape=(5,)),)), "takes 4"),
        ("value", Hints(task="clustering"), "clustering"),
    ],
)
def test_hints_that_contradict_the_model_are_refused(kind, hints, said, tmp_path):
    with pytest.raises(SettingInvalid, match=said):
        read(networks.saved(kind, tmp_path), hints)


@FORMS
def test_a_picture_may_be_described_in_another_layout_of_the_same_values(form, tmp_path):
    how = ImageInput(width=8, height=8, channels=1, layout="chw", scale=1.0)
    field = Field(name="photo", kind="image", dtype="", preparation=how)
    trained = read(MAKERS[form]("pictures", tmp_path), THREE._replace(inputs=(field,)))
    (photo,) = trained.signature.inputs
    assert (photo.name, photo.kind, photo.dtype, photo.shape) == ("photo", "image", "float32", (1, 8, 8))
    rows = networks.rows("pictures")["picture"]
    arrays = {"photo": np.ascontiguousarray(rows.reshape(-1, 1, 8, 8))}
    answer = lookup.adapter(form).wrap(trained).predict(arrays)
    expected = networks.network("pictures").predict(rows, verbose=0)
    np.testing.assert_allclose(answer[PROBABILITIES], expected, atol=1e-6)
    folder = tmp_path / "package"
    (folder / "variants").mkdir(parents=True)
    variant = lookup.adapter(form).write(trained, folder)
    found = optimise(trained, arrays, folder, fallback=variant, batches=(1,))
    assert found.serving in COMPILED


def test_code_in_a_keras_file_asks_for_trust(tmp_path):
    path = networks.saved("lambda", tmp_path)
    with pytest.raises(ArtifactUntrusted, match="Lambda") as refused:
        read(path)
    assert any("Lambda" in name for name in refused.value.names)
    trained = read(path, trust=True)
    variant = lookup.adapter("keras").write(trained, tmp_path)
    assert variant.options["executes"] is True
    with pytest.raises(ArtifactUntrusted):
        lookup.adapter("keras").load(tmp_path, variant, trained.signature, trust=False)


def changed(path: Path, change: Any) -> Path:
    """A copy of a ``.keras`` file with its description changed."""
    other = path.with_name(f"changed-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            target.writestr(name, data)
    return other


def test_a_class_of_anybodys_is_refused_and_its_module_is_not_imported(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "evil_layers.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Dense: ...\n")
    monkeypatch.syspath_prepend(tmp_path)

    def change(config: Any) -> None:
        config["config"]["layers"][-1]["module"] = "evil_layers"

    path = changed(networks.saved("logits", tmp_path), change)
    with pytest.raises(ArtifactUntrusted, match=r"evil_layers\.Dense"):
        read(path)
    assert not marker.exists()


def test_a_vocabulary_in_another_file_is_refused(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("a\nb\n")

    def change(config: Any) -> None:
        layer = {"vocabulary": str(secret)}
        config["config"]["layers"].append(
            {"module": "keras.layers", "class_name": "StringLookup", "config": layer, "registered_name": None}
        )

    with pytest.raises(ArtifactUntrusted, match=r"StringLookup"):
        read(changed(networks.saved("logits", tmp_path), change))


def older(kind: str, folder: Path) -> Path:
    """The network as Keras 2 wrote it."""
    path = folder / f"{kind}.h5"
    networks.network(kind).save(path)
    return path


@pytest.mark.parametrize(("kind", "hints"), [("pictures", THREE), ("several", Hints()), ("sequence", THREE)])
def test_the_older_form_answers_as_keras_does(kind, hints, tmp_path):
    trained = read(older(kind, tmp_path), hints)
    arrays = asked(trained, kind)
    whole = read(networks.saved(kind, tmp_path), hints)
    wanted = lookup.adapter("keras").wrap(whole).predict(asked(whole, kind))
    answer = lookup.adapter("keras").wrap(trained).predict(arrays)
    assert answer.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(answer[name], values, atol=1e-6)
    folder = tmp_path / "package"
    (folder / "variants").mkdir(parents=True)
    variant = lookup.adapter("keras").write(trained, folder)
    assert variant.path == "model.h5"
    again = lookup.adapter("keras").load(folder, variant, trained.signature, trust=False).predict(arrays)
    assert all(np.array_equal(again[name], values) for name, values in answer.items())
    assert optimise(trained, arrays, folder, fallback=variant, batches=(1,)).serving in COMPILED


def described_as(path: Path, config: Any) -> Path:
    """An HDF5 file with another description."""
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return path


def test_a_file_of_keras_2_names_no_modules(tmp_path):
    path = older("pictures", tmp_path)
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
    for layer in config["config"]["layers"]:
        layer.pop("module", None)
        layer.pop("registered_name", None)
        for name, value in list(layer["config"].items()):
            if isinstance(value, dict) and "class_name" in value:
                plain = {"class_name": value["class_name"], "config": value["config"]}
                layer["config"][name] = "float32" if name == "dtype" else plain
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_input_shape"] = layer["config"].pop("batch_shape")
    answer = lookup.adapter("keras").wrap(read(described_as(path, config))).predict(networks.rows("pictures"))
    wanted = networks.network("pictures").predict(networks.rows("pictures")["picture"], verbose=0)
    np.testing.assert_allclose(answer[PROBABILITIES], wanted, atol=1e-6)


def test_code_in_an_older_file_asks_for_trust(tmp_path):
    with pytest.raises(ArtifactUntrusted, match="Lambda"):
        read(older("lambda", tmp_path))
    marker = tmp_path / "ran"
    layer = {"class_name": "Lambda", "config": {"name": "x", "function": ["4wEAAAA=", None, None]}}
    evil = {"class_name": "os.system", "config": {"command": f"touch {marker}"}}
    foreign = {"class_name": "Thing", "module": "os", "registered_name": None, "config": {}}
    for added in (layer, evil, foreign):
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": [added]}}
        with pytest.raises(ArtifactUntrusted):
            read(described_as(older("value", tmp_path), config))
    assert not marker.exists()


def test_an_older_file_of_anybodys_class_says_what_to_do(tmp_path):
    config = {
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [{"class_name": "Mine", "config": {}}]},
    }
    with pytest.raises(ArtifactUnreadable, match="SavedModel"):
        read(described_as(older("value", tmp_path), config))


@pytest.mark.parametrize("kind", ["external", "soft", "dataset"])
def test_an_older_file_that_points_elsewhere_is_refused(kind, tmp_path):
    path = older("value", tmp_path)
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(path, "r+") as file:
        if kind == "external":
            file["model_weights/more"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        elif kind == "soft":
            file["model_weights/more"] = h5py.SoftLink("/model_weights")
        else:
            file.create_dataset("w", (16,), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(ArtifactUnreadable, match="lies elsewhere"):
        read(path)


def test_older_files_that_are_no_model_are_refused_with_the_way_out(tmp_path):
    weights = tmp_path / "w.weights.h5"
    networks.network("value").save_weights(weights)
    with pytest.raises(ArtifactUnsupported, match=r"weights alone.*as \.keras"):
        read(weights)
    with pytest.raises(ArtifactUnsupported, match=r"rename it to model\.h5"):
        read(shutil.move(weights, tmp_path / "model.keras"))
    whole = older("value", tmp_path).read_bytes()
    for name, data in (
        ("cut.h5", whole[: len(whole) // 2]),
        ("none.h5", b"nothing of it"),
        ("empty.h5", b""),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArtifactUnreadable):
            read(tmp_path / name)


def test_a_graph_that_writes_files_asks_for_trust_and_writes_nothing_before(tmp_path):
    marker, folder = tmp_path / "marker", tmp_path / "writer"
    writer = networks.Writer(marker)
    networks.tf.saved_model.save(writer, str(folder), signatures={"serving_default": writer.__call__})
    with pytest.raises(ArtifactUntrusted, match="WriteFile"):
        read(folder, Hints())
    assert not marker.exists()
    trained = read(folder, Hints(), trust=True)
    assert trained.options["executes"] is True
    answer = lookup.adapter("tensorflow").wrap(trained).predict({"x": np.ones((2, 4), np.float32)})
    assert (answer["y"] == 2).all()
    assert marker.read_text() == "run"


def tabled(folder: Path, words: Path, *, hidden: bool) -> Path:
    """A SavedModel that looks words up in a file, which is among its own assets, or anywhere."""
    tf = networks.tf
    module = tf.Module()
    if hidden:
        module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        path = str(words)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def find(word: Any) -> Any:
            table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
            tf.raw_ops.InitializeTableFromTextFileV2(
                table_handle=table, filename=path, key_index=-2, value_index=-1
            )
            return {"place": tf.raw_ops.LookupTableFindV2(table_handle=table, keys=word, default_value=-1)}
    else:
        lines, whole = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
        filled = tf.lookup.TextFileInitializer(str(words), tf.string, whole, tf.int64, lines)
        module.table = tf.lookup.StaticHashTable(filled, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def find(word: Any) -> Any:
            return {"place": module.table.lookup(word)}

    module.find = find
    tf.saved_model.save(module, str(folder), signatures={"serving_default": find})
    return folder


def test_words_are_looked_up_in_the_models_own_files_only(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("cat\ndog\n")
    trained = read(tabled(tmp_path / "own", words, hidden=False), Hints())
    package = tmp_path / "package"
    package.mkdir()
    variant = lookup.adapter("tensorflow").write(trained, package)
    loaded = lookup.adapter("tensorflow").load(package, variant, trained.signature, trust=False)
    given = {"word": np.array(["dog", "cow"], dtype=object)}
    assert loaded.predict(given)["place"].tolist() == [1, -1]
    with pytest.raises(ArtifactUntrusted, match="TextFile"):
        read(tabled(tmp_path / "any", words, hidden=True), Hints())


def test_a_fixed_number_of_rows_is_refused_with_the_way_out(tmp_path):
    @networks.tf.function(input_signature=[networks.tf.TensorSpec([1, 4], networks.tf.float32, name="x")])
    def double(x: Any) -> Any:
        return {"y": x * 2.0}

    module = networks.tf.Module()
    module.double = double
    networks.tf.saved_model.save(module, str(tmp_path / "one"), signatures={"serving_default": double})
    with pytest.raises(ArtifactUnsupported, match="exactly 1 rows"):
        read(tmp_path / "one", Hints())


def test_a_folder_without_the_signature_that_serves_is_refused(tmp_path):
    networks.tf.saved_model.save(networks.tf.Module(), str(tmp_path / "none"))
    with pytest.raises(ArtifactUnsupported, match="serving_default"):
        read(tmp_path / "none", Hints())


def test_lost_weights_are_one_clear_sentence(tmp_path):
    path = networks.exported("logits", tmp_path)
    shutil.rmtree(path / "variables")
    with pytest.raises(ArtifactUnreadable, match=r"incomplete") as said:
        read(path)
    assert "\n" not in said.value.message


@pytest.mark.parametrize(
    ("name", "kind", "breakable"), [("keras", "pictures", ""), ("tensorflow", "pictures", "saved_model.pb")]
)
def test_the_seam(name, kind, breakable, tmp_path):
    path = MAKERS[name](kind, tmp_path)
    folder = tmp_path / "work"
    folder.mkdir()
    specimen = Specimen(path, networks.rows(kind), hints=THREE, breakable=breakable)
    check_adapter(lookup.adapter(name), specimen, folder)
