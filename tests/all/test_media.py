"""Pictures and sounds from ordinary folders and files to a served model."""

import csv
import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import servable
from all.serving import COMPILED
from servable.errors import DataError, FileMissing, SettingInvalid

pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")
Image = pytest.importorskip("PIL.Image", reason="needs the extra image; make test-all has it")
soundfile = pytest.importorskip("soundfile", reason="needs the extra audio; make test-all has it")

from servable.training.tasks import media

pytestmark = pytest.mark.frameworks


def digits(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Small pictures of digits as uint8 ``[n, 8, 8]``, and what they show."""
    found = load_digits()
    return (found.images[:count] * 15.9).astype(np.uint8), found.target[:count]


def png(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def idx(array: np.ndarray) -> bytes:
    return (
        b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
    )


def tone(hertz: float, seconds: float, seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    at = np.arange(int(8000 * seconds)) / 8000
    sound = 0.5 * np.sin(2 * np.pi * hertz * at) + 0.02 * generator.normal(size=len(at))
    written = io.BytesIO()
    soundfile.write(written, sound, 8000, format="WAV", subtype="PCM_16")
    return written.getvalue()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Digits in folders of classes."""
    for place, (pixels, label) in enumerate(zip(*digits(), strict=True)):
        folder = tmp_path / "digits" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place}.png").write_bytes(png(pixels))
    return tmp_path / "digits"


def test_every_form_of_pictures_gives_the_same_rows(folders: Path, tmp_path: Path):
    pixels, truth = digits()
    as_text = [str(label) for label in truth]
    np.savez(tmp_path / "digits.npz", x=pixels, y=truth)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(truth.astype(np.uint8))))
    with (tmp_path / "digits.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "label"])
        table.writerows([f"digits/{label}/{place}.png", label] for place, label in enumerate(as_text))
    forms = ["digits.npz", "train-images-idx3-ubyte.gz", "digits.csv", "digits"]
    for form in forms:
        assert media.is_media(tmp_path / form), form
        found = media.read(tmp_path / form).train
        shown = {
            name: np.asarray(Image.open(io.BytesIO(data)))
            for name, data in zip(found.names, found.files, strict=True)
        }
        if form != "digits":
            assert list(found.labels) == as_text
            assert all(
                np.array_equal(given, wanted) for given, wanted in zip(shown.values(), pixels, strict=True)
            )
        assert sorted(found.labels) == sorted(as_text)


def test_data_that_set_rows_aside_are_measured_on_them(tmp_path: Path):
    pixels, truth = digits(100)
    for name, part in (("train", slice(0, 80)), ("t10k", slice(80, 100))):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(pixels[part]))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(truth[part].astype(np.uint8)))
    found = media.read(tmp_path)
    assert found.holdout is not None
    assert (len(found.train.files), len(found.holdout.files)) == (80, 20)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train-images-idx3-ubyte", b"\x00\x00\x08\x03" + b"\x00" * 8, "no IDX file"),
        (
            "train-images-idx3-ubyte",
            struct.pack(">4B3i", 0, 0, 8, 3, 9, 8, 8) + b"\x00" * 10,
            "says that it holds",
        ),
        ("train-images-idx3-ubyte", struct.pack(">4B3i", 0, 0, 8, 3, -1, 8, 8), "says that it holds"),
        ("train-images-idx3-ubyte.gz", b"\x1f\x8b\x08\x00broken", "damaged"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    (tmp_path / name.replace("images-idx3", "labels-idx1")).write_bytes(idx(np.zeros(9, np.uint8)))
    with pytest.raises(DataError, match=said):
        media.read(tmp_path / name)


def test_what_cannot_be_learned_from_is_told_in_one_sentence(tmp_path: Path):
    with pytest.raises(FileMissing, match="nowhere"):
        media.read(tmp_path / "nowhere")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    (tmp_path / "one" / "cat" / "a.png").write_bytes(png(digits(1)[0][0]))
    with pytest.raises(DataError, match="two or more"):
        media.read(tmp_path / "one")
    (tmp_path / "one" / "dog").mkdir()
    (tmp_path / "one" / "dog" / "a.wav").write_bytes(tone(440, 0.1, 0))
    with pytest.raises(DataError, match="both pictures and sounds"):
        media.read(tmp_path / "one")
    np.savez(tmp_path / "floats.npz", x=np.zeros((5, 8, 8)), y=np.arange(5))
    with pytest.raises(DataError, match="uint8"):
        media.read(tmp_path / "floats.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="no npz"):
        media.read(tmp_path / "broken.npz")
    (tmp_path / "foreign.csv").write_bytes(
        "file,label\none/cat/a.png,a\none/cat/a.png,Käse\n".encode("cp1252")
    )
    with pytest.raises(DataError, match="UTF-8"):
        media.read(tmp_path / "foreign.csv")
    (tmp_path / "gone.csv").write_text("file,label\none/cat/a.png,a\none/cat/b.png,b\n")
    with pytest.raises(FileMissing, match="Line 3"):
        media.read(tmp_path / "gone.csv")


def test_a_file_that_is_no_picture_is_named(folders: Path, tmp_path: Path):
    (folders / "0" / "0.png").write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r"0/0\.png is no picture"):
        servable.train(folders, name="digits", home=tmp_path / "home")


def test_digits_are_learned_and_asked_for_by_a_picture(folders: Path, tmp_path: Path):
    home = tmp_path / "home"
    outcome = servable.train(folders, name="digits", model="linear", home=home, time_budget_s=20, deploy=True)
    assert outcome.metrics["accuracy"] >= 0.85
    assert outcome.serving in COMPILED
    described = servable.describe("digits", home=home)
    assert [field.kind for field in described.signature.inputs] == ["image"]
    measured = servable.evaluate("digits", folders, home=home)
    assert measured.rows == 400
    assert measured.metrics["accuracy"] >= outcome.metrics["accuracy"]


def test_the_network_learns_digits_and_leaves_the_global_random_state_alone(folders: Path, tmp_path: Path):
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state()
    outcome = servable.train(
        folders, name="digits", model="network", home=tmp_path / "home", time_budget_s=40
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert outcome.metrics["accuracy"] >= 0.8
    assert "learning" in Path(outcome.report).read_text().lower()


def test_tones_are_told_apart(tmp_path: Path):
    for label, hertz in (("low", 300.0), ("middle", 900.0), ("high", 2400.0)):
        folder = tmp_path / "tones" / label
        folder.mkdir(parents=True)
        for take in range(20):
            (folder / f"{take}.wav").write_bytes(tone(hertz * (1 + 0.01 * take), 0.2 + 0.01 * take, take))
    board = servable.select(tmp_path / "tones", models=["linear", "kernel"], time_budget_s=20)
    best = board.entries[0]
    assert best.score == 1.0
    assert best.served_us_per_row is not None
    assert {entry.name for entry in board.entries} == {"dummy", "linear", "kernel"}
    home = tmp_path / "home"
    servable.train(tmp_path / "tones", name="tones", model="linear", home=home, time_budget_s=20)
    found = servable.evaluate("tones", tmp_path / "tones", minimums={"accuracy": 0.95}, home=home)
    assert (found.rows, found.passed, found.classes) == (60, True, ("high", "low", "middle"))
    (tmp_path / "tones" / "low" / "0.wav").rename(tmp_path / "tones" / "low" / "broken.wav")
    (tmp_path / "tones" / "low" / "broken.wav").write_bytes(tone(300, 0.2, 0)[:40])
    with pytest.raises(DataError, match=r"low/broken\.wav"):
        servable.evaluate("tones", tmp_path / "tones", home=home)


def test_a_family_that_does_not_exist_is_named(folders: Path, tmp_path: Path):
    with pytest.raises(SettingInvalid, match="network"):
        servable.train(folders, name="digits", model="forest", home=tmp_path / "home")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("data", "target", "least"),
    [("fashion_mnist", None, 0.88), ("spoken_digits/index.csv", "digit", 0.98)],
)
def test_real_data_are_learned_well(
    shared_data: Path, tmp_path: Path, data: str, target: str | None, least: float
):
    outcome = servable.train(shared_data / data, name="real", target=target, home=tmp_path / "home")
    print(data, outcome.estimator, outcome.metrics["accuracy"], f"{outcome.seconds:.0f} s")
    assert outcome.metrics["accuracy"] >= least
    assert outcome.seconds < 300
