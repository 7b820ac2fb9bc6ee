"""Folders of transformers from disk to answers over the wire, compiled and not."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")
transformers = pytest.importorskip(
    "transformers", reason="needs the extra transformers; make test-all has it"
)

import servable
from all import folders
from all.serving import COMPILED
from all.wire import maps_of, over_grpc, over_http
from e2e.conftest import running_server
from servable.artifact.package import open_package
from servable.artifact.preparation import ImageInput
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, ArtifactUntrusted
from servable.frameworks.lookup import adapter, framework_of
from servable.tensors import STRINGS
from servable.testing import check_adapter
from servable.testing.adapters import Specimen

pytestmark = pytest.mark.frameworks

TEXTS = [
    "the quick fox",
    "Anna works for the post office in Paris",
    "",
    "\u4e2d\u6587 \U0001f600 caf\u00e9",
    "jugs " * 60,
]
PICTURES = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)


def asked(folder: Path, kind: Any) -> list[Any]:
    """What transformers itself answers to each text alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = kind.from_pretrained(folder, local_files_only=True).eval()
    found = []
    for text in TEXTS:
        given = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            found.append((given, model(**given)))
    return found


def strings(texts: list[str]) -> Any:
    return np.array(texts, dtype=object).reshape(-1, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_task_answers_like_transformers_over_http_and_grpc(tmp_path: Path, home: Path) -> None:
    makers = {
        "sentiment": folders.sequence_classifier,
        "names": folders.token_classifier,
        "vectors": folders.embedder,
        "writer": folders.generator,
        "pictures": folders.picture_classifier,
    }
    kept = {name: make(tmp_path / name) for name, make in makers.items()}
    for name, folder in kept.items():
        outcome = servable.add(folder, name=name, deploy=True, home=home)
        assert outcome.serving in (("trained",) if name == "writer" else COMPILED), outcome.variants
    servable.add(kept["sentiment"], name="slow", tolerance=-1.0, deploy=True, home=home)
    rows = [{"text": text} for text in TEXTS]
    # Loaded when they are first called, so that a busy machine does not load all of them at once.
    with running_server(home, "--memory", "64GiB", "--request-timeout", "300") as url:
        wanted = [
            out.logits.softmax(-1)[0]
            for _, out in asked(kept["sentiment"], transformers.AutoModelForSequenceClassification)
        ]
        for name in ("sentiment", "slow"):
            body = over_http(url, name, rows)
            shares = [[row[label] for label in ("bad", "fair", "good")] for row in body["probabilities"]]
            np.testing.assert_allclose(shares, np.stack(wanted), atol=1e-5)
            found = over_grpc(url, name, {"text": strings(TEXTS)}, "probabilities")
            np.testing.assert_allclose(found, np.stack(wanted), atol=1e-5)
        found = over_grpc(url, "vectors", {"text": strings(TEXTS)}, "embedding")
        means = [
            out.last_hidden_state[0].mean(0) for _, out in asked(kept["vectors"], transformers.AutoModel)
        ]
        np.testing.assert_allclose(found, np.stack(means), atol=1e-4)
        check_generated(url, kept["writer"])
        check_pictures(url, kept["pictures"])
        body = over_http(url, "names", [{"text": "Anna lives in Paris"}])
        (answer,) = body["predictions"] if "predictions" in body else [body["outputs"]["entities"][0]]
        found_entities = json.loads(answer if isinstance(answer, str) else answer["entities"])
        assert all("Anna lives in Paris"[e["start"] : e["end"]] == e["text"] for e in found_entities)
        # Only the one that generates and the one that is kept from its compiled form have PyTorch in memory.
        assert sum("libtorch" in held for held in maps_of(url).values()) == 2


def check_generated(url: str, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    texts = TEXTS[:2]
    wanted = []
    for text in texts:
        given = tokenizer(text, return_tensors="pt")
        made = model.generate(
            given.input_ids, attention_mask=given.attention_mask, max_new_tokens=8, do_sample=False
        )
        wanted.append(tokenizer.decode(made[0, given.input_ids.shape[1] :], skip_special_tokens=True))
    with httpx.stream(
        "POST",
        f"{url}/models/writer/predict",
        json={"input": {"text": texts[0]}},
        headers={"accept": "text/event-stream"},
        timeout=300,
    ) as streamed:
        events = [line for line in streamed.iter_lines() if line.startswith("data:")]
    assert streamed.status_code == 200
    assert len(events) > 1
    found = over_grpc(url, "writer", {"text": strings(texts)}, "generated_text")
    assert [each.decode() for each in found.ravel().tolist()] == wanted


def check_pictures(url: str, folder: Path) -> None:
    model = transformers.AutoModelForImageClassification.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        wanted = model(torch.from_numpy(PICTURES)).logits.softmax(-1).numpy()
    np.testing.assert_allclose(
        over_grpc(url, "pictures", {"image": PICTURES}, "probabilities"), wanted, atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (folders.sequence_classifier, {STRINGS: strings(TEXTS)}),
        (folders.token_classifier, {STRINGS: strings(TEXTS)}),
        (folders.embedder, {STRINGS: strings(TEXTS)}),
        (folders.generator, {STRINGS: strings(TEXTS)}),
        (folders.picture_classifier, {"image": PICTURES}),
    ],
)
def test_the_seam_is_kept(tmp_path: Path, make: Any, rows: Any) -> None:
    folder = make(tmp_path / "model")
    assert framework_of(folder) == "transformers"
    work = tmp_path / "work"
    work.mkdir()
    held = {name: array.copy() for name, array in rows.items()}
    check_adapter(adapter("transformers"), Specimen(folder, held, breakable="model.safetensors"), work)


def test_pieces_of_a_generated_text_are_the_whole_text(tmp_path: Path) -> None:
    trained = adapter("transformers").read(folders.generator(tmp_path / "m"), sample=None, trust=False)
    predictor: Any = adapter("transformers").wrap(trained)
    together = predictor.predict({STRINGS: strings(TEXTS)})["generated_text"]
    for text, whole in zip(TEXTS, together, strict=True):
        pieces = [piece["generated_text"][0] for piece in predictor.stream({STRINGS: strings([text])})]
        assert "".join(pieces) == whole
        assert len(pieces) > 1 or len(whole.split()) < 2
    begun = predictor.stream({STRINGS: strings(TEXTS[:1])})
    next(begun)
    begun.close()
    assert not torch.is_inference_mode_enabled()


def test_entities_join_tokens_of_one_label(tmp_path: Path) -> None:
    trained = adapter("transformers").read(folders.token_classifier(tmp_path / "m"), sample=None, trust=False)
    (said,) = adapter("transformers").wrap(trained).predict({STRINGS: strings(TEXTS[1:2])})["entities"]
    ((given, out),) = asked(tmp_path / "m", transformers.AutoModelForTokenClassification)[1:2]
    labels = [trained.options["labels"][best] for best in out.logits[0].argmax(-1).tolist()[1:-1]]
    found = json.loads(said)
    assert {entry["entity"] for entry in found} == {label[2:] for label in labels if label != "O"}
    assert sum(len(entry["text"]) for entry in found) <= len(TEXTS[1])
    assert given.input_ids.shape[1] == len(labels) + 2


def test_the_description_of_pictures_is_followed(tmp_path: Path) -> None:
    trained = adapter("transformers").read(
        folders.picture_classifier(tmp_path / "m"), sample=None, trust=False
    )
    preparation = trained.signature.inputs[0].preparation
    assert isinstance(preparation, ImageInput)
    assert (preparation.shape, preparation.fit, preparation.mean) == ((3, 16, 16), "stretch", (0.5, 0.5, 0.5))


def test_a_picture_is_prepared_as_transformers_would(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="needs the extra image; make test-all has it")
    from servable.inputs.image import prepare

    folder = folders.picture_classifier(tmp_path / "m")
    trained = adapter("transformers").read(folder, sample=None, trust=False)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    picture = pillow.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    # The one that works with Pillow: the other needs torchvision, and says so.
    processor = transformers.ViTImageProcessorPil.from_pretrained(folder, local_files_only=True)
    wanted = processor(picture, return_tensors="np")["pixel_values"][0]
    found = prepare((tmp_path / "a.png").read_bytes(), trained.signature.inputs[0].preparation)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_code_of_a_folder_is_never_run(tmp_path: Path) -> None:
    folder, marker = folders.embedder(tmp_path / "m"), tmp_path / "marker"
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["OwnModelForThings"], "auto_map": {"AutoModel": "own.OwnModelForThings"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactUnsupported, match="auto_map"):
        adapter("transformers").read(folder, sample=None, trust=True)
    assert not marker.exists()


class Evil:
    """A pickle of this makes a file when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_weights_in_a_pickle_that_executes_are_not_opened(tmp_path: Path) -> None:
    folder, marker = folders.embedder(tmp_path / "m"), tmp_path / "marker"
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil(marker)}, folder / "pytorch_model.bin")
    with pytest.raises((ArtifactUntrusted, ArtifactUnreadable)):
        adapter("transformers").read(folder, sample=None, trust=True)
    assert not marker.exists()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = folders.sequence_classifier(tmp_path / "m")
    kept = load_file(folder / "model.safetensors")
    save_file(
        {name: each for name, each in kept.items() if not name.startswith("classifier")},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ArtifactUnreadable, match=r"lack 2 tensors.*classifier"):
        adapter("transformers").read(folder, sample=None, trust=False)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactUnreadable, match=r"model\.safetensors"):
        adapter("transformers").read(folder, sample=None, trust=False)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ArtifactUnsupported, match="architectures"):
        adapter("transformers").read(folder, sample=None, trust=False)


def test_labels_of_the_folder_can_be_given_other_names(tmp_path: Path) -> None:
    from servable.frameworks.base import Hints

    folder = folders.sequence_classifier(tmp_path / "m")
    trained = adapter("transformers").read(
        folder, sample=None, trust=False, hints=Hints(labels=("schlecht", "mittel", "gut"))
    )
    assert trained.signature.classes == ("schlecht", "mittel", "gut")


def test_the_package_holds_all_that_it_needs(tmp_path: Path, home: Path) -> None:
    outcome = servable.add(folders.sequence_classifier(tmp_path / "m"), name="m", home=home)
    package = open_package(Path(outcome.package))
    names = {entry.path for entry in package.manifest.files}
    assert {"model/config.json", "model/tokenizer.json", "variants/onnx-fp32.tokenizer.json"} <= names
