"""Measuring models on pictures and texts as people keep them; what does not fit is told in one sentence."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

import servable
from inputs.models import LABELS, PICTURES, SIDE, colours, logits_of
from inputs.pictures import saved
from servable.artifact.preparation import ImageInput
from servable.errors import DataError, FileMissing, SettingInvalid
from servable.inputs.image import prepare
from servable.testing import RecordedProgress
from servable.workflows.hints import hints_of

HOW = ImageInput(width=SIDE, height=SIDE, fit="cover")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``pets``, which names the colour of a picture, and ``moods``, which names that of a text."""
    folder: Path = tmp_path_factory.mktemp("measured")
    (folder / "net.toml").write_text(f'scores = "logits"\n{PICTURES}')
    hints = hints_of(folder / "net.toml", labels=",".join(LABELS))
    servable.add(colours(folder), name="pets", hints=hints, home=folder / "home")
    texts = ["good day", "good night", "so good", "bad day", "bad night", "so bad"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["up"] * 3 + ["down"] * 3)
    joblib.dump(model, folder / "moods.joblib")
    servable.add(folder / "moods.joblib", name="moods", trust=True, home=folder / "home")
    return folder / "home"


def tinted(count: int = 8) -> tuple[Any, list[str]]:
    """Pictures uint8 ``[n, 12, 20, 3]`` that mostly have one colour, and its name; some are named wrongly."""
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 120, (3 * count, 12, 20, 3), dtype=np.uint8)
    labels = []
    for row in range(3 * count):
        pixels[row, :, :, row % 3] += 100
        labels.append(LABELS[(row + (row % 5 == 0)) % 3])
    return pixels, labels


def expected(files: list[bytes], labels: list[str]) -> Any:
    """The confusion that the network itself gives."""
    answers = logits_of(np.stack([prepare(each, HOW) for each in files])).argmax(axis=1)
    counts = np.zeros((3, 3), int)
    for label, answer in zip(labels, answers, strict=True):
        counts[LABELS.index(label), answer] += 1
    return counts


def in_folders(root: Path, files: list[bytes], labels: list[str], ending: str = "png") -> Path:
    for place, (data, label) in enumerate(zip(files, labels, strict=True)):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{place}.{ending}").write_bytes(data)
    return root


def test_every_form_of_pictures_is_measured_as_the_model_answers(home: Path, tmp_path: Path) -> None:
    pixels, labels = tinted()
    files = [saved(Image.fromarray(each), "PNG") for each in pixels]
    wanted = expected(files, labels)
    assert 0 < np.trace(wanted) < len(labels)
    folder = in_folders(tmp_path / "folder", files, labels)
    np.savez(tmp_path / "arrays.npz", x=pixels, y=np.array(labels))
    rows = [f"folder/{label}/{place}.png,{label},{place}\n" for place, label in enumerate(labels)]
    (tmp_path / "index.csv").write_text("file,prediction,taken\n" + "".join(rows))
    for data in (folder, tmp_path / "arrays.npz", tmp_path / "index.csv"):
        progress = RecordedProgress()
        target = "prediction" if data.suffix == ".csv" else None
        found = servable.evaluate("pets", data, target=target, home=home, progress=progress)
        assert (found.model, found.version, found.rows) == ("pets", 1, 24)
        assert found.classes == LABELS
        np.testing.assert_array_equal(found.confusion, wanted)
        assert found.metrics["accuracy"] == pytest.approx(np.trace(wanted) / 24)
        assert {"precision_macro", "recall_macro", "f1_macro", "log_loss"} <= set(found.metrics)
        assert progress.stages[1][:3] == ("Answer all rows", 24, 24)


def test_jpegs_are_measured_as_they_are_sent(home: Path, tmp_path: Path) -> None:
    pixels, labels = tinted(4)
    files = [saved(Image.fromarray(each).resize((90, 50)), "JPEG", quality=60) for each in pixels]
    found = servable.evaluate("pets", in_folders(tmp_path / "f", files, labels, "jpg"), home=home)
    np.testing.assert_array_equal(found.confusion, expected(files, labels))


def test_what_the_data_set_aside_is_measured(home: Path, tmp_path: Path) -> None:
    pixels, labels = tinted(4)
    files = [saved(Image.fromarray(each), "PNG") for each in pixels]
    in_folders(tmp_path / "data" / "train", files, labels)
    in_folders(tmp_path / "data" / "test", files[:5], labels[:5])
    found = servable.evaluate("pets", tmp_path / "data", home=home)
    np.testing.assert_array_equal(found.confusion, expected(files[:5], labels[:5]))


def test_one_class_and_few_files_are_enough(home: Path, tmp_path: Path) -> None:
    red = saved(Image.new("RGB", (9, 9), (250, 3, 3)), "PNG")
    found = servable.evaluate("pets", in_folders(tmp_path / "f", [red], ["red"]), home=home)
    assert (found.rows, found.metrics["accuracy"]) == (1, 1.0)


def test_the_gate_and_the_report(home: Path, tmp_path: Path) -> None:
    pixels, labels = tinted()
    folder = in_folders(tmp_path / "f", [saved(Image.fromarray(each), "PNG") for each in pixels], labels)
    report = tmp_path / "report.html"
    found = servable.evaluate("pets", folder, minimums={"accuracy": 0.999}, report=report, home=home)
    assert not found.passed
    assert "accuracy" in found.failed[0]
    assert all(label in report.read_text() for label in LABELS)
    with pytest.raises(SettingInvalid, match="rmse"):
        servable.evaluate("pets", folder, minimums={"rmse": 1}, home=home)
    from servable.cli.main import app

    arguments = ["evaluate", "pets", str(folder), "--home", str(home), "--min", "accuracy=0.1"]
    said = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert said.exit_code == 0, said.stderr
    assert "Truth down, answers across" in said.stdout
    told = CliRunner().invoke(app, [*arguments, "--min", "accuracy=1", "--json"])
    assert told.exit_code == 5
    assert json.loads(told.stdout)["confusion"] == [list(row) for row in found.confusion]


def test_what_does_not_fit_is_told_in_one_sentence(home: Path, tmp_path: Path) -> None:
    red = saved(Image.new("RGB", (9, 9), (250, 3, 3)), "PNG")
    strange = in_folders(tmp_path / "strange", [red] * 3, ["red", "pink", "violet"])
    with pytest.raises(DataError, match=r"'pink', 'violet', which pets:1 does not know.*red, green, blue"):
        servable.evaluate("pets", strange, home=home)
    sounds = in_folders(tmp_path / "sounds", [b"RIFF"], ["red"], "wav")
    with pytest.raises(DataError, match=r"holds sounds, and pets:1 takes a picture"):
        servable.evaluate("pets", sounds, home=home)
    with pytest.raises(DataError, match=r"holds pictures, and moods:1 takes text"):
        servable.evaluate("moods", strange, home=home)
    broken = in_folders(tmp_path / "broken", [red[:50]], ["red"])
    with pytest.raises(DataError, match=r"red/0\.png"):
        servable.evaluate("pets", broken, home=home)
    with pytest.raises(FileMissing):
        servable.evaluate("pets", tmp_path / "nowhere", home=home)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        servable.evaluate("pets", tmp_path / "empty", home=home)


def test_idx_files_of_a_grey_model(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(f'scores = "logits"\n{PICTURES}invert = true\n')
    hints = hints_of(tmp_path / "net.toml", labels="0,1,2")
    servable.add(colours(tmp_path), name="grey", hints=hints, home=tmp_path / "home")
    pixels = np.zeros((6, 8, 8), np.uint8)
    head = struct.pack(">4B3i", 0, 0, 8, 3, *pixels.shape)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
    head = struct.pack(">4Bi", 0, 0, 8, 1, 6)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + bytes([0, 1, 2, 0, 1, 2])))
    found = servable.evaluate("grey", tmp_path / "t10k-images-idx3-ubyte.gz", home=tmp_path / "home")
    # A grey picture has no colour more than another, so every answer is the first label.
    assert found.confusion == ((2, 0, 0), (2, 0, 0), (2, 0, 0))


# ---------------------------------------------------------------------- texts


def test_texts_in_folders_of_classes_are_measured(home: Path, tmp_path: Path) -> None:
    texts = [("up", "good good"), ("up", "a bad one"), ("down", "bad"), ("down", "bad night, no good? bad")]
    for place, (label, text) in enumerate(texts):
        (tmp_path / "talk" / label).mkdir(parents=True, exist_ok=True)
        name = f"{place}.txt" if place % 2 else f"{place}"
        (tmp_path / "talk" / label / name).write_text(text, encoding="utf-8-sig")
    (tmp_path / "talk" / "up" / ".hidden").write_bytes(b"\xff")
    found = servable.evaluate("moods", tmp_path / "talk", home=home)
    table = pd.DataFrame(texts, columns=["label", "text"])
    same = servable.evaluate("moods", table, target="label", home=home)
    assert found.rows == 4
    assert (found.metrics, found.confusion) == (same.metrics, same.confusion)
    assert found.metrics["accuracy"] == 0.75


def test_texts_that_do_not_fit_are_told_in_one_sentence(home: Path, tmp_path: Path) -> None:
    (tmp_path / "talk" / "sideways").mkdir(parents=True)
    (tmp_path / "talk" / "sideways" / "1.txt").write_text("good")
    with pytest.raises(DataError, match=r"'sideways', which moods:1 does not know; its classes are down, up"):
        servable.evaluate("moods", tmp_path / "talk", home=home)
    with pytest.raises(DataError, match=r"holds texts by class, and pets:1 is a classification of image"):
        servable.evaluate("pets", tmp_path / "talk", home=home)
    (tmp_path / "talk" / "sideways" / "1.txt").write_bytes("Käse".encode("latin-1"))
    with pytest.raises(DataError, match=r"sideways/1\.txt of talk is no text in UTF-8"):
        servable.evaluate("moods", tmp_path / "talk", home=home)
