"""Scoring files whose rows hold pictures."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import servable
from inputs.models import LABELS, PICTURES, SIDE, colours, logits_of
from inputs.pictures import noise, saved
from servable.artifact.preparation import ImageInput
from servable.errors import DataError
from servable.inputs.image import prepare
from servable.workflows.hints import hints_of

FILES = [saved(noise(30, 20, seed), "PNG") for seed in range(12)]
HOW = ImageInput(width=SIDE, height=SIDE, fit="cover")
WANT = [LABELS[place] for place in logits_of(np.stack([prepare(data, HOW) for data in FILES])).argmax(axis=1)]


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pets")
    (folder / "net.toml").write_text(PICTURES)
    hints = hints_of(folder / "net.toml", labels=",".join(LABELS))
    servable.add(colours(folder), name="pets", hints=hints, home=folder / "home")
    return folder / "home"


def written(path: Path, files: list[Any]) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.table({"id": range(len(files)), "image": files}), path)
        return path
    rows = [{"id": row, "image": base64.b64encode(data).decode()} for row, data in enumerate(files)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_each_picture_is_answered_beside_its_row(pets: Path, tmp_path: Path, ending: str):
    source = written(tmp_path / f"rows{ending}", FILES)
    servable.score("pets", source, output=tmp_path / "out.jsonl", keep=["id"], home=pets)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in rows] == WANT
    assert [row["id"] for row in rows] == list(range(len(FILES)))


def test_a_picture_that_does_not_fit_stops_everything_with_its_row(pets: Path, tmp_path: Path):
    source = written(tmp_path / "rows.jsonl", [*FILES[:7], FILES[7][:80], *FILES[8:]])
    with pytest.raises(DataError, match=r"row 8.*whole picture|line 8.*whole picture"):
        servable.score("pets", source, output=tmp_path / "out.jsonl", home=pets)
    assert not (tmp_path / "out.jsonl").exists()
