"""Files that a CSV names, and texts in folders, as rows with true answers for a largest loss."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import servable
from inputs.models import LABELS, PICTURES, SIDE, network
from inputs.pictures import saved
from servable.artifact.preparation import ImageInput
from servable.artifact.sample import read_sample, read_truth
from servable.errors import DataError, FileMissing, SettingInvalid
from servable.inputs.image import prepare
from servable.workflows.hints import hints_of
from servable.workflows.outcomes import AddOutcome

HOW = ImageInput(width=SIDE, height=SIDE, fit="cover")
#: Of every three pictures one has each colour; each twentieth is named wrongly.
COUNT = 90
_HIDDEN = 24


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Tells which colour a picture has most of, by two layers with weights enough to be quantised."""
    channel = np.repeat(np.arange(3), SIDE * SIDE)
    unit = np.arange(_HIDDEN) % 3
    first = (channel[:, None] == unit[None, :]).astype(np.float32) / (SIDE * SIDE)
    second = 4 * (unit[:, None] == np.arange(3)[None, :]).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("MatMul", ["positive", "second"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    taken, given = ("pixels", [None, 3, SIDE, SIDE]), ("logits", [None, 3])
    (tmp_path / "net.toml").write_text(f'scores = "logits"\n{PICTURES}')
    return network(tmp_path / "net.onnx", nodes, taken, given, constants)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A CSV of paths with the colour beside each, and who took the picture."""
    generator = np.random.default_rng(3)
    lines = ["file,colour,taken_by"]
    (tmp_path / "shots").mkdir()
    for place in range(COUNT):
        pixels = generator.integers(0, 120, (12, 12, 3), dtype=np.uint8)
        pixels[:, :, place % 3] += 100
        (tmp_path / "shots" / f"{place}.png").write_bytes(saved(Image.fromarray(pixels), "PNG"))
        lines.append(f"shots/{place}.png,{LABELS[(place + (place % 20 == 0)) % 3]},{place % 2}")
    path = tmp_path / "index.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def colours_of(index: Path) -> list[str]:
    return [str(label) for label in pd.read_csv(index)["colour"]]


def taken_in(net: Path, sample: Path, home: Path, **more: object) -> AddOutcome:
    hints = hints_of(net.parent / "net.toml", labels=",".join(LABELS))
    return servable.add(net, name="pets", sample=sample, hints=hints, home=home, **more)


def test_a_csv_of_paths_brings_rows_and_answers_for_a_largest_loss(
    net: Path, index: Path, home: Path
) -> None:
    outcome = taken_in(net, index, home, target="colour", max_loss="accuracy=0.05")
    losses = {row.name: row.loss for row in outcome.variants if row.loss is not None}
    loss = losses["onnx-int8-dynamic"]
    assert (loss.metric, loss.rows) == ("accuracy", COUNT - COUNT // 5)
    assert loss.trained == pytest.approx(0.95, abs=0.03)
    truth = read_truth(Path(outcome.package))
    assert truth is not None
    assert [LABELS[place] for place in truth] == colours_of(index)
    kept = read_sample(Path(outcome.package))["image"]
    wanted = prepare((index.parent / "shots" / "7.png").read_bytes(), HOW)
    np.testing.assert_array_equal(kept[7], wanted)


def test_a_csv_of_paths_is_taken_when_a_model_is_compiled_anew(net: Path, index: Path, home: Path) -> None:
    taken_in(net, index.parent / "shots", home)
    with pytest.raises(DataError, match="true answers are known"):
        servable.optimize("pets", max_loss="accuracy=0.05", home=home)
    with pytest.raises(DataError, match=r"Say which column of index\.csv is the label"):
        servable.optimize("pets", sample=index, max_loss="accuracy=0.05", home=home)
    again = servable.optimize("pets", sample=index, target="colour", max_loss="accuracy=0.05", home=home)
    assert {row.name for row in again.variants if row.loss is not None} >= {"onnx-int8-dynamic"}
    assert read_truth(Path(servable.describe("pets", home=home).package)) is not None
    measured = servable.evaluate("pets", index, target="colour", home=home)
    assert measured.rows == COUNT
    assert measured.metrics["accuracy"] == pytest.approx(0.95, abs=0.03)


def test_a_csv_of_paths_needs_no_label_where_nothing_is_measured(net: Path, index: Path, home: Path) -> None:
    bare = index.with_name("bare.csv")
    pd.read_csv(index)[["file"]].to_csv(bare, index=False)
    outcome = taken_in(net, bare, home)
    assert len(read_sample(Path(outcome.package))["image"]) == COUNT
    assert read_truth(Path(outcome.package)) is None


def test_what_a_csv_names_wrongly_is_told_in_one_sentence(net: Path, index: Path, home: Path) -> None:
    text = index.read_text()
    index.write_text(text.replace("shots/4.png,green", "shots/4.png,pink"))
    with pytest.raises(DataError, match=r"the class 'pink', which the model does not know"):
        taken_in(net, index, home, target="colour", max_loss="accuracy=0.05")
    index.write_text(text.replace("shots/4.png", "shots/none.png"))
    with pytest.raises(FileMissing, match=r"Line 6 of index\.csv names shots/none\.png"):
        taken_in(net, index, home)
    index.write_text(text)
    (index.parent / "shots" / "4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"4\.png does not fit"):
        taken_in(net, index, home)
    with pytest.raises(SettingInvalid, match="rmse"):
        taken_in(net, index, home, target="colour", max_loss="rmse=1")
    assert not home.exists() or servable.models(home=home) == ()


def test_a_table_with_a_column_of_paths_stays_a_table_for_other_models(index: Path, home: Path) -> None:
    frame = pd.DataFrame(
        {"file": ["a.png", "b.png"] * 20, "taken_by": [0, 1] * 20, "colour": ["x", "y"] * 20}
    )
    servable.train(
        frame,
        target="colour",
        name="who",
        model="logistic",
        time_budget_s=0.1,
        home=home,
        kinds={"file": "category"},
    )
    rows = pd.read_csv(index)[["file", "taken_by"]]
    rows.to_csv(index, index=False)
    outcome = servable.optimize("who", sample=index, home=home)
    assert outcome.rows_compared >= COUNT


def test_texts_in_folders_are_a_labelled_sample(tmp_path: Path, home: Path) -> None:
    words = {"up": ("good", "fine", "lovely"), "down": ("bad", "sad", "awful")}
    rows = [(label, f"{word} day {place}") for label in words for word in words[label] for place in range(12)]
    for place, (label, text) in enumerate(rows):
        (tmp_path / "talk" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "talk" / label / f"{place}.txt").write_text(text)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
        [text for _, text in rows], [label for label, _ in rows]
    )
    servable.add(model, name="moods", home=home)
    outcome = servable.optimize("moods", sample=tmp_path / "talk", max_loss="accuracy=0.1", home=home)
    assert outcome.serving == "text"
    truth = read_truth(Path(servable.describe("moods", home=home).package))
    assert truth is not None
    assert truth.tolist() == [0] * 36 + [1] * 36
